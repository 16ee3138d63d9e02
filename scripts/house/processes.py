"""Processes that outlive the program that started them, known by pid and start time.

A pid alone is not an identity: numbers are given again, and where process 1 reaps nobody a dead process stays as a
zombie that ``kill -0`` finds alive. Signals go through a pidfd (pidfd_open(2), Linux 5.3), which cannot hit a
stranger that got the number meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process, for ever."""

    pid: int
    started: int
    """Clock ticks since boot: field 22 of /proc/PID/stat, proc(5)."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return find(self.pid) == self

    def save(self, path: Path) -> None:
        """Write it down, for the next program that looks for it."""
        path.write_text(f"{self.pid} {self.started}\n")


def find(pid: int) -> Process | None:
    """Return the living process that has this pid, or `None`."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name (field 2) is in parentheses and may hold anything, so count from the last one.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else Process(pid, int(fields[18]))


def load(path: Path) -> Process | None:
    """Return the process that was written down at `path`, if it still lives."""
    try:
        pid, started = (int(word) for word in path.read_text().split())
    except (FileNotFoundError, ValueError):
        return None
    process = Process(pid, started)
    return process if process.is_alive else None


def spawn(command: Sequence[str], *, log: Path, environment: Mapping[str, str], folder: Path) -> Process:
    """Start `command` in a session of its own, its output appended to `log`, and return it."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    _children.append(child)
    process = find(child.pid)
    return process or Process(child.pid, 0)


_children: list[subprocess.Popen[bytes]] = []
"""Our own, kept so that they can be reaped here: as zombies they would hold their pids."""


def end(process: Process, *, seconds: float = 15.0) -> bool:
    """Make a process end: SIGTERM, and SIGKILL after `seconds`. Return whether SIGTERM was enough. Gone is fine."""
    return _signal(process, signal.SIGTERM, seconds) or not _signal(process, signal.SIGKILL, seconds)


def kill(process: Process, *, seconds: float = 15.0) -> None:
    """End a process by SIGKILL and wait until it has ended. Gone is fine."""
    _signal(process, signal.SIGKILL, seconds)


def _signal(process: Process, number: signal.Signals, seconds: float) -> bool:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.is_alive:
            return True
        signal.pidfd_send_signal(descriptor, number)
        # A pidfd becomes readable when its process has ended, reaped or not.
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
        _reap()


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def naming(text: str, *, programs: tuple[str, ...] = ("",)) -> list[Process]:
    """Return the living processes with `text` in their command line, this one left out.

    `programs`: how the names of their programs begin, if not all are meant. Whoever reads or edits a file of a folder
    names it, too, and is not that folder's.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and text in _command_line(entry):
            if not _name(entry).startswith(programs):
                continue
            process = find(int(entry.name))
            if process:
                found.append(process)
    return found


def listens(process: Process, port: int) -> bool:
    """Tell whether a process, and nobody else in its place, listens on a TCP port. Format: proc_net_tcp in proc(5)."""
    held = _sockets(process)
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port and f"socket:[{inode}]" in held:
                return True
    return False


def _sockets(process: Process) -> set[str]:
    held = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # Closed since: the one that lists the folder always is.
                held.add(os.readlink(entry))
    return held


_LISTEN = "0A"
"""TCP_LISTEN of the kernel's tcp_states.h."""


def _name(entry: Path) -> str:
    """Return the name of a process's program, its first 15 characters (comm in proc(5)); empty if it has gone."""
    try:
        return (entry / "comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _command_line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
