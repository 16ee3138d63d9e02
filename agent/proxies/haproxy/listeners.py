"""Who holds a TCP port of this machine: the kernel's table of sockets, matched with the open files of processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent.proxies.haproxy.binds import Bind

_LISTENING: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)."""


def who_listens(bind: Bind) -> str:
    """Return ``nginx (process 812)`` for who listens on that port at any address; empty if it cannot be seen.

    Other users' processes show their files to root only. Blocks for some milliseconds: call it in a thread.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(bind.port)}
    if not sockets:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        if sockets & _files(process):
            return f"{_name(process)} (process {process.name})"
    return "a process of another user"


def _inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            words = line.split()
            if words[3] == _LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found


def _files(process: Path) -> set[str]:
    files: set[str] = set()
    try:
        for descriptor in (process / "fd").iterdir():
            files.add(os.readlink(descriptor))
    except OSError:
        # Ended meanwhile, or not ours to see: what was seen so far counts.
        return files
    return files


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"
