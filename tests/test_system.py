"""Word to systemd: that the agent is ready, and that its loop turns."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.system import feed_watchdog, notify


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that is told what systemd would be."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(Path(folder) / "notify"))
        told.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(Path(folder) / "notify"))
        yield told


async def test_a_loop_that_turns_is_told_again_and_again(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    feeding = asyncio.create_task(feed_watchdog())
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        assert [await loop.sock_recv(systemd, 100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    feeding.cancel()
    with suppress(asyncio.CancelledError):
        await feeding


def hang() -> None:
    """Keep the loop's own thread: whoever tells from another one would go on."""
    time.sleep(0.2)


async def test_a_loop_that_hangs_tells_nothing(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    feeding = asyncio.create_task(feed_watchdog())
    async with asyncio.timeout(10):
        assert await asyncio.get_running_loop().sock_recv(systemd, 100) == b"WATCHDOG=1"
    with suppress(BlockingIOError):
        while systemd.recv(100):
            pass
    hang()
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    feeding.cancel()
    with suppress(asyncio.CancelledError):
        await feeding


async def test_nothing_is_told_where_nobody_asks(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await feed_watchdog()
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    notify("READY=1")
    assert systemd.recv(100) == b"READY=1"
