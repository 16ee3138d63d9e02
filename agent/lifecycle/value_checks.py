"""What may be said of most properties.

Each returns the value as it is stored, or raises ValueError with what would be right, as the end of a sentence.
"""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from agent.ports.images import BUILDER_NAMES, NO_BUILDERS
from agent.state.plans import Strategy
from proto.names import is_config_key, process_type

MAX_TASK_SECONDS = 86_400
"""A day. A migration that takes longer does not belong into a deploy."""

MAX_STOP_SECONDS = 3_600
"""An hour. Longer grace than this is a typing error, and holds up every deploy."""

_BRANCH = re.compile(r"(?!-)(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)))[A-Za-z0-9._/@+-]{1,200}(?<![/.])")
"""A strict part of what git-check-ref-format(1) allows."""

_IMAGE = re.compile(
    r"(?=.{1,400}\Z)[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
"""As the engine reads them, a little narrower."""

MAX_PACKAGES = 100
"""Debian packages of one app. They bring many others."""

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}")
"""Debian Policy 5.6.1."""

_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def branch(value: str) -> str:
    """Return a branch's name."""
    if not _BRANCH.fullmatch(value):
        raise ValueError("a branch's name, such as main")
    return value


def truth(value: str) -> str:
    """Return true or false."""
    if value not in ("true", "false"):
        raise ValueError("true or false")
    return value


def variable(value: str) -> str:
    """Return a variable's name, or nothing."""
    if value and not is_config_key(value):
        raise ValueError("the name of a variable, such as GIT_REV, or empty for none")
    return value


def folder(value: str) -> str:
    """Return a path inside the repository, without slashes at its ends."""
    parts = value.strip("/").split("/")
    if value.startswith(("/", "-")) or any(part in ("", ".", "..") for part in parts) or not value.isprintable():
        raise ValueError("a path inside the repository, such as services/web")
    return "/".join(parts)


def builder(value: str) -> str:
    """Return the name of a builder, or of what stands in its place."""
    if value not in (*BUILDER_NAMES, *NO_BUILDERS):
        raise ValueError(f"one of {', '.join((*BUILDER_NAMES, *NO_BUILDERS))}")
    return value


def image(value: str) -> str:
    """Return an image's name."""
    if not _IMAGE.fullmatch(value):
        raise ValueError("an image's name, such as python:3.12-slim or registry.example.com/base:1")
    return value


def packages(value: str) -> str:
    """Return names of Debian packages with one space between."""
    names = value.split()
    if not names or not all(_PACKAGE.fullmatch(name) for name in names) or len(names) > MAX_PACKAGES:
        raise ValueError("names of Debian packages with a space between, such as: ffmpeg libpq-dev")
    return " ".join(names)


def deploy_id(value: str) -> str:
    """Return the id of a deploy."""
    if not re.fullmatch(r"[a-z0-9]{1,64}", value):
        raise ValueError("the id of a deploy")
    return value


def stage(value: str) -> str:
    """Return the name of a stage."""
    if not _STAGE.fullmatch(value):
        raise ValueError("the name of a stage of the Dockerfile")
    return value


def seconds(value: str) -> str:
    """Return a number of seconds, up to `MAX_STOP_SECONDS`."""
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= MAX_STOP_SECONDS and len(value) <= 6):
        raise ValueError(f"a number of seconds from 1 to {MAX_STOP_SECONDS}")
    return str(int(value))


def task_seconds(value: str) -> str:
    """Return a number of seconds, up to `MAX_TASK_SECONDS`."""
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= MAX_TASK_SECONDS and len(value) <= 6):
        raise ValueError(f"a number of seconds from 1 to {MAX_TASK_SECONDS}")
    return str(int(value))


def types(value: str) -> str:
    """Return process types with commas between."""
    try:
        return ",".join(process_type(text.strip()) for text in value.split(","))
    except ValueError as error:
        raise ValueError("process types with commas between, such as worker,clock") from error


def balance(value: str) -> str:
    """Return a way to balance requests."""
    if value not in ("roundrobin", "leastconn"):
        raise ValueError("roundrobin or leastconn")
    return value


def strategy(value: str) -> str:
    """Return a strategy."""
    known = get_args(Strategy)
    if value not in known:
        raise ValueError(f"one of {', '.join(known)}")
    return value


def limits(value: str) -> str:
    """Return an object of limits, in JSON."""
    try:
        msgspec.json.decode(value, type=dict[str, dict[str, float]])
    except msgspec.DecodeError as error:
        raise ValueError("an object of limits by process type, in JSON") from error
    return value


def build_args(value: str) -> str:
    """Return an object of strings, in JSON."""
    try:
        return msgspec.json.encode(msgspec.json.decode(value, type=dict[str, str | None])).decode()
    except msgspec.DecodeError as error:
        raise ValueError("an object of strings, in JSON") from error
