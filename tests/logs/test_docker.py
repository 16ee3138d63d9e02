"""Real containers' output reaches the store whole, whatever happens to the agent meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from agent.docker.file_changes import FileChanges
from agent.docker.logs import DockerLogs
from agent.handlers.logs import LogStreamer
from agent.logs.store import DiskLogStore
from agent.ports.logs import LogLine, LogQuery, Missed
from agent.ports.scheduler import ReplicaWish
from agent.schedulers.docker import DockerScheduler
from proto.names import AppId
from tests.fakes.core import core
from tests.fakes.world import FakeClock
from tests.support.docker import Corner, corner, token

pytestmark = pytest.mark.real

LINES = 20_000
CHATTY = (
    f"i=0; while [ $i -lt {LINES} ]; do echo out $i; echo err $i >&2; i=$((i+1));"
    " [ $((i%2000)) = 0 ] && sleep 0.1; done; true"
)

TOGETHER = 10
"""Replicas that write at the same time."""
ON_SIGNAL = 'trap "{0}; exit" USR1; echo ready; while :; do sleep 0.05; done'
"""Does that once it gets the signal."""


class Engine:
    """A corner of the real engine, and streamers that come and go over one store."""

    def __init__(self, place: Corner, store: DiskLogStore, folder: Path, changes: FileChanges | None) -> None:
        """`changes`: for reading the engine's files; `None`: its stream is read."""
        self.place = place
        self.store = store
        self._folder = folder
        self._changes = changes
        self._scheduler = DockerScheduler(place.engine, bridges=place.bridges)

    async def start(self, *command: str) -> ReplicaWish:
        return (await self.start_many(*command, count=1))[0]

    async def start_many(self, *command: str, count: int, app: AppId | None = None) -> list[ReplicaWish]:
        app = self.place.app if app is None else app
        wishes = [self.place.wish(*command, app=app) for _ in range(count)]
        await self._scheduler.converge(app, wishes, lambda line: None)
        return wishes

    @asynccontextmanager
    async def streamer(self) -> AsyncIterator[LogStreamer]:
        async with core(self._folder) as world:
            # Ends are told apart by when the run began, which the engine says in real time.
            world.clock.jump(time.time() - world.clock.now())
            streamer = LogStreamer(
                world.database,
                source=DockerLogs(self.place.engine, changes=self._changes),
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


@pytest.fixture(params=["files", "stream"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(corner())
        store = await stack.enter_async_context(
            DiskLogStore(tmp_path / "logs", clock=FakeClock(), budget_app_bytes=64 << 20)
        )
        changes = FileChanges() if request.param == "files" else None
        if changes is not None:
            stack.callback(changes.close)
        yield Engine(place, store, tmp_path, changes)


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


async def test_replicas_that_write_at_once_are_stored_whole_each_line_once_and_in_order(engine: Engine) -> None:
    wishes = await engine.start_many("sh", "-c", ON_SIGNAL.format(f"seq 1 {LINES}"), count=TOGETHER)
    app = engine.place.app
    async with engine.streamer() as streamer, asyncio.timeout(60):
        drained = [asyncio.ensure_future(streamer.drained(app, wish.replica)) for wish in wishes]
        async with aclosing(engine.store.follow(app, LogQuery(last=None))) as batches:
            ready = 0
            while ready < TOGETHER:
                ready += len(lines_in(await anext(batches)))
        for wish in wishes:
            await engine.place.kill(wish.replica, "USR1")
        await asyncio.gather(*drained)
    lines = await engine.lines()
    expected = ["ready", *(str(number) for number in range(1, LINES + 1))]
    for wish in wishes:
        assert [one.text for one in lines if one.number == wish.number and one.stream == "stdout"] == expected
    assert len(lines) == TOGETHER * (len(expected) + 1), "and a note of each one's end"


async def test_a_word_of_a_calm_app_comes_through_while_another_app_floods(engine: Engine) -> None:
    calm_app = AppId(token("a"))
    (loud,) = await engine.start_many("yes", "noise " * 20, count=1)
    (calm,) = await engine.start_many("sh", "-c", ON_SIGNAL.format("echo hello"), count=1, app=calm_app)
    async with engine.streamer() as streamer, asyncio.timeout(60):
        drained = [
            asyncio.ensure_future(streamer.drained(app, wish.replica))
            for app, wish in ((engine.place.app, loud), (calm_app, calm))
        ]
        async with (
            aclosing(engine.store.follow(engine.place.app, LogQuery(last=1))) as noise,
            aclosing(engine.store.follow(calm_app, LogQuery())) as words,
        ):
            heard = [one.text for one in lines_in(await anext(words))]
            before = (await anext(noise), await anext(noise))
            await engine.place.kill(calm.replica, "USR1")
            while "hello" not in heard:
                heard += [one.text for one in lines_in(await anext(words))]
            after = [await anext(noise) for _ in range(3)]
        assert heard[:2] == ["ready", "hello"]
        assert before and after, "it floods as before"
        for task in drained:
            task.cancel()
        await asyncio.wait(drained)


def lines_in(batch: Sequence[LogLine] | Missed) -> Sequence[LogLine]:
    return () if isinstance(batch, Missed) else batch
