"""Notices of the engine: told for replicas of ours, and taken up again whenever the stream ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.docker import events
from agent.docker.events import EngineEvents
from agent.errors import Unavailable
from agent.schedulers.docker import DockerScheduler
from proto.names import AppId
from tests.fakes.terminal import FakeTerminal
from tests.support.docker import Corner
from tests.support.scripted_engine import http, scripted


async def test_every_reconnect_is_a_notice_about_everything(tmp_path: Path) -> None:
    streams = [
        b'{"Actor": {"Attributes": {"com.pushboat.app-id": "a1"}}}\n{"Actor": {"Attr',
        b"nonsense\n",
        b'{"Actor": {"Attributes": {"com.pushboat.app-id": "a2"}}}\n{"Actor": {}}\n',
    ]

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + streams.pop(0))
        await writer.drain()
        if not streams:
            await reader.read()
        writer.close()

    notices: asyncio.Queue[AppId | None] = asyncio.Queue()
    async with scripted(tmp_path, answer) as (engine, _), asyncio.timeout(20):
        watching = asyncio.create_task(EngineEvents(engine).watch(notices.put_nowait))
        assert [await notices.get() for _ in range(5)] == [None, "a1", None, None, "a2"]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_the_return_of_an_engine_that_hung_is_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ASK_SECONDS", 0.01)
    hung = asyncio.Event()

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "/events" in request:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            await writer.drain()
        await (reader.read() if "/events" in request or hung.is_set() else asyncio.sleep(0))
        writer.write(http(200, b"OK"))

    notices: asyncio.Queue[AppId | None] = asyncio.Queue()
    async with scripted(tmp_path, answer) as (engine, _), asyncio.timeout(20):
        watching = asyncio.create_task(EngineEvents(engine).watch(notices.put_nowait))
        assert await notices.get() is None
        hung.set()
        with pytest.raises(Unavailable):
            await engine.fetch("GET", "containers/json", timeout=0.05)
        assert not await engine.answers()
        assert notices.empty()
        hung.clear()
        assert await notices.get() is None
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.real
async def test_checks_and_one_offs_give_no_notices(docker: Corner) -> None:
    scheduler = DockerScheduler(docker.engine, bridges=docker.bridges)
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], lambda _: None)
    notices: asyncio.Queue[AppId | None] = asyncio.Queue()
    watching = asyncio.create_task(scheduler.watch(notices.put_nowait))
    async with asyncio.timeout(20):
        assert await notices.get() is None
        for _ in range(3):
            terminal = FakeTerminal()
            terminal.type(b"")
            await scheduler.enter(wish.replica, ["echo"], terminal)
        await scheduler.run(docker.one_off("echo"), terminal)
        await docker.kill(wish.replica)
        assert await notices.get() == docker.app
    assert notices.qsize() == 0
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
