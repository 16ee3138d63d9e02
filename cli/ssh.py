"""The ssh command line: a pure function of the place, the words, and what the terminal is like."""

from __future__ import annotations

import os
import shlex
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cli.places import Place
from cli.trouble import Trouble

PERSIST_SECONDS = 600
"""How long a shared connection waits for the next command. The agent ends idle ones after an hour."""

CONTROL_PATH_LENGTH = 104
"""Bytes of a unix socket's path on the tightest system (macOS); Linux has 108."""

CONTROL_NAME = "pushboat-{key:08x}-%C"
"""With the key in it: ``%C`` is a hash of host, port and user, and no key may ride on another's connection."""

CONTROL_NAME_LENGTH = len("pushboat-01234567-") + 40 + 17
"""``%C`` is 40 digits, and ssh adds up to 17 characters while it makes the socket (ssh_config(5))."""

INTERACTIVE = ("run", "enter")
"""Commands that draw on the terminal and read keys from it."""

COLOURED = ("logs", "events")
"""Commands that are better with a terminal, which they only write to."""

SENT = ("LANG", "LC_*", "NO_COLOR", "TZ", "PUSHBOAT_APP", "PUSHBOAT_TZ")
"""Variables that go with the command. Nothing else of the environment does."""

LOCALTIME = "/etc/localtime"
"""A link to the machine's time zone (localtime(5))."""

_WITH_VALUE = ("--app", "--format")


class Terminals(NamedTuple):
    """Which of our streams are terminals."""

    stdin: bool
    stdout: bool


def become(place: Place, words: Sequence[str]) -> int:
    """Become ssh. Returns only if that cannot be.

    Raises:
        Trouble: there is no ssh, or the command is too long for the system.
    """
    terminals = Terminals(stdin=sys.stdin.isatty(), stdout=sys.stdout.isatty())
    command = command_line(place, words, terminals=terminals, control_folder=control_folder(os.environ))
    try:
        os.execvpe("ssh", command, environment_for(place, os.environ))
    except FileNotFoundError as error:
        raise Trouble("There is no ssh on this machine.", "Install OpenSSH's client.") from error
    except OSError as error:
        raise Trouble(
            f"ssh cannot be started: {error.strerror}.", "Give long values on standard input: pushboat config:import"
        ) from error
    except ValueError as error:
        raise Trouble("A command line cannot have a NUL character.", "Encode such values.") from error


def command_line(
    place: Place, words: Sequence[str], *, terminals: Terminals, control_folder: str, is_batch: bool = False
) -> list[str]:
    """Return the words to execute. `is_batch`: nobody is there to answer questions."""
    command = ["ssh", "-p", str(place.port), terminal_flag(words, terminals)]
    if control_folder:
        command += ["-o", "ControlMaster=auto", "-o", f"ControlPersist={PERSIST_SECONDS}"]
        name = CONTROL_NAME.format(key=zlib.crc32(place.key.encode()))
        command += ["-o", f"ControlPath={control_folder}/{name}"]
    if place.key:
        command += ["-i", place.key, "-o", "IdentitiesOnly=yes"]
    if place.host_key:
        known = f"/bin/echo pushboat-local {place.host_key}"
        command += ["-o", "HostKeyAlias=pushboat-local", "-o", f"KnownHostsCommand={known}"]
        command += ["-o", "UserKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes"]
    if is_batch:
        command += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]
    command += ["-o", "ServerAliveInterval=30", "-o", "LogLevel=ERROR"]
    command += ["-o", f"SendEnv={' '.join(SENT)}"]
    return [*command, "-l", place.user, "--", place.host, shlex.join(words)]


def terminal_flag(words: Sequence[str], terminals: Terminals) -> str:
    """Return ssh's flag for the terminal: ``-t`` for one like ours, ``-tt`` for one in any case, ``-T`` for none."""
    name = command_of(words)
    if name in INTERACTIVE and "--no-tty" in words:
        return "-T"
    if name in INTERACTIVE and "--force-tty" in words:
        return "-tt"
    return "-t" if name in (*INTERACTIVE, *COLOURED) and terminals.stdin and terminals.stdout else "-T"


def command_of(words: Sequence[str]) -> str:
    """Return the command's name: the first word that is no flag, nor the value of one."""
    skips = False
    for word in words:
        if skips:
            skips = False
        elif word in _WITH_VALUE:
            skips = True
        elif not word.startswith("-"):
            return word
    return ""


def environment_for(place: Place, environment: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with the linked app and the time zone added."""
    added = dict(environment)
    added.pop("PUSHBOAT_APP", None)
    if place.app:
        added["PUSHBOAT_APP"] = place.app
    zone = environment.get("PUSHBOAT_TZ") or environment.get("TZ", "").lstrip(":") or zone_of_machine()
    if zone:
        added["PUSHBOAT_TZ"] = zone
    return added


def zone_of_machine() -> str:
    """Return the machine's time zone as the tz database names it, or an empty string."""
    try:
        target = os.readlink(LOCALTIME)
    except OSError:
        return ""
    return target.partition("zoneinfo/")[2]


def control_folder(environment: Mapping[str, str]) -> str:
    """Return a folder of ours alone for the shared connection's socket, or an empty string if there is none."""
    own = os.path.expanduser("~/.cache/pushboat")
    for folder in (environment.get("XDG_RUNTIME_DIR", ""), os.path.expanduser("~/.ssh"), own):
        if folder == own:
            _make(own)
        if folder and _is_private(folder) and len(folder) + 1 + CONTROL_NAME_LENGTH < CONTROL_PATH_LENGTH:
            return folder
    return ""


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return  # A home that cannot be written to: every command gets a connection of its own.


def _is_private(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022 and "%" not in folder and " " not in folder
