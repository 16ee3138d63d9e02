"""The app.json: how many replicas, how each proves that it is ready, config that is wanted, commands to run once.

Parsing is strict where a mistake would change what runs (a misspelt ``atempts`` is an error), and only notes what
Pushboat does not act on (``cron``, keys of other platforms), so that an app.json written for them still works.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from agent.manifests.app_env import EnvVariable, read_env
from agent.manifests.app_scripts import Scripts, read_scripts
from agent.manifests.commented import parse_commented
from agent.manifests.reader import Reader, plain
from agent.ports.scheduler import CheckSpec
from proto.names import ProcessType, process_type

MAX_QUANTITY = 100
"""Replicas of one process type, as ``ps:scale`` takes them: more on one machine is a typing error."""
MAX_ATTEMPTS = 1_000
_UPTIME_SECONDS = 10.0
"""Of a check that says nothing else, as Dokku has it."""

_NOT_YET = ("buildpacks", "cron")
_FOR_OTHERS = (
    "$schema", "addons", "description", "environments", "image", "keywords", "logo", "name", "repository", "stack",
    "success_url", "website",
)  # fmt: skip
_CHECK_KEYS = (
    "attempts", "command", "content", "httpHeaders", "initialDelay", "listening", "name", "onFailure", "path", "port",
    "scheme", "timeout", "type", "uptime", "wait", "warn",
)  # fmt: skip
_FORMATION_KEYS = ("autoscaling", "max_parallel", "quantity", "service", "size")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,1000}")
_PATH = re.compile(r"/[\x21-\x7e]{0,1000}")

_Kind = Literal["path", "command", "listening", "uptime"]


class AppJson(msgspec.Struct, frozen=True, kw_only=True):
    """What an app.json says."""

    quantities: Mapping[ProcessType, int] = {}
    """Replicas per process type; only those that the file names."""
    batches: Mapping[ProcessType, int] = {}
    """Replicas that a rolling deploy replaces at once, per process type; -1: all. Only those that the file names."""
    checks: Mapping[ProcessType, tuple[CheckSpec, ...]] = {}
    """Startup checks per process type."""
    scripts: Scripts = Scripts()
    """Commands to be run once by a deploy."""
    env: tuple[EnvVariable, ...] = ()
    """Config that the app wants to have."""
    notes: tuple[str, ...] = ()
    """What the file asks for and Pushboat does not do, in sentences for the user."""


def parse_app_json(content: bytes, *, name: str = "app.json") -> AppJson:
    """Return what the file says. `name` is the one to use in errors.

    Raises:
        UserError: ``manifest.invalid``, with the line or the place in the file.
    """
    root = Reader(parse_commented(content, name=name), where="", file=name)
    notes = [*_notes(root)]
    quantities, batches = _formation(root.inner("formation"), notes) if "formation" in root.values else ({}, {})
    checks = _checks(root.inner("healthchecks"), notes) if "healthchecks" in root.values else {}
    scripts = read_scripts(root.inner("scripts"), notes) if "scripts" in root.values else Scripts()
    env = read_env(root.inner("env")) if "env" in root.values else ()
    return AppJson(quantities=quantities, batches=batches, checks=checks, scripts=scripts, env=env, notes=tuple(notes))


def _notes(root: Reader) -> Sequence[str]:
    notes = []
    known = ("env", "formation", "healthchecks", "scripts", *_FOR_OTHERS)
    if left_out := [key for key in root.values if key in _FOR_OTHERS and key != "$schema"]:
        notes.append(f"Pushboat does nothing with {', '.join(left_out)} of {root.file}.")
    for key in root.values:
        if key in _NOT_YET:
            notes.append(f"Pushboat does not act on {key} of {root.file} yet.")
        elif key not in known:
            notes.append(f"Pushboat does not know {plain(key)} of {root.file}.")
    return notes


def _formation(formation: Reader, notes: list[str]) -> tuple[Mapping[ProcessType, int], Mapping[ProcessType, int]]:
    """Return how many replicas, and how many are replaced at once."""
    quantities, batches = {}, {}
    for key in formation.values:
        process, one = _process(formation, key), formation.inner(key)
        one.only(_FORMATION_KEYS)
        notes += [_not_yet(one, each) for each in ("autoscaling", "service") if each in one.values]
        if "size" in one.values:
            notes.append(
                f"Pushboat has no sizes: {one.where}.size of {one.file} is left out. For limits: resource:limit"
            )
        if "quantity" in one.values:
            quantities[process] = one.whole("quantity", default=0, least=0, most=MAX_QUANTITY)
        if "max_parallel" in one.values:
            batches[process] = one.whole("max_parallel", default=0, least=-1, most=MAX_QUANTITY)
            if not batches[process]:
                raise one.wrong("max_parallel", "must be 1 or more, or -1 for all at once")
    return quantities, batches


def _checks(healthchecks: Reader, notes: list[str]) -> Mapping[ProcessType, tuple[CheckSpec, ...]]:
    found = {}
    for key, items in healthchecks.values.items():
        process = _process(healthchecks, key)
        if not isinstance(items, list):
            raise healthchecks.wrong(key, "must be a list of checks")
        specs = []
        for index, item in enumerate(items):
            one = Reader(item, where=f"{healthchecks.where}.{key}[{index}]", file=healthchecks.file)
            if (spec := _check(one, notes)) is not None:
                specs.append(spec)
        if specs:
            found[process] = tuple(specs)
    return found


def _check(one: Reader, notes: list[str]) -> CheckSpec | None:
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
        attempts=one.whole("attempts", default=3, least=1, most=MAX_ATTEMPTS),
        timeout=one.seconds("timeout", default=5.0, least=0.1),
        wait=one.seconds("wait", default=5.0),
        initial_delay=one.seconds("initialDelay", default=0.0),
        is_warning=one.flag("warn"),
    )
    if when != "startup":
        notes.append(f"Pushboat runs no {when} checks yet: {one.where} of {one.file} is left out.")
        return None
    return spec


def _kind(one: Reader) -> _Kind:
    kinds: list[_Kind] = []
    if one.flag("listening"):
        kinds.append("listening")
    kinds += [kind for kind in ("command", "path", "uptime") if kind in one.values]
    if len(kinds) > 1:
        raise one.wrong("", f"asks for {' and '.join(kinds)} at once; make a check of each")
    return kinds[0] if kinds else "uptime"


def _scheme(one: Reader) -> Literal["http", "https"]:
    match one.text("scheme", default="http").lower():
        case "http":
            return "http"
        case "https":
            return "https"
    raise one.wrong("scheme", "must be http or https")


def _command(one: Reader) -> tuple[str, ...]:
    value = one.values.get("command", [])
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise one.wrong("command", 'must be a list of texts, such as ["./check", "--fast"]')
    if "command" in one.values and not value:
        raise one.wrong("command", "must not be empty")
    return tuple(part for part in value if isinstance(part, str))


def _headers(one: Reader) -> tuple[tuple[str, str], ...]:
    value = one.values.get("httpHeaders", [])
    if not isinstance(value, list):
        raise one.wrong("httpHeaders", "must be a list of objects with name and value")
    headers = []
    for index, item in enumerate(value):
        header = Reader(item, where=f"{one.where}.httpHeaders[{index}]", file=one.file)
        header.only(("name", "value"))
        name = _matching(header, "name", pattern=_HEADER_NAME, default="", rule="must be the name of an HTTP header")
        headers.append((name, _matching(header, "value", pattern=_HEADER_VALUE, default="", rule="must be plain text")))
    return tuple(headers)


def _matching(one: Reader, key: str, *, pattern: re.Pattern[str], default: str, rule: str) -> str:
    value = one.text(key, default=default)
    if not pattern.fullmatch(value):
        raise one.wrong(key, rule)
    return value


def _process(reader: Reader, key: str) -> ProcessType:
    try:
        return process_type(key)
    except ValueError as error:
        raise reader.wrong(plain(key), "is not the name of a process type") from error


def _not_yet(one: Reader, key: str) -> str:
    return f"Pushboat does not act on {one.where}.{key} of {one.file} yet."
