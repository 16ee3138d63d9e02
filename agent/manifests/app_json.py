"""The app.json: how many replicas, and how each proves that it is ready.

Parsing is strict where a mistake would change what runs (a misspelt ``atempts`` is an error), and only notes what
Pushboat does not act on (``scripts``, keys of other platforms), so that an app.json written for them still works.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from agent.errors import UserError
from agent.manifests.commented import Json, parse_commented
from agent.ports.scheduler import CheckSpec
from proto.names import ProcessType, process_type

MAX_QUANTITY = 1_000
"""Replicas of one process type: a typing error should not start a million."""
_MAX_ATTEMPTS = 1_000
_MAX_SECONDS = 3_600.0
_UPTIME_SECONDS = 10.0
"""Of a check that says nothing else, as Dokku has it."""

_NOT_YET = ("buildpacks", "cron", "env", "scripts")
_FOR_OTHERS = (
    "$schema", "addons", "description", "environments", "image", "keywords", "logo", "name", "repository", "stack",
    "success_url", "website",
)  # fmt: skip
_CHECK_KEYS = (
    "attempts", "command", "content", "httpHeaders", "initialDelay", "listening", "name", "onFailure", "path", "port",
    "scheme", "timeout", "type", "uptime", "wait", "warn",
)  # fmt: skip
_FORMATION_KEYS = ("autoscaling", "max_parallel", "quantity", "service")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,1000}")
_PATH = re.compile(r"/[\x21-\x7e]{0,1000}")

_Kind = Literal["path", "command", "listening", "uptime"]


class AppJson(msgspec.Struct, frozen=True, kw_only=True):
    """What an app.json says."""

    quantities: Mapping[ProcessType, int] = {}
    """Replicas per process type; only those that the file names."""
    checks: Mapping[ProcessType, tuple[CheckSpec, ...]] = {}
    """Startup checks per process type."""
    notes: tuple[str, ...] = ()
    """What the file asks for and Pushboat does not do, in sentences for the user."""


class _Reader:
    """Reads one JSON object, knows where it stands in the file, and names it in errors."""

    def __init__(self, value: Json, *, where: str, file: str) -> None:
        self.where = where
        self.file = file
        if not isinstance(value, dict):
            raise self.wrong("", "must be an object")
        self.values = value

    def wrong(self, key: str, problem: str) -> UserError:
        place = ".".join(part for part in (self.where, key) if part)
        message = f"{place} in {self.file} {problem}." if place else f"{self.file} {problem}."
        return UserError("manifest.invalid", message, "Mend it, commit and push again.")

    def inner(self, key: str) -> _Reader:
        return _Reader(self.values[key], where=".".join((*filter(None, (self.where,)), key)), file=self.file)

    def only(self, keys: Sequence[str]) -> None:
        for key in self.values:
            if key not in keys:
                raise self.wrong(_plain(key), f"is not known; known are {', '.join(keys)}")

    def text(self, key: str, *, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "must be a text")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def whole(self, key: str, *, default: int, least: int, most: int) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}")
        return value

    def seconds(self, key: str, *, default: float, least: float = 0.0) -> float:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _MAX_SECONDS:
            raise self.wrong(key, f"must be a number of seconds from {least:g} to {_MAX_SECONDS:g}")
        return float(value)


def parse_app_json(content: bytes, *, name: str = "app.json") -> AppJson:
    """Return what the file says. `name` is the one to use in errors.

    Raises:
        UserError: ``manifest.invalid``, with the line or the place in the file.
    """
    root = _Reader(parse_commented(content, name=name), where="", file=name)
    notes = [*_notes(root)]
    quantities = _quantities(root.inner("formation"), notes) if "formation" in root.values else {}
    checks = _checks(root.inner("healthchecks"), notes) if "healthchecks" in root.values else {}
    return AppJson(quantities=quantities, checks=checks, notes=tuple(notes))


def _notes(root: _Reader) -> Sequence[str]:
    notes = []
    known = ("formation", "healthchecks", *_FOR_OTHERS)
    for key in root.values:
        if key in _NOT_YET:
            notes.append(f"Pushboat does not act on {key} of {root.file} yet.")
        elif key not in known:
            notes.append(f"Pushboat does not know {_plain(key)} of {root.file}.")
    return notes


def _quantities(formation: _Reader, notes: list[str]) -> Mapping[ProcessType, int]:
    found = {}
    for key in formation.values:
        process, one = _process(formation, key), formation.inner(key)
        one.only(_FORMATION_KEYS)
        notes += [_not_yet(one, each) for each in ("autoscaling", "max_parallel", "service") if each in one.values]
        if "quantity" in one.values:
            found[process] = one.whole("quantity", default=0, least=0, most=MAX_QUANTITY)
    return found


def _checks(healthchecks: _Reader, notes: list[str]) -> Mapping[ProcessType, tuple[CheckSpec, ...]]:
    found = {}
    for key, items in healthchecks.values.items():
        process = _process(healthchecks, key)
        if not isinstance(items, list):
            raise healthchecks.wrong(key, "must be a list of checks")
        specs = []
        for index, item in enumerate(items):
            one = _Reader(item, where=f"{healthchecks.where}.{key}[{index}]", file=healthchecks.file)
            if (spec := _check(one, notes)) is not None:
                specs.append(spec)
        if specs:
            found[process] = tuple(specs)
    return found


def _check(one: _Reader, notes: list[str]) -> CheckSpec | None:
    """Return the startup check that `one` describes; `None` for the kinds that are not run at the start."""
    one.only(_CHECK_KEYS)
    when = one.text("type", default="startup")
    if when not in ("startup", "readiness", "liveness"):
        raise one.wrong("type", "must be startup, readiness or liveness")
    kind = _kind(one)
    if "onFailure" in one.values:
        notes.append(_not_yet(one, "onFailure"))
    spec = CheckSpec(
        name=one.text("name", default="default")[:100],
        kind=kind,
        path=_matching(one, "path", pattern=_PATH, default="/", rule="must begin with / and hold no spaces"),
        scheme=_scheme(one),
        content=one.text("content", default=""),
        headers=_headers(one),
        command=_command(one),
        port=one.whole("port", default=0, least=0, most=65_535),
        uptime=one.seconds("uptime", default=_UPTIME_SECONDS) if kind == "uptime" else 0.0,
        attempts=one.whole("attempts", default=3, least=1, most=_MAX_ATTEMPTS),
        timeout=one.seconds("timeout", default=5.0, least=0.1),
        wait=one.seconds("wait", default=5.0),
        initial_delay=one.seconds("initialDelay", default=0.0),
        is_warning=one.flag("warn"),
    )
    if when != "startup":
        notes.append(f"Pushboat runs no {when} checks yet: {one.where} of {one.file} is left out.")
        return None
    return spec


def _kind(one: _Reader) -> _Kind:
    kinds: list[_Kind] = []
    if one.flag("listening"):
        kinds.append("listening")
    kinds += [kind for kind in ("command", "path", "uptime") if kind in one.values]
    if len(kinds) > 1:
        raise one.wrong("", f"asks for {' and '.join(kinds)} at once; make a check of each")
    return kinds[0] if kinds else "uptime"


def _scheme(one: _Reader) -> Literal["http", "https"]:
    match one.text("scheme", default="http").lower():
        case "http":
            return "http"
        case "https":
            return "https"
    raise one.wrong("scheme", "must be http or https")


def _command(one: _Reader) -> tuple[str, ...]:
    value = one.values.get("command", [])
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise one.wrong("command", 'must be a list of texts, such as ["./check", "--fast"]')
    if "command" in one.values and not value:
        raise one.wrong("command", "must not be empty")
    return tuple(part for part in value if isinstance(part, str))


def _headers(one: _Reader) -> tuple[tuple[str, str], ...]:
    value = one.values.get("httpHeaders", [])
    if not isinstance(value, list):
        raise one.wrong("httpHeaders", "must be a list of objects with name and value")
    headers = []
    for index, item in enumerate(value):
        header = _Reader(item, where=f"{one.where}.httpHeaders[{index}]", file=one.file)
        header.only(("name", "value"))
        name = _matching(header, "name", pattern=_HEADER_NAME, default="", rule="must be the name of an HTTP header")
        headers.append((name, _matching(header, "value", pattern=_HEADER_VALUE, default="", rule="must be plain text")))
    return tuple(headers)


def _matching(one: _Reader, key: str, *, pattern: re.Pattern[str], default: str, rule: str) -> str:
    value = one.text(key, default=default)
    if not pattern.fullmatch(value):
        raise one.wrong(key, rule)
    return value


def _process(reader: _Reader, key: str) -> ProcessType:
    try:
        return process_type(key)
    except ValueError as error:
        raise reader.wrong(_plain(key), "is not the name of a process type") from error


def _not_yet(one: _Reader, key: str) -> str:
    return f"Pushboat does not act on {one.where}.{key} of {one.file} yet."


def _plain(key: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in key[:60])
