"""How a Node app is installed and built: the steps that servers and front ends share."""

from __future__ import annotations

from typing import Final

import msgspec

from agent.builders.bases import Base
from agent.builders.local import seen
from agent.builders.node_manifests import Manifest
from agent.builders.plan import Cache, Copy, Env, Run, Step, Workdir
from agent.builders.stages import APP, build_packages


class _Manager(msgspec.Struct, frozen=True, kw_only=True):
    """What a package manager is told."""

    package: str = ""
    """Its own on the package index; empty: it comes with Node."""
    locked: str
    unlocked: str
    only_run: str = ""
    """Added to those where nothing is built; empty: what only a build needs is removed after it."""
    both: str = ""
    """Added to those where something is."""
    prune: tuple[str, ...]
    """Removes what only the build needed."""
    run: str
    cache: Cache
    env: dict[str, str] = {}


_YARN_AGAIN: Final = "YARN_ENABLE_IMMUTABLE_INSTALLS=false yarn install --mode=skip-build"
"""What is in yarn's cache is there, so it fetches nothing."""
_KEPT: Final = "/tmp/kept"
_EVERY: Final = "find . -name node_modules -prune -o -name package.json -exec"


def _without(key: str, *commands: str, lock: str = "") -> tuple[str, ...]:
    """Return `commands`, run while each package.json lacks `key`. `lock`: the lock file, put back after it too."""
    strip = (
        'const fs = require("fs"); for (const name of process.argv.slice(1)) { let found; '
        "try { found = JSON.parse(fs.readFileSync(name)) } catch { continue } "
        f"delete found.{key}; fs.writeFileSync(name, JSON.stringify(found)) }}"
    )
    return (
        f"mkdir -p {_KEPT}",
        f"{_EVERY} cp --parents {{}} {_KEPT} ';'",
        *((f"cp {lock} {_KEPT}",) if lock else ()),
        f"{_EVERY} node -e '{strip}' {{}} +",
        *commands,
        f"cp -r {_KEPT}/. ./",
    )


_MANAGERS: Final = {
    "npm": _Manager(
        locked="npm ci --no-audit --no-fund",
        unlocked="npm install --no-audit --no-fund",
        only_run=" --omit=dev",
        both=" --include=dev",
        prune=("npm prune --omit=dev --ignore-scripts --no-audit --no-fund",),
        run="npm run",
        cache=Cache("npm", "/root/.npm"),
        env={"NPM_CONFIG_UPDATE_NOTIFIER": "false"},
    ),
    "pnpm": _Manager(
        package="pnpm",
        locked="pnpm install --frozen-lockfile",
        unlocked="pnpm install",
        only_run=" --prod",
        both=" --prod=false",
        # What `pnpm prune` leaves of workspaces is too little: links between their packages go with it.
        prune=(
            "pnpm install --frozen-lockfile --prefer-offline --prod --ignore-scripts --config.modules-cache-max-age=0",
        ),
        run="pnpm run",
        cache=Cache("pnpm", "/root/.pnpm-store"),
        env={"NPM_CONFIG_STORE_DIR": "/root/.pnpm-store", "CI": "true"},
    ),
    "yarn": _Manager(
        package="yarn",
        locked="yarn install --frozen-lockfile --non-interactive",
        unlocked="yarn install --non-interactive",
        only_run=" --production",
        both=" --production=false",
        prune=("yarn install --frozen-lockfile --non-interactive --production --ignore-scripts --prefer-offline",),
        run="yarn run",
        cache=Cache("yarn", "/root/.yarn"),
        env={"YARN_CACHE_FOLDER": "/root/.yarn"},
    ),
    "berry": _Manager(
        package="@yarnpkg/cli-dist",
        locked="yarn install --immutable",
        unlocked="yarn install",
        # `yarn workspaces focus` needs a plugin before 4, and runs the app's own scripts without what they call.
        prune=_without("devDependencies", _YARN_AGAIN, lock="yarn.lock"),
        run="yarn run",
        cache=Cache("berry", "/root/.yarn"),
        env={
            "YARN_CACHE_FOLDER": "/root/.yarn",
            "YARN_ENABLE_GLOBAL_CACHE": "false",
            "YARN_ENABLE_TELEMETRY": "0",
            # Without it node finds no package unless yarn starts it.
            "YARN_NODE_LINKER": "node-modules",
        },
    ),
    "bun": _Manager(
        package="bun",
        locked="bun install --frozen-lockfile",
        unlocked="bun install",
        only_run=" --production",
        # The app's own scripts were run; those of packages that it trusts are run again.
        prune=_without("scripts", "rm -rf node_modules", "bun install --frozen-lockfile --production"),
        run="bun run",
        cache=Cache("bun", "/root/.bun/install/cache"),
    ),
}


def manager_steps(manifest: Manifest) -> tuple[Step, ...]:
    """Return the installation of the package manager itself."""
    manager = _MANAGERS[manifest.manager]
    if not manager.package:
        return ()
    version = f"@{manifest.version}" if manifest.version else ""
    package = manager.package
    if manifest.manager == "berry" and manifest.version.startswith("2."):
        package, version = "yarn", "@2.4.3"  # the only yarn 2 on the package index
    # Node's official images have a yarn that npm knows nothing of (https://github.com/yarnpkg/yarn/issues/7773).
    force = "--force " if manifest.title == "yarn" else ""
    return (Run((f"npm install --global {force}{package}{version}",), (Cache("npm", "/root/.npm"),)),)


def install_steps(manifest: Manifest, *, folder: str = "") -> tuple[Step, ...]:
    """Return the steps that install all packages, in the build of an app of another language.

    `folder`: of that app, where package.json is.
    """
    manager = _MANAGERS[manifest.manager]
    command = (manager.locked if manifest.lock else manager.unlocked) + manager.both
    return (
        *manager_steps(manifest),
        *((Env(manager.env),) if manager.env else ()),
        *seen(manifest.files, manifest.folders, within=folder),
        Run((*_into(folder), command), (manager.cache,)),
    )


def run_step(manifest: Manifest, script: str, *, folder: str = "") -> Run:
    """Return the step that runs a script of package.json."""
    return Run((*_into(folder), f"{_MANAGERS[manifest.manager].run} {script}"))


def _into(folder: str) -> tuple[str, ...]:
    return (f"cd {folder}",) if folder else ()


def build_steps(base: Base, manifest: Manifest, *, keeps_dev: bool = False) -> tuple[Step, ...]:
    """Return the steps from nothing to a built app. `keeps_dev`: what only the build needs need not be removed."""
    manager = _MANAGERS[manifest.manager]
    command = manager.locked if manifest.lock else manager.unlocked
    command += manager.both if manifest.build else manager.only_run
    prunes = manifest.has_dev and not keeps_dev
    mounts = (manager.cache,)
    steps: list[Step] = [
        *build_packages(base),
        *manager_steps(manifest),
        Env({"NODE_ENV": "production", **manager.env}),
        Workdir(APP),
        *((Copy(),) if manifest.needs_source else seen(manifest.files, manifest.folders)),
        Run((command,), mounts),
    ]
    if prunes and not manifest.build and not manager.only_run:
        steps.append(Run(_prune(manifest), mounts))
    if not manifest.needs_source:
        steps.append(Copy())
    if manifest.build:
        steps.append(Run((f"{manager.run} {manifest.build}",)))
    if prunes and manifest.build:
        steps.append(Run(_prune(manifest), mounts))
    return tuple(steps)


def _prune(manifest: Manifest) -> tuple[str, ...]:
    commands = _MANAGERS[manifest.manager].prune
    is_second = manifest.manager == "berry" and manifest.version.startswith("2.")
    return tuple(each.replace("--mode=skip-build", "--skip-builds") if is_second else each for each in commands)


def notes(manifest: Manifest) -> tuple[str, ...]:
    """Return what the app's author should know."""
    found = []
    if not manifest.lock:
        found.append(
            f"There is no lock file for {manifest.title}: two builds may get different versions. Commit the lock file"
        )
    if manifest.needs_source:
        found.append(f"Every change of the app installs all again, as {manifest.needs_source}")
    return tuple(found)
