"""What of a Python app's packages lies in its own repository, so that its manifests alone do not install it.

uv and Poetry can be told to leave such packages out: the others are installed before the app's files come in, and these
after it. What those two have locked says which they are. Other tools cannot, so they get all files first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agent.builders.files import MAX_LOCK, Files, mapping
from agent.builders.local import MAX_LOCAL, local

FILE_URL = re.compile(r"\S+\s*@\s*(?:file:|\.)")
"""A requirement that is in a folder or a file."""

_IN_UV = re.compile(
    r'^name = "([a-z0-9][a-z0-9._-]{0,100})"\n(?:version = "[^"\n]*"\n)?'
    r'source = \{ (virtual|editable|directory|path) = "([^"\n]{1,300})" \}$',
    re.MULTILINE,
)
_IN_POETRY = re.compile(r'^type = "(directory|file)"\nurl = "([^"\n]{1,300})"$', re.MULTILINE)
_IN_PDM = re.compile(r'^path = "', re.MULTILINE)
_LOCKED_NAME = re.compile(r'^\[\[package\]\]\nname = "([A-Za-z0-9][A-Za-z0-9._-]{0,100})"$', re.MULTILINE)


class LocalPackages(msgspec.Struct, frozen=True, kw_only=True):
    """Packages of the repository, and what becomes of them."""

    skips: tuple[str, ...] = ()
    """What the tool is told to leave them out at first; empty: there are none."""
    files: tuple[str, ...] = ()
    """Those that are files, such as wheels: they come with the manifests."""
    needs_source: str = ""
    """Why all of the app's files must be there first; empty: they need not."""


async def local_packages(files: Files, project: Mapping[str, Any], *, tool: str, lock: str) -> LocalPackages:
    """Return what `project`, a pyproject.toml, or its lock file takes from the repository. `lock`: empty: none.

    Raises:
        UserError: ``manifest.invalid``, ``source.file-too-large``.
    """
    locked = await files.text(lock, limit=MAX_LOCK) if lock else ""
    if tool == "uv":
        found = [(kind, path, name) for name, kind, path in _IN_UV.findall(locked) if path != "."]
        names = [name for kind, _, name in found if kind in ("editable", "directory")]
        wheels = [path for kind, path, _ in found if kind == "path"]
        return _left_out(files, [f"--no-install-package {name}" for name in names], wheels, lock=lock)
    if tool == "poetry" and lock:
        sources = _IN_POETRY.findall(locked)
        folders = [path for kind, path in sources if kind == "directory"]
        wheels = [path for kind, path in sources if kind == "file"]
        return _left_out(files, ["--no-directory"] if folders else [], wheels, lock=lock)
    tables = mapping(project.get("tool"))
    own = list(mapping(mapping(tables.get("poetry")).get("dependencies")).values()) if tool == "poetry" else []
    required = mapping(project.get("project")).get("dependencies")
    if has_paths(own) or any(FILE_URL.match(each) for each in _texts(required)):
        return LocalPackages(needs_source="pyproject.toml has packages in folders of the app")
    if tool == "pdm" and _IN_PDM.search(locked):
        return LocalPackages(needs_source=f"{lock} has packages in folders of the app")
    return LocalPackages()


async def locked_names(files: Files, lock: str) -> frozenset[str]:
    """Return the names of all packages in a lock file of uv, Poetry or PDM, as they are written there."""
    return frozenset(_LOCKED_NAME.findall(await files.text(lock, limit=MAX_LOCK)))


def has_paths(dependencies: Iterable[object]) -> bool:
    """Tell whether one of the tables of Poetry or Pipenv says that a package is in the app."""
    several = [each if isinstance(each, list) else [each] for each in dependencies]
    return any({"path", "file"} & mapping(each).keys() for group in several for each in group)


def _left_out(files: Files, skips: list[str], wheels: list[str], *, lock: str) -> LocalPackages:
    found = local(files, wheels)
    if found.is_all or len(skips) > MAX_LOCAL:
        return LocalPackages(
            needs_source=f"{lock} has packages in files with unusual names, or very many in folders of the app"
        )
    return LocalPackages(skips=tuple(dict.fromkeys(skips)), files=found.files)


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
