"""Sessions that are opened and never asked for anything: they keep no connection open."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest
from asyncssh.packet import String, UInt32

from agent.ports.session import Session
from tests.ssh.conftest import Builder

Request = tuple[bytes, ...]

TERMINAL: Request = (b"pty-req", String("xterm"), UInt32(80), UInt32(24), UInt32(0), UInt32(0), String(b"\0"))
VARIABLE: Request = (b"env", String("LANG"), String("C"))
SFTP: Request = (b"subsystem", String("sftp"))
"""It is refused, and the session stays as it was."""


class Silent(asyncssh.SSHClientChannel[bytes]):
    """A session of a client that says a lot, and not what is to run."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        super().__init__(connection, asyncio.get_running_loop(), "strict", None, "strict", 1 << 20, 1 << 15)

    async def open(self, *requests: Request) -> None:
        await self._open(b"session")
        for request in requests:
            self._send_request(*request)


@pytest.mark.slow
@pytest.mark.parametrize("requests", [(), (VARIABLE, TERMINAL), (SFTP,)], ids=["open", "terminal", "subsystem"])
async def test_sessions_that_ask_for_nothing_do_not_keep_a_connection(
    open_house: Builder, requests: tuple[Request, ...]
) -> None:
    house = await open_house(idle=0.4)

    async def wait(line: str, session: Session) -> int:
        await session.gone()
        return 0

    house.dispatcher.commands["wait"] = wait
    async with house.connect() as idle, house.connect() as busy:
        process = await busy.create_process("wait")
        for connection in (idle, busy):
            for _ in range(2):
                await Silent(connection).open(*requests)
        async with asyncio.timeout(10):
            await idle.wait_closed()
            assert not busy.is_closed()
            process.close()
            await busy.wait_closed()


async def test_silent_sessions_count_among_those_of_a_connection(open_house: Builder) -> None:
    house = await open_house(max_sessions=2)
    async with house.connect() as connection:
        for _ in range(2):
            await Silent(connection).open()
        with pytest.raises(asyncssh.ChannelOpenError, match="At most 2 sessions"):
            await Silent(connection).open()
