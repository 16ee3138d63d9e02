"""Programs that the agent starts: git, and what matches patterns.

uvloop starts them by fork(2), for which the kernel copies the page tables of the whole agent, and nobody is served
meanwhile: 4 to 12 ms each, measured on an agent of 75 MB. ``Popen`` lends its memory until the program runs (vfork(2),
since Python 3.10) and takes 0.4 ms. So it starts them, and the loop watches their pipes and, by pidfd_open(2), their
end.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO


class Program:
    """A program that runs, or has ended. Whoever started it ends it and reads its pipes to their ends."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Begin to watch for its end."""
        self._popen = popen
        self._has_ended = asyncio.Event()
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(popen.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """Its process id, which nobody else has before `returncode` is known."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, below zero by which signal; `None` while it runs."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Return how it ended, once it has."""
        await self._has_ended.wait()
        return self._popen.wait()

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self._popen.kill()

    async def connect(self, *, limit: int) -> None:
        """Have the loop serve its pipes; `limit`: bytes that wait in a reader. For `start`."""
        self.stdout = await _reader(self._popen.stdout, limit=limit)
        self.stderr = await _reader(self._popen.stderr, limit=limit)
        self.stdin = await _writer(self._popen.stdin)

    def _reap(self) -> None:
        self._popen.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._has_ended.set()


async def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    is_fed: bool,
    tells_errors: bool = True,
    is_leader: bool = False,
    limit: int,
) -> Program:
    """Start `command`, whose output is a pipe.

    `is_fed`: whether its input is one too; else there is none. `tells_errors`: whether its standard error is; else that
    is thrown away. `is_leader`: of a session of its own. `limit`: bytes that wait in a pipe's reader.

    Raises:
        FileNotFoundError: there is no such program.
    """
    stdin = subprocess.PIPE if is_fed else subprocess.DEVNULL
    stderr = subprocess.PIPE if tells_errors else subprocess.DEVNULL
    program = Program(_popen(command, environment=environment, stdin=stdin, stderr=stderr, is_leader=is_leader))
    connecting = asyncio.ensure_future(program.connect(limit=limit))
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # Half connected, a pipe would have two owners. It takes one turn of the loop.
        await asyncio.wait((connecting,))
        program.kill()
        if program.stdin is not None:
            program.stdin.close()
        raise
    return program


def _popen(
    command: Sequence[str], *, environment: Mapping[str, str], stdin: int, stderr: int, is_leader: bool
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        bufsize=0,
        start_new_session=is_leader,
    )


class _Reading(asyncio.StreamReaderProtocol):
    """Closes the pipe at its end. uvloop would keep it open for an answer, as it does a socket."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _reader(pipe: IO[bytes] | None, *, limit: int) -> asyncio.StreamReader | None:
    if pipe is None:
        return None
    reader = asyncio.StreamReader(limit=limit)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Reading(reader), pipe)
    return reader


async def _writer(pipe: IO[bytes] | None) -> asyncio.StreamWriter | None:
    if pipe is None:
        return None
    loop = asyncio.get_running_loop()
    # Its reader is never fed: the protocol is wanted for `drain`, which waits until there is room in the pipe.
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)
