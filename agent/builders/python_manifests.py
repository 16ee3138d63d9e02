"""What a Python app's manifests say: who installs its packages, which they are, and for which Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from agent.builders.bases import Need, Packages, Runtime
from agent.builders.files import Files, is_plain, mapping, string
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
_LOCAL = re.compile(r"(?:-e|--editable)\b|\.{0,2}/|\.(?:\s|$|\[)|file:|\S+\s*@\s*(?:file:|\.)")
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
    needs_source: bool = False
    """Whether what is installed is in the app itself."""
    is_package: bool = False
    """Whether the app itself is to be installed too."""
    packages: frozenset[str] = frozenset()
    """Names of what is installed, as far as the manifest tells, in lower case and with ``-``."""


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
    project = await files.toml("pyproject.toml")
    poetry = mapping(mapping(mapping(project.get("tool")).get("poetry")).get("dependencies"))
    requires = mapping((await files.toml("Pipfile")).get("requires"))
    for name, text in (
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
    names, packages, needs_source = ["requirements.txt"], set[str](), False
    for name in names:  # it grows on the way
        for line in (await files.text(name)).splitlines():
            stripped = line.strip()
            if include := _INCLUDE.fullmatch(stripped):
                other = _beside(name, include[1])
                if not files.has(other) or not is_plain(other) or len(names) > MAX_INCLUDED:
                    needs_source = True
                elif other not in names:
                    names.append(other)
            elif _LOCAL.match(stripped):
                needs_source = True
            elif not stripped.startswith(("-", "#")):
                packages |= _named([stripped])
    return Manifest(
        tool="pip",
        file="requirements.txt",
        files=tuple(names),
        needs_source=needs_source,
        packages=frozenset(packages),
    )


def _beside(name: str, other: str) -> str:
    folder = name.rpartition("/")[0]
    return f"{folder}/{other}".removeprefix("/").replace("/./", "/").removeprefix("./")


async def _of_project(files: Files, project: Mapping[str, Any], *, tool: str, lock: str) -> Manifest:
    table, tools = mapping(project.get("project")), mapping(project.get("tool"))
    poetry = mapping(tools.get("poetry"))
    packages = _named(_texts(table.get("dependencies"))) | _named(mapping(poetry.get("dependencies")))
    is_locked = bool(lock) and files.has(lock)
    return Manifest(
        tool=tool,
        file=lock if is_locked else "pyproject.toml",
        files=("pyproject.toml", *((lock,) if is_locked else ())),
        is_locked=is_locked,
        is_package=_is_package(files, project, tool=tool),
        packages=packages,
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
    content = await files.toml("Pipfile")
    is_locked = files.has("Pipfile.lock")
    return Manifest(
        tool="pipenv",
        file="Pipfile.lock" if is_locked else "Pipfile",
        files=("Pipfile", *(("Pipfile.lock",) if is_locked else ())),
        is_locked=is_locked,
        packages=_named(mapping(content.get("packages"))),
    )


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
