"""One process owns the data folder: an advisory lock beside the database, gone with the process that held it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

from agent.errors import Unavailable

LOCK_WAIT = 5.0
"""Seconds to wait for another process to end: an old agent that shuts down while the new one starts."""

LOCK_LOOK = 0.05
"""Seconds between looks. flock(2) can wait only by blocking a thread for good."""


@contextlib.asynccontextmanager
async def exclusive(path: Path) -> AsyncIterator[None]:
    """Hold the lock file `path` for the block. It stays on disk: removing it would let two processes lock two files.

    Raises:
        Unavailable: ``database.in-use``, another process kept it for all of `LOCK_WAIT`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await _acquire(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _acquire(descriptor: int, path: Path) -> None:
    deadline = asyncio.get_running_loop().time() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline:
                break
        await asyncio.sleep(LOCK_LOOK)
    holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
    raise Unavailable(
        "database.in-use",
        f"Another process (pid {holder}) uses Pushboat's data; it holds {path}.",
        "Give the command to the running agent, or stop it first.",
    )
