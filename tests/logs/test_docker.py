"""Real containers' output reaches the store whole, whatever happens to the agent meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agent.docker.logs import DockerLogs
from agent.handlers.logs import LogStreamer
from agent.logs.store import DiskLogStore
from agent.ports.logs import LogLine, LogQuery
from agent.ports.scheduler import ReplicaWish
from agent.schedulers.docker import DockerScheduler
from tests.fakes.core import core
from tests.fakes.world import FakeClock
from tests.support.docker import Corner, corner

pytestmark = pytest.mark.real

LINES = 20_000
CHATTY = (
    f"i=0; while [ $i -lt {LINES} ]; do echo out $i; echo err $i >&2; i=$((i+1));"
    " [ $((i%2000)) = 0 ] && sleep 0.1; done; true"
)


class Engine:
    """A corner of the real engine, and streamers that come and go over one store."""

    def __init__(self, place: Corner, store: DiskLogStore, folder: Path) -> None:
        self.place = place
        self.store = store
        self._folder = folder
        self._scheduler = DockerScheduler(place.engine, bridges=place.bridges)

    async def start(self, *command: str) -> ReplicaWish:
        wish = self.place.wish(*command)
        await self._scheduler.converge(self.place.app, [wish], lambda line: None)
        return wish

    @asynccontextmanager
    async def streamer(self) -> AsyncIterator[LogStreamer]:
        async with core(self._folder) as world:
            # Ends are told apart by when the run began, which the engine says in real time.
            world.clock.jump(time.time() - world.clock.now())
            streamer = LogStreamer(
                world.database,
                source=DockerLogs(self.place.engine),
                store=self.store,
                scheduler=self._scheduler,
                clock=world.clock,
                drain_seconds=60,
            )
            running = asyncio.ensure_future(streamer.run())
            try:
                yield streamer
            finally:
                running.cancel()
                await asyncio.wait((running,))

    async def lines(self) -> list[LogLine]:
        return [line async for page in self.store.read(self.place.app, LogQuery(last=None)) for line in page]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(corner())
        store = await stack.enter_async_context(DiskLogStore(tmp_path / "logs", clock=FakeClock()))
        yield Engine(place, store, tmp_path)


async def test_a_life_of_an_instant_is_stored_whole(engine: Engine) -> None:
    wishes = [await engine.start("sh", "-c", f"echo hello {number}; echo bye >&2") for number in range(3)]
    async with engine.streamer() as streamer:
        for wish in wishes:
            await streamer.drained(engine.place.app, wish.replica)
    for number, wish in enumerate(wishes):
        lines = [line for line in await engine.lines() if line.number == wish.number]
        written = sorted((line.stream, line.text) for line in lines if line.stream != "agent")
        assert written == [("stderr", "bye"), ("stdout", f"hello {number}")]
        assert [line.text for line in lines if line.stream == "agent"] == ["exited with status 0"]


async def test_an_agent_that_dies_again_and_again_loses_and_doubles_nothing(engine: Engine) -> None:
    wish = await engine.start("sh", "-c", CHATTY)
    has_ended = False
    for lived in range(1, 100):
        async with engine.streamer() as streamer:
            drained = asyncio.ensure_future(streamer.drained(engine.place.app, wish.replica))
            await asyncio.wait((drained,), timeout=lived * 0.03)
            has_ended = drained.done()
            drained.cancel()
            await asyncio.wait((drained,))
        if has_ended:
            break
    assert has_ended
    lines = await engine.lines()
    for stream, word in (("stdout", "out"), ("stderr", "err")):
        found = [line.text for line in lines if line.stream == stream]
        expected = [f"{word} {number}" for number in range(LINES)]
        assert (Counter(expected) - Counter(found), Counter(found) - Counter(expected)) == (Counter(), Counter())
        assert found == expected
    assert [line.text for line in lines if line.stream == "agent"] == ["exited with status 0"]
