"""Every read is acknowledged at once, also by a transport that remembers its protocol's methods."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import asyncssh
import pytest
import uvloop

from agent.ssh.acknowledging import acknowledge_at_once

QUICKACK = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Link:
    """A socket that notes what is set on it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.options: list[tuple[int, int, int]] = []

    def fileno(self) -> int:
        return int(self._inner.fileno())

    def setsockopt(self, *option: int) -> None:
        self.options.append(cast(tuple[int, int, int], option))
        self._inner.setsockopt(*option)


class Connection(asyncio.Protocol):
    """What of an asyncssh connection matters here: its transport, its socket, its reads."""

    def __init__(self) -> None:
        self.received = b""
        self.link: Link | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.link = Link(transport.get_extra_info("socket"))
        acknowledge_at_once(cast(asyncssh.SSHServerConnection, self))

    def get_extra_info(self, name: str) -> Link | None:
        return self.link

    def data_received(self, data: bytes, datatype: object = None) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_option_is_set_anew_after_each_read(new_loop: Any) -> None:
    async def talk() -> None:
        made: list[Connection] = []

        def factory() -> Connection:
            made.append(Connection())
            return made[0]

        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for count in (1, 2, 3):
            writer.write(b"x")
            async with asyncio.timeout(10):
                while not made or len(made[0].received) < count:
                    await asyncio.sleep(0)
        writer.close()
        await made[0].lost.wait()
        server.close()
        assert made[0].link is not None
        assert made[0].link.options == [QUICKACK] * 3

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(talk())
