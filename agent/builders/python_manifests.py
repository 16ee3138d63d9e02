"""What a Python app's manifests say: who installs its packages, which they are, and for which Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import Files, is_plain, mapping, string
from agent.builders.python_local import has_paths, local_packages, locked_names
from agent.builders.version_files import tool_version
from agent.builders.versions import Range, parse_range

PYTHON: Final = Runtime(
    title="Python",
    official="python:{}-slim-bookworm",
    variable="PYTHON_VERSION",
    offered=("3.13", "3.12", "3.11", "3.14", "3.10", "3.9"),
    debian={
        "bookworm": Packages(version="3.11.2", run=("python3",), build=("python3-venv",)),
        "trixie": Packages(version="3.13.5", run=("python3",), build=("python3-venv",)),
    },
)

MAX_INCLUDED: Final = 20
"""Requirement files that one names, directly or not."""

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]{0,200})\])?")
_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)\s*(?:#.*)?")
_LOCAL = re.compile(
    r"(?:-e|--editable)\b|\.{0,2}/|\.(?:\s|$|\[)|file:|\S+\s*@\s*(?:file:|\.)|(?:-f|--find-links)[\s=]+(?!https?:)"
)
_CONFIGURATION: Final = {"uv": ("uv.toml",), "poetry": ("poetry.toml",), "pdm": ("pdm.toml",)}
"""What the tools read besides, such as which indexes to ask."""
_DYNAMIC: Final = "what the app depends on is known to its own build alone (dynamic, in pyproject.toml)"
_VERSION_FILES: Final = (".python-version", "runtime.txt")
_PREFIX = re.compile(r"(?:c?python[-@])?(.*)", re.IGNORECASE)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Who installs the packages, from which files."""

    tool: str
    """``pip``, ``poetry``, ``uv``, ``pdm`` or ``pipenv``."""
    file: str
    """The one that decided it."""
    files: tuple[str, ...]
    """All that the installation of the packages needs to see."""
    is_locked: bool = True
    requirements: tuple[str, ...] = ()
    """For pip: the files that list the packages; empty: pyproject.toml does, or the build of the app."""
    skips: tuple[str, ...] = ()
    """What the tool is told so that it leaves out the packages that are in the app; they are installed after it."""
    needs_source: str = ""
    """Why the app's files must be there first; empty: they need not."""
    is_package: bool = False
    """Whether the app itself is to be installed too."""
    packages: frozenset[str] = frozenset()
    """Names of what is installed, as far as the manifest tells, in lower case and with ``-``."""
    knows_packages: bool = True
    """Whether it tells: where only the build of the app does, it does not."""


async def read_manifest(files: Files) -> Manifest | None:
    """Return who installs the packages of a Python app; `None`: it is none.

    Raises:
        UserError: ``manifest.invalid``.
    """
    project = await files.toml("pyproject.toml")
    tools = mapping(project.get("tool"))
    if files.has("uv.lock", "pyproject.toml"):
        return await _of_project(files, project, tool="uv", lock="uv.lock")
    if files.has("poetry.lock", "pyproject.toml") or "poetry" in tools:
        return await _of_project(files, project, tool="poetry", lock="poetry.lock")
    if files.has("pdm.lock", "pyproject.toml") or "pdm" in tools:
        return await _of_project(files, project, tool="pdm", lock="pdm.lock")
    if files.has("requirements.txt"):
        return await _of_requirements(files)
    if files.has("Pipfile"):
        return await _of_pipfile(files)
    if "project" in project:
        return await _of_project(files, project, tool="pip", lock="")
    return None


async def wanted_python(files: Files) -> Need:
    """Return the Python that the app wants.

    Raises:
        UserError: ``manifest.invalid``, what asks for it is no version.
    """
    for name in _VERSION_FILES:
        lines = (line.strip() for line in (await files.text(name)).splitlines())
        line = next((line for line in lines if line and not line.startswith("#")), "")
        if match := _PREFIX.fullmatch(line):
            if match[1]:
                return Need(runtime=PYTHON, wanted=_range(files, name, match[1]), said_in=name)
    in_tools, tools = await tool_version(files, "python")
    project = await files.toml("pyproject.toml")
    poetry = mapping(mapping(mapping(project.get("tool")).get("poetry")).get("dependencies"))
    requires = mapping((await files.toml("Pipfile")).get("requires"))
    for name, text in (
        (tools, in_tools),
        ("pyproject.toml", string(mapping(project.get("project")).get("requires-python"))),
        ("pyproject.toml", string(poetry.get("python"))),
        ("Pipfile", string(requires.get("python_full_version")) or string(requires.get("python_version"))),
    ):
        if text:
            return Need(runtime=PYTHON, wanted=_range(files, name, text), said_in=name)
    return Need(runtime=PYTHON)


def _range(files: Files, name: str, text: str) -> Range:
    try:
        return parse_range(text)
    except ValueError as error:
        problem = f"asks for Python {text[:60]!r}, which is not {error}"
        raise files.invalid(name, problem=problem) from error


async def _of_requirements(files: Files) -> Manifest:
    return await _listed(files, ("requirements.txt",), file="requirements.txt")


async def _listed(files: Files, first: tuple[str, ...], *, file: str) -> Manifest:
    """Return what pip is to install from `first`, files that are there, and those that they include."""
    names, packages, needs_source = list(first), set[str](), ""
    local = "{} names files of the app itself"
    for name in names:  # it grows on the way
        for line in (await files.text(name)).splitlines():
            stripped = line.strip()
            if include := _INCLUDE.fullmatch(stripped):
                other = _beside(name, include[1])
                if not files.has(other) or not is_plain(other) or len(names) > MAX_INCLUDED:
                    needs_source = local.format(name)
                elif other not in names:
                    names.append(other)
            elif _LOCAL.match(stripped):
                needs_source = local.format(name)
            elif not stripped.startswith(("-", "#")):
                packages |= _named([stripped])
    return Manifest(
        tool="pip",
        file=file,
        files=tuple(names),
        requirements=first,
        needs_source=needs_source,
        packages=frozenset(packages),
    )


def _beside(name: str, other: str) -> str:
    folder = name.rpartition("/")[0]
    return f"{folder}/{other}".removeprefix("/").replace("/./", "/").removeprefix("./")


async def _of_project(files: Files, project: Mapping[str, Any], *, tool: str, lock: str) -> Manifest:
    table, tools = mapping(project.get("project")), mapping(project.get("tool"))
    poetry = mapping(mapping(tools.get("poetry")).get("dependencies"))
    is_package = _is_package(files, project, tool=tool)
    lock = lock if files.has(lock) else ""
    is_dynamic = "dependencies" in _texts(table.get("dynamic")) and not (tool == "poetry" and poetry)
    if is_dynamic and tool == "pip":
        return await _dynamic(files, tools, is_package=is_package)
    local = await local_packages(files, project, tool=tool, lock=lock)
    packages = _named(_texts(table.get("dependencies"))) | _named(_tabled(poetry))
    if is_dynamic and lock:
        packages |= _named(await locked_names(files, lock))
    # PDM builds the app to learn what it depends on, and without a lock file the others do.
    needs_source = _DYNAMIC if is_dynamic and (tool == "pdm" or not lock) else local.needs_source
    seen = (name for name in _CONFIGURATION.get(tool, ()) if files.has(name))
    return Manifest(
        tool=tool,
        file=lock or "pyproject.toml",
        files=("pyproject.toml", *filter(None, (lock,)), *seen, *local.files),
        is_locked=bool(lock),
        skips=local.skips,
        needs_source=needs_source,
        is_package=is_package,
        packages=packages,
        knows_packages=bool(lock) or not is_dynamic,
    )


async def _dynamic(files: Files, tools: Mapping[str, Any], *, is_package: bool) -> Manifest:
    """Return what pip is to do where pyproject.toml says that dependencies come from elsewhere."""
    setuptools = mapping(mapping(mapping(tools.get("setuptools")).get("dynamic")).get("dependencies")).get("file")
    hooks = mapping(mapping(mapping(tools.get("hatch")).get("metadata")).get("hooks"))
    hatch = mapping(hooks.get("requirements_txt")).get("files")
    listed = tuple(_texts([setuptools] if isinstance(setuptools, str) else setuptools)) or tuple(_texts(hatch))
    if listed and len(listed) <= MAX_INCLUDED and all(files.has(name) and is_plain(name) for name in listed):
        found = await _listed(files, listed, file=listed[0])
        seen = ("pyproject.toml", *found.files)
        return msgspec.structs.replace(found, files=seen, is_package=is_package)
    return Manifest(
        tool="pip",
        file="pyproject.toml",
        files=("pyproject.toml",),
        is_locked=False,
        needs_source=_DYNAMIC,
        knows_packages=False,
    )


def _is_package(files: Files, project: Mapping[str, Any], *, tool: str) -> bool:
    """Tell whether the app itself is meant to be installed, and can be: its folder bears its name."""
    tools = mapping(project.get("tool"))
    table, own = mapping(project.get("project")), mapping(tools.get(tool))
    if own.get("package") is False or own.get("package-mode") is False or own.get("distribution") is False:
        return False
    if "build-system" not in project and tool != "poetry":
        return False
    if "packages" in own:
        return True
    name = re.sub(r"[-.]+", "_", string(table.get("name")) or string(own.get("name")))
    return bool(name) and any(
        each in files.names for each in (f"{name}/__init__.py", f"src/{name}/__init__.py", f"{name}.py")
    )


async def _of_pipfile(files: Files) -> Manifest:
    listed = mapping((await files.toml("Pipfile")).get("packages"))
    is_locked = files.has("Pipfile.lock")
    return Manifest(
        tool="pipenv",
        file="Pipfile.lock" if is_locked else "Pipfile",
        files=("Pipfile", *(("Pipfile.lock",) if is_locked else ())),
        is_locked=is_locked,
        needs_source="Pipfile has packages in folders of the app" if has_paths(listed.values()) else "",
        packages=_named(_tabled(listed)),
    )


def _tabled(dependencies: Mapping[str, Any]) -> list[str]:
    """Return the requirements of a table of Poetry or Pipenv: names, with the extras that are asked for."""
    found = []
    for name, value in dependencies.items():
        asked = [
            extra
            for each in (value if isinstance(value, list) else [value])
            for extra in _texts(mapping(each).get("extras"))
        ]
        found.append(f"{name}[{','.join(asked)}]" if asked else name)
    return found


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _named(requirements: Iterable[str]) -> frozenset[str]:
    """Return the names in requirements such as ``uvicorn[standard]>=0.30``, and what an extra of them brings."""
    found = set()
    for each in requirements:
        if match := _NAME.match(each):
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            found.add(name)
            if name == "fastapi" and match[2] and {"standard", "all"} & set(re.split(r"[\s,]+", match[2])):
                found.add("uvicorn")
    return frozenset(found)
