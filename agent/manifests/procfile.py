"""The Procfile: one process type a line, ``web: python app.py --port $PORT``.

Parsing names the line it stumbles over. `argv` turns a line into what a container runs: directly where the line is
plain words, so that it works in images without a shell; else by ``/bin/sh``, replaced by the program where possible,
because a shell that stays does not pass SIGTERM on and the app would never get its grace time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

import msgspec

from agent.errors import UserError
from proto.names import ProcessType, process_type

RELEASE = ProcessType("release")
"""Names a task to run before a release goes live; never a process to keep running."""

_LINE = re.compile(r"(?P<name>[^:\s]+)\s*:(?P<command>.*)")
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_BUILTIN = r"(?:\.|cd|command|eval|exec|export|set|source|trap|ulimit|umask|unset)\s"
_NEEDS_SHELL = re.compile(rf"[$`*?\[\]{{}}~<>|&;()!#\n]|^\w+=|^{_BUILTIN}")
_NO_EXEC = re.compile(rf"[|&;()\n]|^(?:\w+=|{_BUILTIN}|[!{{]\s|(?:if|for|while|until|case)\s)")


class Procfile(msgspec.Struct, frozen=True):
    """What a Procfile says, in its order."""

    processes: Mapping[ProcessType, str] = {}
    """The command lines of all process types but ``release``."""
    release: str | None = None
    """The command line of ``release``."""


def parse_procfile(content: bytes, *, name: str = "Procfile") -> Procfile:
    """Return what the file says. `name` is the one to use in errors.

    Raises:
        UserError: ``procfile.invalid``, with the line's number.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(name, line=content[: error.start].count(b"\n") + 1, problem="is not UTF-8 text") from error
    processes: dict[ProcessType, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        process, command = _parse_line(stripped, name=name, number=number)
        if process in processes:
            raise _invalid(name, line=number, problem=f"says again what {process} is")
        processes[process] = command
    if not processes:
        raise UserError("procfile.invalid", f"{name} names no process.", "Write a line such as: web: ./server")
    release = processes.pop(RELEASE, None)
    return Procfile(processes=processes, release=release)


def argv(command: str, *, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a container runs for a Procfile line, in place of the image's CMD.

    `environment`: the variables whose value is the agent's to give, such as ``PORT``; they are filled in here, all
    other ``$NAME`` are left to a shell in the container.
    """
    filled = _fill(command, environment)
    if not _NEEDS_SHELL.search(filled):
        try:
            return tuple(shlex.split(filled))
        except ValueError:
            pass  # an open quote: the shell says so better than we could
    return ("/bin/sh", "-c", filled if _NO_EXEC.search(filled) else f"exec {filled}")


def _parse_line(line: str, *, name: str, number: int) -> tuple[ProcessType, str]:
    if line.startswith(_CONFLICT):
        raise _invalid(name, line=number, problem="holds the mark of an unresolved merge conflict")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _invalid(name, line=number, problem="is not of the form `process: command`")
    command = match["command"].strip()
    if not command:
        raise _invalid(name, line=number, problem=f"gives no command for {match['name'][:63]}")
    if any(not (character.isprintable() or character == "\t") for character in command):
        raise _invalid(name, line=number, problem="holds a control character")
    try:
        return process_type(match["name"]), command
    except ValueError as error:
        problem = "has a process name that is not 1 to 63 of A-Z, a-z, 0-9, - and _"
        raise _invalid(name, line=number, problem=problem) from error


def _fill(command: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return environment.get(match[1] or match[2], match[0])

    return _VARIABLE.sub(value, command)


def _invalid(name: str, *, line: int, problem: str) -> UserError:
    return UserError("procfile.invalid", f"Line {line} of {name} {problem}.", "Mend the line, commit and push again.")
