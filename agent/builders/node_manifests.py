"""What a Node app's manifests say: who installs its packages, for which Node, what is to be built and what to start."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import Files, is_plain, mapping, string
from agent.builders.node_local import UNUSUAL, local_packages
from agent.builders.version_files import tool_version
from agent.builders.versions import Range, parse_range
from agent.manifests.procfile import argv

NODE: Final = Runtime(
    title="Node",
    official="node:{}-bookworm-slim",
    variable="NODE_VERSION",
    offered=("24", "22", "20", "18"),
    debian={
        "bookworm": Packages(version="18.20.4", run=("nodejs",), build=("npm",)),
        "trixie": Packages(version="20.19.2", run=("nodejs",), build=("npm",)),
    },
)

MAX_WORKSPACES: Final = 200

_LTS: Final = {"hydrogen": "18", "iron": "20", "jod": "22", "krypton": "24"}
_LOCKS: Final = (
    ("npm", "package-lock.json"),
    ("npm", "npm-shrinkwrap.json"),
    ("pnpm", "pnpm-lock.yaml"),
    ("yarn", "yarn.lock"),
    ("bun", "bun.lock"),
    ("bun", "bun.lockb"),
)
_SEEN: Final = (
    ".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs", ".pnpmfile.mjs", "bunfig.toml"
)  # fmt: skip
"""What package managers read besides."""
_AT_INSTALL: Final = ("preinstall", "install", "postinstall", "prepare")
_CHOSEN = re.compile(r"(npm|yarn|pnpm|bun)@([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})(?:[+-].*)?")
_PNPM_LOCK = re.compile(r"^lockfileVersion:\s*'?([0-9]+)", re.MULTILINE)
_PNPM_OF_LOCK: Final = {"5": "7", "6": "8"}
_CALL = re.compile(r"(?:npm run(?:-script)?|yarn(?: run)?|pnpm(?: run)?|bun run) ([\w:.-]+)")
_DEV_SERVER = re.compile(
    r"(?:react-scripts start|ng serve|vue-cli-service serve|vite(?: (?:dev|serve|preview))?"
    r"|webpack(?:-dev-server| serve)|parcel|gatsby develop|astro (?:dev|preview))(?:\s.*)?"
)
"""Start scripts of front ends: what they serve is for their authors, and what they build is for visitors."""
_MANAGERS = re.compile(r"\b(?:npm|npx|yarn|pnpm|bun|bunx)\b")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to install, to build and to start."""

    manager: str
    """``npm``, ``pnpm``, ``yarn`` (1), ``berry`` (yarn from 2 on) or ``bun``."""
    version: str = ""
    """Of the manager: digits and dots; empty: any."""
    lock: str = ""
    """The lock file; empty: there is none."""
    files: tuple[str, ...]
    """All that the installation of the packages needs to see."""
    folders: tuple[str, ...] = ()
    """And all folders: packages that are in the app, and yarn's own."""
    needs_source: str = ""
    """Why the app's files must be there first; empty: they need not."""
    build: str = ""
    """The script that builds; empty: none."""
    has_dev: bool = False
    """Whether there are packages that only a build needs."""
    start: tuple[str, ...] = ()
    """The words that start it; empty: nothing says."""
    needs_manager: bool = False
    """Whether what starts it calls a package manager."""

    @property
    def title(self) -> str:
        """What people call the manager."""
        return "yarn" if self.manager == "berry" else self.manager


async def read_manifest(files: Files) -> Manifest | None:
    """Return what a Node app's manifests say; `None`: it is none.

    Raises:
        UserError: ``manifest.invalid``.
    """
    if not files.has("package.json"):
        return None
    package = await files.json("package.json")
    scripts = {name: text for name, text in mapping(package.get("scripts")).items() if isinstance(text, str)}
    manager, lock, version = await _manager(files, package)
    workspaces = _workspaces(files, package)
    has_dev = bool(mapping(package.get("devDependencies")))
    needs_source = _at_install("package.json", package)
    members = dict[str, Mapping[str, Any]]()
    for name in workspaces[:MAX_WORKSPACES]:
        member = members[name.rpartition("/")[0]] = await _member(files, name)
        has_dev = has_dev or bool(mapping(member.get("devDependencies")))
        needs_source = needs_source or _at_install(name, member)
    if len(workspaces) > MAX_WORKSPACES or not all(map(is_plain, workspaces)):
        needs_source = "there are workspaces with unusual names, or very many"
    own = await local_packages(files, package, members)
    needs_source = UNUSUAL if own.is_all else needs_source
    started = resolved(scripts, "start")
    procfile = await files.text(files.procfile)
    build = next((name for name in ("heroku-postbuild", "build") if scripts.get(name, "").strip()), "")
    is_dev_server = _DEV_SERVER.fullmatch(started) is not None
    start = () if is_dev_server else _start(files, package, scripts, started)
    return Manifest(
        manager=manager,
        version=version,
        lock=lock,
        files=("package.json", *filter(None, (lock,)), *filter(files.has, _SEEN), *workspaces, *own.files),
        folders=own.folders,
        needs_source=needs_source,
        build=build,
        has_dev=has_dev,
        start=start,
        needs_manager=_MANAGERS.search(f"{procfile} {started}") is not None,
    )


async def wanted_node(files: Files) -> Need:
    """Return the Node that the app wants.

    Raises:
        UserError: ``manifest.invalid``, what asks for it is no version.
    """
    package = await files.json("package.json")
    in_tools, tools = await tool_version(files, "nodejs", "node")
    for name, text in (
        ("package.json", string(mapping(package.get("engines")).get("node"))),
        (".nvmrc", await files.text(".nvmrc")),
        (".node-version", await files.text(".node-version")),
        (tools, in_tools),
    ):
        if text.strip():
            return Need(runtime=NODE, wanted=_range(files, name, text.strip()), said_in=name)
    return Need(runtime=NODE)


def resolved(scripts: Mapping[str, str], name: str) -> str:
    """Return the command line of a script; of the one it runs, if that is all it does. Empty if there is none."""
    for _ in range(5):
        text = scripts.get(name, "").strip()
        call = _CALL.fullmatch(text)
        if call is None or call[1] not in scripts or {f"pre{call[1]}", f"post{call[1]}"} & scripts.keys():
            return text
        name = call[1]
    return ""


def _start(files: Files, package: Mapping[str, Any], scripts: Mapping[str, str], started: str) -> tuple[str, ...]:
    if started:
        # Not by way of the package manager: it stands between the app and its signals.
        before = resolved(scripts, "prestart")
        line = f"{before} && exec {started}" if before else started
        return argv(line, environment={})
    for name in ("server.js", string(package.get("main")), "index.js", "app.js"):
        if name and files.has(name.removeprefix("./")):
            return ("node", name.removeprefix("./"))
    return ()


async def _manager(files: Files, package: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the package manager, its lock file and its version."""
    found = [(manager, lock) for manager, lock in _LOCKS if files.has(lock)]
    chosen = _CHOSEN.fullmatch(string(package.get("packageManager")))
    name, version = (chosen[1], chosen[2]) if chosen else (found[0][0] if found else "npm", "")
    lock = next((lock for manager, lock in found if manager == name), "")
    if name == "pnpm" and lock and not version:
        match = _PNPM_LOCK.search(await files.head(lock))
        version = _PNPM_OF_LOCK.get(match[1], "9") if match else "9"
    if name == "yarn":
        is_old = version.startswith("1.") or (
            not version and "__metadata:" not in (await files.head(lock) if lock else "")
        )
        return "yarn" if is_old else "berry", lock, version or ("1" if is_old else "4")
    return name, lock, version


def _workspaces(files: Files, package: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the manifests of the packages that live in the app, if it has any."""
    if "workspaces" not in package and not files.has("pnpm-workspace.yaml"):
        return ()
    return tuple(
        sorted(name for name in files.names if name.endswith("/package.json") and "node_modules" not in name.split("/"))
    )


def _at_install(name: str, package: Mapping[str, Any]) -> str:
    """Return why a package's own files must be there when it is installed; empty: they need not."""
    scripts = mapping(package.get("scripts"))
    script = next((script for script in _AT_INSTALL if script in scripts), "")
    return f"{name} has a script {script}" if script else ""


async def _member(files: Files, name: str) -> Mapping[str, Any]:
    """Return a package.json below the app's; what cannot be read may be none of its packages, but an example."""
    try:
        return mapping(json.loads(await files.code(name)))
    except (RecursionError, ValueError):
        return {}


def _range(files: Files, name: str, text: str) -> Range:
    try:
        return parse_range(_LTS.get(text.removeprefix("lts/").lower(), text))
    except ValueError as error:
        raise files.invalid(name, problem=f"asks for Node {text[:60]!r}, which is not {error}") from error
