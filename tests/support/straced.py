"""An agent run under strace, which meddles with its n-th sync: kills it there, or has the disk fail.

The agent stays the child of whoever started it, with the pid that he knows (``strace -D``). strace counts for each
thread apart. Those of the agent that call fdatasync(2) are SQLite's, and one alone of them writes: so the n-th sync of
a thread is the agent's n-th commit, its start included. What the agent starts is traced as well, and git and HAProxy
call fsync(2), if anything.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from scripts.house.boat import Boat

KILL = "signal=SIGKILL"
"""Ends the agent as the n-th sync begins: what it writes is there, and never acknowledged."""
FAIL = "error=EIO"
"""Has the n-th sync fail."""

_SYNC = re.compile(r"^(?P<thread>\d+) +fdatasync\(", re.MULTILINE)


class Straced:
    """Makes each further start of `boat` one under strace, until `off`."""

    def __init__(self, boat: Boat, folder: Path) -> None:
        strace = shutil.which("strace")
        assert strace, "strace is not installed"
        self._boat = boat
        self._strace = strace
        self._script = folder / "straced"
        self._record = folder / "syncs"

    def on(self, meddling: str = "", *, at: int = 0) -> None:
        """Meddle with the agent's sync number `at`, from 1, or just count."""
        inject = ["-e", f"inject=fdatasync:{meddling}:when={at}"] if meddling else []
        traced = ["-D", "-f", "-qq", "-o", str(self._record), "-e", "trace=fdatasync", "-e", "signal=none", *inject]
        command = shlex.join([self._strace, *traced, sys.executable])
        self._script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self._script.chmod(0o755)
        self._boat.python = str(self._script)

    def off(self) -> None:
        """Start the agent plainly from now on."""
        self._boat.python = sys.executable

    @property
    def syncs(self) -> int:
        """How many syncs the thread has seen that made most of them: the one that commits."""
        threads = [found["thread"] for found in _SYNC.finditer(self._record.read_text())]
        return max((threads.count(thread) for thread in set(threads)), default=0)
