"""What flows between a session's client and its command: whole, and never more in memory than a window."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import asyncssh

from agent.ports.session import Session
from agent.ssh.channel import WINDOW, Channel
from tests.ssh.commanded import command
from tests.ssh.conftest import House, eventually


async def test_streams_and_status_arrive_as_they_were_given(house: House) -> None:
    @command(house, "speak")
    async def speak(session: Session) -> int:
        await session.write(b"out\xff\x00")
        await session.write_error(b"err")
        return 42

    async with house.connect() as connection:
        done = await connection.run("speak", encoding=None)
    assert (done.stdout, done.stderr, done.exit_status) == (b"out\xff\x00", b"err", 42)


async def test_standard_input_arrives_whole_and_ends(house: House) -> None:
    data = os.urandom(3 << 20)

    @command(house, "count")
    async def count(session: Session) -> int:
        received = bytearray()
        while chunk := await session.read(10_000):
            assert len(chunk) <= 10_000
            received += chunk
        await session.write(b"same" if received == data else b"different")
        return 0

    async with house.connect() as connection:
        done = await connection.run("count", input=data, encoding=None)
    assert done.stdout == b"same"


async def test_a_command_that_does_not_read_holds_up_its_client_alone(house: House) -> None:
    finish = asyncio.Event()

    @command(house, "deaf")
    async def deaf(session: Session) -> int:
        await finish.wait()
        return 0

    async with house.connect() as connection:
        process = await connection.create_process("deaf", encoding=None)
        process.stdin.write(b"x" * (16 << 20))
        assert (await connection.run("hello", encoding=None)).stdout == b"ann: hello"
        sent = 16 << 20
        assert sum(_held(house)) <= WINDOW < sent
        finish.set()
        process.stdin.close()
        async with asyncio.timeout(10):
            assert (await process.wait()).exit_status == 0


def _held(house: House) -> list[int]:
    """Return how much of its client's input each session holds, unread."""
    parts = [[*channel._input, *(data for data, _ in channel._channel._recv_buf)] for channel in _channels(house)]
    return [sum(map(len, part)) for part in parts]


def _channels(house: House) -> set[Any]:
    tasks = house.listener._sessions
    frames = [frame for task in tasks for frame in task.get_stack()]
    found = {frame.f_locals.get("channel") for frame in frames}
    return {channel for channel in found if isinstance(channel, Channel)}


async def test_a_command_that_reads_slowly_holds_no_more_than_a_window(house: House) -> None:
    """asyncssh lets a client send a whole window more with each piece that is read, however small."""
    held: list[int] = []

    @command(house, "sip")
    async def sip(session: Session) -> int:
        while sum(_held(house)) <= WINDOW // 2:
            await asyncio.sleep(0.001)
        for _ in range(400):
            assert len(await session.read(10_000)) <= 10_000
            for _ in range(20):
                await asyncio.sleep(0)
            held.extend(_held(house))
        while await session.read():
            pass
        return 0

    async with house.connect() as connection:
        process = await connection.create_process("sip", encoding=None)
        process.stdin.write(b"x" * (32 << 20))
        process.stdin.write_eof()
        async with asyncio.timeout(30):
            assert (await process.wait()).exit_status == 0
    assert WINDOW // 2 < max(held) <= WINDOW


async def test_a_window_of_single_bytes_takes_no_more_memory_than_one_of_large_packets(house: House) -> None:
    @command(house, "deaf")
    async def deaf(session: Session) -> int:
        await session.gone()
        return 0

    async with house.connect() as connection:
        process = await connection.create_process("deaf", encoding=None)
        await eventually(lambda: len(house.listener._sessions) == 1, what="the session has begun")
        (channel,) = _channels(house)
        data = os.urandom(200_000)
        for byte in data:
            channel.data_received(bytes([byte]), None)
        assert sum(map(sys.getsizeof, channel._input)) < 1.1 * len(data)
        assert b"".join([await channel.read(7_000) for _ in range(29)]) == data
        process.close()


async def test_writing_waits_for_a_reader_who_does_not_read(house: House) -> None:
    written = 0

    @command(house, "flood")
    async def flood(session: Session) -> int:
        nonlocal written
        while True:
            await session.write(b"x" * 65_536)
            written += 65_536

    async with house.connect() as connection:
        chan, _ = await connection.create_session(asyncssh.SSHClientSession, "flood", encoding=None)
        chan.pause_reading()
        last = -1
        while written != last:
            last = written
            await asyncio.sleep(0.3)
        assert 0 < written < (8 << 20)
        chan.abort()


async def test_a_huge_window_that_nobody_empties_does_not_fill_our_memory(house: House) -> None:
    """The window is the client's to choose; the socket below must be waited for as well."""
    written = 0

    @command(house, "flood")
    async def flood(session: Session) -> int:
        nonlocal written
        while True:
            await session.write(b"x" * 65_536)
            written += 65_536

    async with house.connect() as connection:
        await connection.create_session(asyncssh.SSHClientSession, "flood", encoding=None, window=(1 << 32) - 1)
        connection._transport.pause_reading()
        last = -1
        while written != last:
            last = written
            await asyncio.sleep(0.3)
        assert 0 < written < (32 << 20)
        connection.abort()


async def test_a_writer_learns_that_the_reader_has_gone(house: House) -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @command(house, "talk")
    async def talk(session: Session) -> int:
        await session.write(b"ready")
        await session.gone()
        assert await session.read() == b""
        try:
            await session.write(b"too late")
        except ConnectionError:
            outcome.set_result("told")
            raise
        return 0

    async with house.connect() as connection:
        process = await connection.create_process("talk", encoding=None)
        assert await process.stdout.readexactly(5) == b"ready"
        connection.abort()
    async with asyncio.timeout(10):
        assert await outcome == "told"
    await eventually(lambda: not house.listener._sessions, what="the session has ended")
