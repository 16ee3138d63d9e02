"""Those who follow an app's lines: sessions of ``logs -t`` over ssh, and beside them followers of the engine's own.

Each notes how long after a line was written it had it. Sessions share connections, as many windows of one person
would. The engine is asked by its API as the docker command does, with a socket for each follower.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncssh

from bench.log_outputs import delay
from scripts.house.addresses import LOOPBACK
from scripts.house.engine import SOCKET
from tests.support.rig import Rig

USER = "pushboat"
OPENING = 20
"""Sessions that are opened at once."""


class Delays:
    """How late lines came, over all followers of a kind."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def note(self, text: bytes) -> None:
        """Take note of a line that has just come."""
        self.seconds.append(delay(text.decode(), now=time.time()))

    def p99(self) -> float:
        """Return the slowest hundredth."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


class _Lines:
    """Splits what comes into lines."""

    def __init__(self, told: Callable[[bytes], None]) -> None:
        self._told = told
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._told(line)


class _Session(asyncssh.SSHClientSession[bytes]):
    def __init__(self, delays: Delays) -> None:
        self._lines = _Lines(delays.note)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """See `asyncssh.SSHClientSession`."""
        self._lines.feed(data)


class _Follow(asyncio.Protocol):
    """One answer of the engine to a follow, frames and all: a line's text begins with its number of ten digits."""

    def __init__(self, container: str, delays: Delays) -> None:
        self._container = container
        self._delays = delays
        self._lines = _Lines(self._told)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.WriteTransport)
        target = f"/v1.41/containers/{self._container}/logs?stdout=1&follow=1&tail=0"
        transport.write(f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Take what comes."""
        self._lines.feed(data)

    def _told(self, line: bytes) -> None:
        if line.endswith(b"."):
            self._delays.note(line[8:])


@asynccontextmanager
async def sessions(r: Rig, app: str, count: int, *, per_connection: int) -> AsyncIterator[Delays]:
    """Let so many sessions of ``logs -t`` follow an app during the block."""
    delays = Delays()
    async with AsyncExitStack() as stack:
        for start in range(0, count, per_connection):
            connection = await asyncssh.connect(
                LOOPBACK,
                r.ports[0],
                username=USER,
                client_keys=[str(r.boat.key)],
                known_hosts=None,
                encryption_algs=["aes128-gcm@openssh.com"],
            )
            stack.push_async_callback(connection.wait_closed)
            stack.callback(connection.close)
            wanted = min(per_connection, count - start)
            for first in range(0, wanted, OPENING):
                await asyncio.gather(
                    *(
                        connection.create_session(lambda: _Session(delays), f"logs {app} -t -n 0 -q", encoding=None)
                        for _ in range(min(OPENING, wanted - first))
                    )
                )
        yield delays


@asynccontextmanager
async def engine_follows(container: str, count: int) -> AsyncIterator[Delays]:
    """Let so many clients of the engine follow a container during the block."""
    delays = Delays()
    loop = asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []
    try:
        for _ in range(count):
            transport, _protocol = await loop.create_unix_connection(lambda: _Follow(container, delays), SOCKET)
            transports.append(transport)
        yield delays
    finally:
        for each in transports:
            each.close()
