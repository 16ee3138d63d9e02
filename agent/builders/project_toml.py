"""The project descriptor, ``project.toml``: what an app asks of buildpacks.

Read are schema 0.2 of the Cloud Native Buildpacks' Project Descriptor (``[_]`` and ``[io.buildpacks]``), the older 0.1
(``[build]``), and what was between them (``[io.buildpacks.build]``). What would be passed over in silence and change
what is built is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from agent.builders.dockerignore import Ignore, parse_ignore
from agent.builders.files import mapping, string
from agent.errors import UserError

SCHEMAS: Final = ("0.1", "0.2")
MAX_ENTRIES: Final = 200
"""Variables, or buildpacks, of one descriptor."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
"""Each becomes a file of that name, so it must be one name and no path."""
_BUILDPACK = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9./_-]{0,198}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,99}")
_IN_BUILDER: Final = ("urn:cnb:builder:", "from=builder:")
"""What a `uri` begins with that means a buildpack of the builder: another way to write its id."""

Invalid = Callable[[str], UserError]
"""Makes the error about the file, of what is wrong with it."""


class Wanted(msgspec.Struct, frozen=True):
    """A buildpack that the app asks for."""

    id: str
    version: str = ""
    """Empty: the one that the builder has."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What a descriptor says."""

    builder: str = ""
    """The builder image; empty: it does not say."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    """For buildpacks, while they build."""
    group: tuple[Wanted, ...] = ()
    """The buildpacks to take, in order; empty: the builder's own order decides."""


def speaks_of_buildpacks(document: Mapping[str, Any]) -> bool:
    """Tell whether a TOML file called project.toml is a project descriptor with something about buildpacks."""
    io = mapping(document.get("io"))
    return "_" in document or "buildpacks" in io or isinstance(document.get("build"), dict)


def read_project(document: Mapping[str, Any], *, invalid: Invalid) -> Project:
    """Return what the descriptor says.

    Raises:
        UserError: what `invalid` makes: it has a mistake, or asks for what is not supported.
    """
    schema = mapping(document.get("_")).get("schema-version", SCHEMAS[-1] if "io" in document else SCHEMAS[0])
    if schema not in SCHEMAS:
        raise invalid(f"has the schema-version {schema!r:.20}; known are {' and '.join(SCHEMAS)}")
    ours = mapping(mapping(document.get("io")).get("buildpacks"))
    build = mapping(ours.get("build") if ours else document.get("build"))
    _refuse_unsupported(ours, invalid)
    both = {**build, **ours}
    project = Project(
        builder=string(both.get("builder")),
        include=_patterns(both, "include", invalid),
        exclude=_patterns(both, "exclude", invalid),
        env=_env(build.get("env", []), invalid),
        group=_group(ours.get("group", build.get("buildpacks", [])), invalid),
    )
    if project.include and project.exclude:
        raise invalid("has both include and exclude; only one of them can be")
    return project


def left_out(project: Project, paths: Sequence[str]) -> frozenset[str]:
    """Return those of `paths` that the descriptor keeps out of the build.

    Raises:
        UserError: ``dockerignore.invalid``, a pattern cannot be read.
    """
    if project.include:
        return frozenset(paths) - _matched(project.include, paths, name="include of project.toml")
    return _matched(project.exclude, paths, name="exclude of project.toml")


def _matched(patterns: Sequence[str], paths: Sequence[str], *, name: str) -> frozenset[str]:
    rules: Ignore = parse_ignore("\n".join(map(_as_dockerignore, patterns)).encode(), name=name)
    return rules.ignored(paths)


def _as_dockerignore(pattern: str) -> str:
    """Write a pattern of gitignore(5) as one of .dockerignore: without a slash inside, it holds at any depth."""
    sign, text = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    if text.startswith("#"):
        return ""
    is_anywhere = "/" not in text.rstrip("/")
    return f"{sign}**/{text}" if is_anywhere and text.strip() else f"{sign}{text}"


def _refuse_unsupported(ours: Mapping[str, Any], invalid: Invalid) -> None:
    for key in ("pre", "post"):
        if key in ours:
            raise invalid(f"has [io.buildpacks.{key}], which is not supported: name all buildpacks in group")


def _patterns(table: Mapping[str, Any], key: str, invalid: Invalid) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, str) and each.isprintable() for each in found):
        raise invalid(f"has an {key} that is no list of patterns")
    return tuple(found)


def _env(found: object, invalid: Invalid) -> Mapping[str, str]:
    env = {}
    for entry in _tables(found, "env", invalid):
        name, value = entry.get("name"), entry.get("value", "")
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise invalid(f"has an env without a name, or with one that is none: {name!r:.60}")
        if not isinstance(value, str) or "\0" in value:
            raise invalid(f"gives {name} a value that is no text")
        env[name] = value
    return env


def _group(found: object, invalid: Invalid) -> tuple[Wanted, ...]:
    wanted = []
    for entry in _tables(found, "group", invalid):
        id, version, uri = (string(entry.get(key)) for key in ("id", "version", "uri"))
        if "script" in entry:
            raise invalid("has a buildpack in its own text (script), which is not supported")
        if prefix := next(filter(uri.startswith, _IN_BUILDER), ""):
            id, _, version = uri.removeprefix(prefix).partition("@")
        elif uri:
            raise invalid(f"asks for the buildpack at {uri!r:.100}: only those in the builder image are supported")
        if not _BUILDPACK.fullmatch(id) or (version and not _VERSION.fullmatch(version)):
            raise invalid(f"names a buildpack that is none: {id!r:.60} {version!r:.30}")
        wanted.append(Wanted(id, version))
    return tuple(wanted)


def _tables(found: object, name: str, invalid: Invalid) -> Sequence[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise invalid(f"has {name} that is no list of tables: write [[…{name}]]")
    if len(found) > MAX_ENTRIES:
        raise invalid(f"has more than {MAX_ENTRIES} of {name}")
    return found
