"""Programs that the agent starts: git, and what matches patterns.

uvloop starts them by fork(2), for which the kernel copies the page tables of the whole agent, and nobody is served
meanwhile: 4 to 12 ms each, measured on an agent of 75 MB. ``Popen`` lends its memory until the program runs (vfork(2),
since Python 3.10) and takes 0.4 ms. So it starts them, and the loop watches their streams and, by pidfd_open(2), their
end.

The streams are sockets, as uvloop's own are. It closes a pipe that it was given twice, by libuv and by Python, and the
second time the number may be that of a file which another thread has just opened. A socket it detaches.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence


class Program:
    """A program that runs, or has ended. Whoever started it ends it and reads its streams to their ends."""

    def __init__(self, popen: subprocess.Popen[bytes], streams: Mapping[str, socket.socket]) -> None:
        """Begin to watch for its end. `streams`: our ends of its standard streams, by name."""
        self._popen = popen
        self._streams = streams
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
        """Have the loop serve its streams; `limit`: bytes that wait in a reader. For `start`."""
        self.stdout = await _reader(self._streams.get("stdout"), limit=limit)
        self.stderr = await _reader(self._streams.get("stderr"), limit=limit)
        self.stdin = await _writer(self._streams.get("stdin"))

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
    """Start `command`, whose output is read.

    `is_fed`: whether its input is one too; else there is none. `tells_errors`: whether its standard error is; else that
    is thrown away. `is_leader`: of a session of its own. `limit`: bytes that wait in a stream's reader.

    Raises:
        FileNotFoundError: there is no such program.
    """
    wanted = {"stdin": is_fed, "stdout": True, "stderr": tells_errors}
    pairs = {name: socket.socketpair() for name, is_wanted in wanted.items() if is_wanted}
    ours = {name: pair[0] for name, pair in pairs.items()}
    theirs = {name: pair[1] for name, pair in pairs.items()}
    try:
        program = Program(_popen(command, environment=environment, streams=theirs, is_leader=is_leader), ours)
    except BaseException:
        for end in ours.values():
            end.close()
        raise
    finally:
        for end in theirs.values():
            end.close()
    connecting = asyncio.ensure_future(program.connect(limit=limit))
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # Half connected, a stream would have two owners. It takes one turn of the loop.
        await asyncio.wait((connecting,))
        program.kill()
        if program.stdin is not None:
            program.stdin.close()
        raise
    return program


def _popen(
    command: Sequence[str], *, environment: Mapping[str, str], streams: Mapping[str, socket.socket], is_leader: bool
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=streams["stdin"].fileno() if "stdin" in streams else subprocess.DEVNULL,
        stdout=streams["stdout"].fileno(),
        stderr=streams["stderr"].fileno() if "stderr" in streams else subprocess.DEVNULL,
        env=environment,
        bufsize=0,
        start_new_session=is_leader,
    )


class _Reading(asyncio.StreamReaderProtocol):
    """Closes the stream at its end, where a socket would be kept open for an answer."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _reader(stream: socket.socket | None, *, limit: int) -> asyncio.StreamReader | None:
    if stream is None:
        return None
    stream.setblocking(False)
    reader = asyncio.StreamReader(limit=limit)
    await asyncio.get_running_loop().create_unix_connection(lambda: _Reading(reader), sock=stream)
    return reader


async def _writer(stream: socket.socket | None) -> asyncio.StreamWriter | None:
    if stream is None:
        return None
    stream.setblocking(False)
    loop = asyncio.get_running_loop()
    # What its reader is fed nobody reads: the protocol is wanted for `drain`, which waits until there is room.
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=stream)
    return asyncio.StreamWriter(transport, protocol, None, loop)
