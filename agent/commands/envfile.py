"""Config as text: what ``config:import`` reads and ``config:export`` writes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from agent.commands.replies import as_json
from agent.errors import UserError

Format = Literal[
    "exports", "envfile", "shell", "json", "json-list", "docker-args", "docker-args-keys", "pack-keys", "pretty"
]
FORMATS: tuple[str, ...] = get_args(Format)

# Possessive quantifiers: a line that does not fit fails at once, however long it is.
_ENTRY = re.compile(
    r"""
      [ \t]*+ (?: export [ \t]++ )?
      (?P<key> [^\s=\#'"]++ ) [ \t]*+ = [ \t]*+
      (?: (?: ' (?P<single> [^']*+ (?: '\\'' [^']*+ )*+ ) '
            | " (?P<double> (?: [^"\\] | \\. )*+ ) " ) [ \t]*+ (?: \#[^\n]*+ )?
        | (?! ['"] ) (?P<plain> [^\n]*+ ) )
      (?: \r?\n | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[ \t]*+(?:#[^\n]*+)?(?:\r?\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def read(data: bytes, *, is_json: bool) -> dict[str, str]:
    """Return the config that `data` holds: ``KEY=value`` lines, or a JSON object of strings.

    In lines, quotes may hold line breaks, double quotes know the usual backslash escapes, an apostrophe in single ones
    is written as for a shell, and ``#`` begins a comment.

    Raises:
        UserError: ``config.unreadable``, with the line; or ``config.empty``.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            "config.unreadable", f"The input is not text in UTF-8 (byte {error.start + 1}).", "Convert it first."
        ) from error
    values = _read_json(data) if is_json else _read_lines(text.removeprefix("\ufeff"))
    if not values:
        raise UserError("config.empty", "The input names no config.", "Give KEY=value lines on standard input.")
    return values


def write(values: Mapping[str, str], *, format: Format) -> str:
    """Return `values` in the format, ending with a line's end."""
    match format:
        case "exports":
            return "".join(f"export {key}={quoted(value)}\n" for key, value in values.items())
        case "envfile":
            return "".join(f"{key}={_double_quoted(value)}\n" for key, value in values.items())
        case "shell":
            return "".join(f"{key}={quoted(value)} " for key, value in values.items()) + "\n"
        case "json":
            return as_json(values) + "\n"
        case "json-list":
            return as_json([{"name": key, "value": values[key]} for key in values]) + "\n"
        case "docker-args":
            return "".join(f"--env={quoted(f'{key}={value}')} " for key, value in values.items()) + "\n"
        case "docker-args-keys":
            return "".join(f"--env={key} " for key in values) + "\n"
        case "pack-keys":
            return "".join(f"--env {key} " for key in values) + "\n"
        case "pretty":
            width = max((len(key) for key in values), default=0) + 3
            return "".join(f"{key}:".ljust(width) + f"{value}\n" for key, value in values.items())


def quoted(value: str) -> str:
    """Return `value` in single quotes, as any POSIX shell reads it back."""
    return "'" + value.replace("'", "'\\''") + "'" if value else shlex.quote(value)


def _read_json(data: bytes) -> dict[str, str]:
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(
            "config.unreadable", f"The input is not a JSON object of strings: {error}.", 'Write it as: {"KEY": "value"}'
        ) from error


def _read_lines(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        if blank := _BLANK.match(text, position):
            position = blank.end()
            continue
        entry = _ENTRY.match(text, position)
        if entry is None:
            line = text.count("\n", 0, position) + 1
            raise UserError(
                "config.unreadable",
                f"Line {line} of the input is not KEY=value.",
                "Quote values that have line breaks or begin with a quote.",
            )
        position = entry.end()
        values[entry["key"]] = _value(entry)
    return values


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return str(entry["single"]).replace("'\\''", "'")
    if entry["double"] is not None:
        return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[0]), entry["double"])
    plain = str(entry["plain"])
    comment = re.search(r"[ \t]#", plain)
    return (plain[: comment.start()] if comment else plain).strip()


def _double_quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
