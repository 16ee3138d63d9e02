"""``POST /session``: a connection over which the engine becomes the client, and asks us.

The connection is turned from HTTP/1.1 into HTTP/2 without TLS ("h2c") by ``Upgrade`` (docs of API 1.41, "Session"), and
from then on the engine opens streams on it. What answers them is any asyncio protocol that speaks HTTP/2 as a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

from agent.docker.engine import CALL_SECONDS, CONNECT_SECONDS, Engine, Faulted
from agent.docker.raw import HEAD_LIMIT
from agent.errors import Unavailable

_LOST: Final = "The connection to Docker was lost."


class _Upgrade(asyncio.Protocol):
    """Reads the head of the answer, then leaves the connection to `successor`."""

    def __init__(self, successor: asyncio.Protocol) -> None:
        self._successor = successor
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if self.done.done() or self._transport is None:
            return
        if not end:
            if len(self._head) > HEAD_LIMIT:
                self.done.set_exception(Unavailable("docker.unavailable", _LOST))
            return
        status = head.split(b" ", 2)[1:2]
        if status != [b"101"]:
            code = int(status[0]) if status and status[0].isdigit() else 500
            self.done.set_exception(Faulted(code, rest.decode(errors="replace").strip()[:500]))
            return
        self._transport.set_protocol(self._successor)
        self._successor.connection_made(self._transport)
        if rest:
            self._successor.data_received(rest)
        self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(Unavailable("docker.unavailable", _LOST))


@asynccontextmanager
async def upgraded(
    engine: Engine, server: asyncio.Protocol, *, headers: Sequence[tuple[str, str]]
) -> AsyncIterator[None]:
    """Have `server` answer the engine during the block; leaving it closes the connection.

    Raises:
        Unavailable: the engine does not answer, or does not want to ask us.
    """
    head = session_head(await engine.api_version(), headers=headers)
    upgrade = _Upgrade(server)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            transport, _ = await asyncio.get_running_loop().create_unix_connection(
                lambda: upgrade, engine.socket.removeprefix("unix://")
            )
    except (OSError, TimeoutError) as error:
        raise Unavailable("docker.unavailable", "Docker does not answer at its socket.") from error
    try:
        transport.write(head)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await upgrade.done
        except TimeoutError as error:
            raise Unavailable("docker.unavailable", "Docker took too long to answer.") from error
        yield
    finally:
        transport.close()


def session_head(version: str, *, headers: Sequence[tuple[str, str]]) -> bytes:
    """Return the request. `headers` say which session it is, and what can be asked in it."""
    lines = [f"POST /{version}/session HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: h2c"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode()
