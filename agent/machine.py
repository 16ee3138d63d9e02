"""What can be wrong with the machine itself, for ``doctor``: disk, clock, ports, permissions, limits."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

LEAST_FREE_BYTES: Final = 1 << 30
"""A build needs room for its layers; below this most do not end well."""
LEAST_FREE_SHARE: Final = 0.05
LEAST_OPEN_FILES: Final = 4096
"""Each ssh connection, followed log and watcher holds one or two."""
CLOCK_TOLERANCE_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 2.0
SECRETS: Final = ("key", "pushboat.db", "ssh_host_key", "local_key")
"""Files of the data folder that nobody else may read."""

Problem = tuple[str, str]


class Machine:
    """Looks at the machine that the agent runs on."""

    def __init__(self, folder: Path, *, listens: Sequence[tuple[str, int]]) -> None:
        """`folder`: the data folder. `listens`: addresses and ports at which Pushboat should answer."""
        self._folder = folder
        self._listens = listens

    async def problems(self) -> Sequence[Problem]:
        """Return what is wrong, each with what to do. Empty: all is well. Never raises."""
        found = await asyncio.to_thread(lambda: [*self._disk(), *self._clock(), *self._permissions(), *_limits()])
        there = await asyncio.gather(*(answers(host, port) for host, port in self._listens))
        for (host, port), is_there in zip(self._listens, there, strict=True):
            if not is_there:
                found.append((f"Nothing answers at {host}:{port}.", "Look whether another program holds the port."))
        return found

    def _disk(self) -> Iterator[Problem]:
        usage = shutil.disk_usage(self._folder)
        if usage.free < max(LEAST_FREE_BYTES, usage.total * LEAST_FREE_SHARE):
            yield (
                f"The disk of {self._folder} has only {usage.free >> 20:,} MiB free.",
                "Remove what you do not need, such as apps or old images: docker system df",
            )
        files = os.statvfs(self._folder)
        if files.f_files and files.f_favail < files.f_files * LEAST_FREE_SHARE:
            yield (
                f"The file system of {self._folder} is nearly out of inodes.",
                "Remove folders with many small files.",
            )

    def _clock(self) -> Iterator[Problem]:
        newest = max((path.stat().st_mtime for path in self._folder.glob("pushboat.db*")), default=0.0)
        if newest > time.time() + CLOCK_TOLERANCE_SECONDS:
            yield ("The clock has gone back since the database was written.", "Set the clock: timedatectl")

    def _permissions(self) -> Iterator[Problem]:
        for path in (self._folder, *(self._folder / name for name in SECRETS)):
            if not path.exists():
                continue
            found = path.stat()
            if stat.S_IMODE(found.st_mode) & 0o077:
                yield (f"Others may read {path}.", f"Take that back: chmod go= {path}")
            if found.st_uid != os.geteuid():
                yield (f"{path} belongs to another user.", f"Give it back: chown {os.geteuid()} {path}")


def _limits() -> Iterator[Problem]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < LEAST_OPEN_FILES:
        yield (
            f"The agent may open only {soft} files.",
            f"Raise its limit (LimitNOFILE) to {LEAST_OPEN_FILES} or more.",
        )


_ANYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to knock for those that listen at every address."""


async def answers(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(_ANYWHERE.get(host, host), port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True
