"""An agent run under strace, which meddles with its n-th sync or write of the database (kills it there, or has the disk
fail), or notes what it and everything below it starts.

The agent stays the child of whoever started it, with the pid that he knows (``strace -D``). strace counts for each
thread apart. Those of the agent that call fdatasync(2) or pwrite64(2) are SQLite's, and one alone of them writes: so
the n-th sync of a thread is the agent's n-th commit, its start included. What the agent starts is traced as well, and
git and HAProxy call fsync(2) and write(2), if anything.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

from scripts.house.boat import Boat
from tests.support.shell_ban import SHELLS

Call = Literal["fdatasync", "pwrite64"]
SYNC: Call = "fdatasync"
WRITE: Call = "pwrite64"

KILL = "signal=SIGKILL"
"""Ends the agent as the n-th call begins: what it wrote until then is there, and never acknowledged."""
FAIL = "error=EIO"
"""Has the n-th call fail."""

_STARTED = re.compile(r'execve(?:at)?\((?:AT_FDCWD, )?"(?P<path>[^"]*)", \[(?P<words>.*?)\](?:, |\.\.\.)')
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>fdatasync|pwrite64)\(", re.MULTILINE)


class Straced:
    """Makes each further start of `boat` one under strace, until `off`."""

    def __init__(self, boat: Boat, folder: Path) -> None:
        strace = shutil.which("strace")
        assert strace, "strace is not installed"
        self._boat = boat
        self._strace = strace
        self._script = folder / "straced"
        self._record = folder / "calls"

    def on(self, meddling: str = "", *, call: Call = SYNC, at: int = 0) -> None:
        """Meddle with the agent's call number `at`, from 1, or just count all that there are of each kind."""
        meant = ["-e", f"inject={call}:{meddling}:when={at}"] if meddling else []
        self._trace("-e", f"trace={call if meddling else f'{SYNC},{WRITE}'}", *meant)

    def watch_programs(self) -> None:
        """Note each program that the agent, or what it has started, becomes."""
        # Only the calls that are asked for stop, so that all else is as quick as ever.
        self._trace("--seccomp-bpf", "-s", "200", "-e", "trace=execve,execveat")

    def _trace(self, *what: str) -> None:
        traced = ["-D", "-f", "-qq", "-o", str(self._record), "-e", "signal=none", *what]
        command = shlex.join([self._strace, *traced, sys.executable])
        self._script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self._script.chmod(0o755)
        self._boat.python = str(self._script)

    def off(self) -> None:
        """Start the agent plainly from now on."""
        self._boat.python = sys.executable

    def count(self, call: Call) -> int:
        """Return how many of these calls the thread has made that made most of them: the one that commits."""
        found = _CALL.finditer(self._record.read_text(errors="replace"))
        threads = Counter(one["thread"] for one in found if one["call"] == call)
        return max(threads.values(), default=0)

    @property
    def programs(self) -> list[tuple[str, list[str]]]:
        """What was started, each by its path and its words."""
        return programs_in(self._record.read_text(errors="replace"))


def programs_in(record: str) -> list[tuple[str, list[str]]]:
    """Return what was started by strace's record, by path and words; what was looked for in vain is left out."""
    return [
        (found["path"], _WORD.findall(found["words"]))
        for line in record.splitlines()
        if (found := _STARTED.search(line)) and " = -1 " not in line
    ]


def is_shell(path: str, words: list[str]) -> bool:
    """Tell whether a program that was started is a shell, by its name or its first line."""
    names = [path, *words[:1]]
    if path.endswith("busybox") or words[:1] == ["busybox"]:
        names += words[1:2]
    try:
        with Path(path).open("rb") as file:
            first = file.readline(200)
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        names += first[2:].decode(errors="replace").split()
    return any(SHELLS.fullmatch(name.lstrip("-")) for name in names)
