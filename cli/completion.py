"""Completion in shells: the scripts, and what they call.

The candidates are the server's own commands, flags and apps. The list of commands is kept for a day, so that the
first word completes without the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from cli import places, ssh
from cli.ssh import Terminals
from cli.trouble import Trouble

KEPT_SECONDS = 86_400
"""A day: new commands come with a new version of the server only."""

OWN = ("completion", "link")
"""Commands of the client itself."""

SCRIPTS = {
    "bash": """\
_pushboat() {
  local line="${COMP_LINE:0:COMP_POINT}" word colon="" IFS=$'\\n'
  word="${line##* }"
  COMPREPLY=($(pushboat __complete "$line" 2>/dev/null))
  if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then
    colon="${word%"${word##*:}"}"
    COMPREPLY=("${COMPREPLY[@]#"$colon"}")
  fi
}
complete -o default -F _pushboat pushboat
""",
    "zsh": """\
#compdef pushboat
_pushboat() {
  local -a found
  found=(${(f)"$(pushboat __complete "${(j: :)words[1,CURRENT]}" 2>/dev/null)"})
  compadd -a found
}
compdef _pushboat pushboat
""",
    "fish": """\
complete -c pushboat -f -a '(pushboat __complete (commandline -cp) 2>/dev/null)'
""",
}


def print_script(words: Sequence[str]) -> int:
    """Print the script for a shell.

    Raises:
        Trouble: there is none for it.
    """
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise Trouble("pushboat completion needs a shell.", f"Usage: pushboat completion {'|'.join(SCRIPTS)}")
    sys.stdout.write(SCRIPTS[words[0]])
    return 0


def complete(words: Sequence[str]) -> int:
    """Print what the end of a command line may become, one candidate a line. Never complains."""
    line = words[0] if words else ""
    typed = [*line.split(), *([""] if line[-1:].isspace() or not line else [])][1:] or [""]
    try:
        place = places.find(os.environ)
    except Trouble:
        place = None
    if len(typed) == 1:
        known = [*OWN, *(_commands(place) if place else [])]
        found = [name for name in sorted(known) if name.startswith(typed[0])]
    else:
        found = _ask(place, typed) if place and typed[0] not in OWN else []
    sys.stdout.write("".join(f"{name}\n" for name in found))
    return 0


def _commands(place: places.Place) -> list[str]:
    """Return the server's commands, kept from an earlier time if that is not long ago."""
    path = _kept(place)
    names = _read_kept(path)
    if names is None:
        names = _ask(place, [""])
        if names:
            _keep(path, names)
    return names


def _read_kept(path: str) -> list[str] | None:
    try:
        if time.time() - os.stat(path).st_mtime >= KEPT_SECONDS:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return None


def _ask(place: places.Place, words: Sequence[str]) -> list[str]:
    command = ssh.command_line(
        place,
        ["complete", "--", *words],
        terminals=Terminals(stdin=False, stdout=False),
        control_folder=ssh.control_folder(os.environ),
        is_batch=True,
    )
    try:
        asked = subprocess.run(
            command,
            env=ssh.environment_for(place, os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return []
    return asked.stdout.splitlines() if asked.returncode == 0 else []


def _kept(place: places.Place) -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = "".join(character if character.isalnum() else "-" for character in f"{place.host}-{place.port}")
    return os.path.join(base, "pushboat", f"commands-{name}")


def _keep(path: str, names: Sequence[str]) -> None:
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(fresh, "w", encoding="utf-8") as file:
            file.write("".join(f"{name}\n" for name in names))
        os.replace(fresh, path)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
