"""How a Node app is installed and built: the steps that servers and front ends share."""

from __future__ import annotations

from typing import Final

import msgspec

from agent.builders.bases import Base
from agent.builders.node_manifests import Manifest
from agent.builders.plan import Cache, Copy, Env, Run, Step, Workdir
from agent.builders.stages import APP, build_packages, each_in_its_folder


class _Manager(msgspec.Struct, frozen=True, kw_only=True):
    """What a package manager is told."""

    package: str = ""
    """Its own on the package index; empty: it comes with Node."""
    locked: str
    unlocked: str
    only_run: str = ""
    """Added to those where nothing is built."""
    both: str = ""
    """Added to those where something is."""
    prune: str
    """Removes what only the build needed."""
    run: str
    cache: Cache
    env: dict[str, str] = {}


_MANAGERS: Final = {
    "npm": _Manager(
        locked="npm ci --no-audit --no-fund",
        unlocked="npm install --no-audit --no-fund",
        only_run=" --omit=dev",
        both=" --include=dev",
        prune="npm prune --omit=dev --ignore-scripts --no-audit --no-fund",
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
        prune="pnpm prune --prod --ignore-scripts",
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
        prune="yarn install --frozen-lockfile --non-interactive --production --ignore-scripts --prefer-offline",
        run="yarn run",
        cache=Cache("yarn", "/root/.yarn"),
        env={"YARN_CACHE_FOLDER": "/root/.yarn"},
    ),
    "berry": _Manager(
        package="@yarnpkg/cli-dist",
        locked="yarn install --immutable",
        unlocked="yarn install",
        prune="yarn workspaces focus --all --production",
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
        prune="rm -rf node_modules && bun install --frozen-lockfile --production --ignore-scripts",
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
    # Node's official images have a yarn that npm knows nothing of (https://github.com/yarnpkg/yarn/issues/7773).
    force = "--force " if manifest.title == "yarn" else ""
    return (Run((f"npm install --global {force}{manager.package}{version}",), (Cache("npm", "/root/.npm"),)),)


def install_steps(manifest: Manifest, *, folder: str = "") -> tuple[Step, ...]:
    """Return the steps that install all packages, in the build of an app of another language.

    `folder`: of that app, where package.json is.
    """
    manager = _MANAGERS[manifest.manager]
    command = (manager.locked if manifest.lock else manager.unlocked) + manager.both
    names = [f"{folder}/{name}" if folder else name for name in manifest.files]
    return (
        *manager_steps(manifest),
        *((Env(manager.env),) if manager.env else ()),
        *each_in_its_folder(names),
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
    mounts = (manager.cache,)
    steps: list[Step] = [
        *build_packages(base),
        *manager_steps(manifest),
        Env({"NODE_ENV": "production", **manager.env}),
        Workdir(APP),
        *((Copy(),) if manifest.needs_source else each_in_its_folder(manifest.files)),
        Run((command,), mounts),
    ]
    if not manifest.needs_source:
        steps.append(Copy())
    if manifest.build:
        steps.append(Run((f"{manager.run} {manifest.build}",)))
    if manifest.build and manifest.has_dev and not keeps_dev:
        steps.append(Run((manager.prune,), mounts))
    return tuple(steps)


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
