"""What replicas write is stored whole: once each, through failures, restarts of the agent and short lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.errors import Unavailable
from agent.handlers import logs
from agent.handlers.logs import LogStreamer
from agent.logs.store import DiskLogStore
from agent.ports.logs import GAP, MAX_LINE, LogLine, LogQuery, Missed
from agent.state.apps import App
from agent.state.replicas import Replica
from proto.events import ReplicaLost
from tests.fakes.core import Core, core
from tests.fakes.log_source import FakeLogSource


class Streaming:
    """One live app with one replica, its log source, and streamers that come and go over the same store."""

    def __init__(self, world: Core, app: App, replica: Replica, store: DiskLogStore) -> None:
        self.world = world
        self.app = app
        self.replica = replica
        self.store = store
        self.source = FakeLogSource()

    @asynccontextmanager
    async def streamer(self, *, drain_seconds: float = 10.0) -> AsyncIterator[LogStreamer]:
        """Run a streamer, as an agent does from its start to its death."""
        streamer = LogStreamer(
            self.world.database,
            source=self.source,
            store=self.store,
            scheduler=self.world.scheduler,
            clock=self.world.clock,
            drain_seconds=drain_seconds,
        )
        running = asyncio.ensure_future(streamer.run())
        try:
            yield streamer
        finally:
            running.cancel()
            await asyncio.wait((running,))

    def write(self, *texts: str, at: int | None = None) -> None:
        self.source.write(self.replica.id, *texts, at=at)

    def exit(self, *, code: int = 0, started_at: float = 0.0) -> None:
        """Let the replica's process end."""
        status = self.world.scheduler.containers[self.replica.id]
        self.world.scheduler.containers[self.replica.id] = msgspec.structs.replace(status, started_at=started_at)
        self.world.scheduler.exit(self.replica.id, code=code)
        self.source.end(self.replica.id)

    async def lines(self) -> list[LogLine]:
        return [line async for page in self.store.read(self.app.id, LogQuery(last=None)) for line in page]

    async def texts(self) -> list[str]:
        return [line.text for line in await self.lines()]

    async def until(self, *texts: str) -> None:
        """Return once as many lines are stored; they are these."""
        found: list[str] = []
        async with asyncio.timeout(10), aclosing(self.store.follow(self.app.id, LogQuery(last=None))) as batches:
            while len(found) < len(texts):
                batch = await anext(batches)
                assert not isinstance(batch, Missed)
                found += [line.text for line in batch]
        assert found == list(texts)


@pytest.fixture
async def streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streaming]:
    monkeypatch.setattr(logs, "PAUSES", (0.01,))
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(core(tmp_path))
        store = await stack.enter_async_context(DiskLogStore(tmp_path / "logs", clock=world.clock))
        app = await world.create()
        await world.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        await world.settle()
        (replica,) = await world.database.read.replicas.of_app(app.id)
        yield Streaming(world, app, replica, store)


async def test_lines_are_stored_as_they_come(streaming: Streaming) -> None:
    streaming.write("one", "two")
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("one", "two")
        streaming.write("three")
        await streaming.until("one", "two", "three")
    line = (await streaming.lines())[0]
    assert (line.process, line.number, line.release, line.stream) == ("web", 1, 1, "stdout")


async def test_called_twice_it_follows_once(streaming: Streaming) -> None:
    streaming.write("one")
    async with streaming.streamer() as streamer:
        for _ in range(3):
            await streamer.follow(streaming.app.id)
        await streaming.until("one")
        assert len(streaming.source.followed) == 1


async def test_a_short_life_is_stored_whole_before_its_container_goes(streaming: Streaming) -> None:
    streaming.write(*(str(number) for number in range(100)))
    streaming.exit(code=3)
    async with streaming.streamer() as streamer:
        await streamer.drained(streaming.app.id, streaming.replica.id)
        assert await streaming.texts() == [*(str(number) for number in range(100)), "exited with status 3"]
        assert (await streaming.lines())[-1].stream == "agent"


async def test_draining_waits_for_the_end(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("working")
        await streaming.until("working")
        drained = asyncio.ensure_future(streamer.drained(streaming.app.id, streaming.replica.id))
        await asyncio.wait((drained,), timeout=0.02)
        assert not drained.done()
        streaming.write("last words")
        streaming.exit(code=143)
        await drained
        assert await streaming.texts() == ["working", "last words", "exited with status 143"]


async def test_an_end_that_does_not_come_holds_nobody_up_for_ever(streaming: Streaming) -> None:
    async with streaming.streamer(drain_seconds=0.02) as streamer:
        streaming.write("still here")
        await streamer.drained(streaming.app.id, streaming.replica.id)


async def test_a_container_that_is_gone_is_drained_at_once(streaming: Streaming) -> None:
    streaming.world.scheduler.vanish(streaming.replica.id)
    async with streaming.streamer() as streamer:
        await streamer.drained(streaming.app.id, streaming.replica.id)
    assert await streaming.texts() == []


async def test_after_a_restart_of_the_agent_there_is_no_gap_and_no_double(streaming: Streaming) -> None:
    expected: list[str] = []
    for round_ in range(5):
        async with streaming.streamer() as streamer:
            await streamer.follow(streaming.app.id)
            await streaming.until(*expected)
            texts = [f"{round_}.{number}" for number in range(25)]
            streaming.write(*texts)
            expected += texts
            await streaming.until(*expected)
        missed = [f"missed {round_}.{number}" for number in range(3)]
        streaming.write(*missed)
        expected += missed
    assert streaming.source.followed[-1][1] > 0


async def test_killed_at_any_batch_it_goes_on_where_it_was(streaming: Streaming) -> None:
    """Stamps repeat and step back, as those of two streams do; the agent dies after each single batch."""
    base = 1_000_000_000
    steps = [0, 0, 5, 3, 3, 900, 900, 860, 100, 899, 1_300, 1_300, 1_200, 2_000]
    stamps = [base + step * 1_000_000 for step in steps]
    for number, at in enumerate(stamps):
        streaming.write(str(number), at=at)
    streaming.source.batch_lines = 1
    real = streaming.store.append
    for _ in range(len(stamps)):
        async with streaming.streamer() as streamer:
            stored = asyncio.Event()

            async def append_and_die(*arguments: object, stored: asyncio.Event = stored) -> None:
                if stored.is_set():
                    await asyncio.Event().wait()
                await real(*arguments)  # type: ignore[arg-type]
                stored.set()

            streaming.store.append = append_and_die  # type: ignore[method-assign]
            await streamer.follow(streaming.app.id)
            await stored.wait()
    texts = await streaming.texts()
    assert sorted(texts, key=int) == [str(number) for number in range(len(stamps))]


async def test_what_the_engine_discarded_meanwhile_is_marked(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("old", at=1_000_000_000)
        await streaming.until("old")
    streaming.write(*(f"gone {number}" for number in range(20)), "kept", at=2_000_000_000)
    del streaming.source.written[streaming.replica.id][:-1]
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("old", GAP, "kept")
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("more")
        await streaming.until("old", GAP, "kept", "more")


async def test_new_lines_are_not_taken_for_those_of_the_same_moment_that_the_engine_discarded(
    streaming: Streaming,
) -> None:
    """A flood: the rotation came in the middle of a slot of time in which lines are counted."""
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        for number in range(3):
            streaming.write(f"old {number}", at=1_000_000_000 + number)
        await streaming.until("old 0", "old 1", "old 2")
    for number in range(3, 9):
        streaming.write(f"new {number}", at=1_000_000_000 + number)
    del streaming.source.written[streaming.replica.id][:5]
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("old 0", "old 1", "old 2", GAP, "new 5", "new 6", "new 7", "new 8")


async def test_another_container_of_the_same_replica_is_no_gap(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("first")
        await streaming.until("first")
    streaming.source.written.clear()
    status = streaming.world.scheduler.containers[streaming.replica.id]
    streaming.world.scheduler.containers[streaming.replica.id] = msgspec.structs.replace(status, created_at=9.0)
    streaming.write("second", at=10_000_000_000)
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("first", "second")


async def test_what_the_engine_discarded_of_a_run_that_was_restarted_in_place_is_marked(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("first run", at=1_000_000_000)
        await streaming.until("first run")
    status = streaming.world.scheduler.containers[streaming.replica.id]
    streaming.world.scheduler.containers[streaming.replica.id] = msgspec.structs.replace(status, started_at=9.0)
    streaming.write("gone", at=9_000_000_000)
    streaming.source.drop(streaming.replica.id, 2)
    streaming.write("kept", at=10_000_000_000)
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("first run", GAP, "kept")


async def test_a_streamer_that_is_stopped_lets_nobody_remove_what_was_not_read(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        drained = asyncio.ensure_future(streamer.drained(streaming.app.id, streaming.replica.id))
        await asyncio.sleep(0)
    await asyncio.wait((drained,), timeout=0.02)
    assert not drained.done()
    drained.cancel()


async def test_a_loss_is_not_noted_beside_the_end_that_it_was(streaming: Streaming) -> None:
    event = ReplicaLost(
        app=streaming.app.id,
        replica=streaming.replica.id,
        process=streaming.replica.process,
        number=1,
        release=1,
        reason="it exited with status 1",
    )
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("last words")
        await streaming.until("last words")
        streaming.world.scheduler.exit(streaming.replica.id, code=1)
        await streamer.note_loss(event)
        streaming.source.end(streaming.replica.id)
        await streaming.until("last words", "exited with status 1")


async def test_an_engine_that_goes_away_costs_nothing(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("before")
        await streaming.until("before")
        streaming.source.go_down()
        streaming.write("meanwhile")
        streaming.source.come_back()
        await streaming.until("before", "meanwhile")


async def test_what_is_read_after_its_row_is_gone_is_not_stored_again(streaming: Streaming) -> None:
    """The engine may take its time to remove a container, and loses the stream meanwhile."""
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("before")
        await streaming.until("before")
        async with streaming.world.database.transaction() as tx:
            await tx.replicas.drain([streaming.replica.id], until=tx.now)
            await tx.replicas.set_stopping(streaming.replica.id)
            assert await tx.replicas.remove(streaming.replica.id, cool_until=tx.now)
        await streamer.follow(streaming.app.id)
        streaming.source.lose_follows()
        streaming.write("its last")
        await streaming.until("before", "its last")


async def test_a_full_disk_costs_nothing_once_there_is_room(
    streaming: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0
    real = streaming.store.append

    async def full(*arguments: object) -> None:
        nonlocal failures
        failures += 1
        if failures <= 3:
            raise Unavailable("logs.not-written", "No space left.")
        await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(streaming.store, "append", full)
    streaming.write("one", "two")
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("one", "two")
    assert failures == 4


async def test_a_replica_that_was_given_up_while_it_ran_is_read_to_its_end_all_the_same(streaming: Streaming) -> None:
    event = ReplicaLost(
        app=streaming.app.id,
        replica=streaming.replica.id,
        process=streaming.replica.process,
        number=1,
        release=1,
        reason="nothing listens there",
    )
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("one")
        await streaming.until("one")
        await streamer.note_loss(event)
    streaming.world.clock.advance(5)
    streaming.write("last words", at=int((streaming.world.clock.now() - 1) * 1e9))
    streaming.exit(code=143)
    for _ in range(2):
        async with streaming.streamer() as streamer:
            await streamer.drained(streaming.app.id, streaming.replica.id)
        assert await streaming.texts() == [
            "one",
            "lost: nothing listens there",
            "last words",
            "exited with status 143",
        ]


async def test_an_end_is_noted_once_for_each_run(streaming: Streaming) -> None:
    streaming.write("first run")
    streaming.exit(code=1, started_at=5.0)
    for _ in range(3):
        async with streaming.streamer() as streamer:
            await streamer.follow(streaming.app.id)
            await streamer.drained(streaming.app.id, streaming.replica.id)
    assert await streaming.texts() == ["first run", "exited with status 1"]
    streaming.exit(code=2, started_at=streaming.world.clock.now() + 1)
    streaming.world.clock.advance(5)
    async with streaming.streamer() as streamer:
        await streamer.drained(streaming.app.id, streaming.replica.id)
    assert await streaming.texts() == ["first run", "exited with status 1", "exited with status 2"]


async def test_running_out_of_memory_is_called_by_its_name(streaming: Streaming) -> None:
    streaming.world.scheduler.exit(streaming.replica.id, code=137, is_oom_killed=True)
    streaming.source.end(streaming.replica.id)
    async with streaming.streamer() as streamer:
        await streamer.drained(streaming.app.id, streaming.replica.id)
    assert await streaming.texts() == ["was killed because it used more memory than it may"]


async def test_a_restart_by_the_engine_is_noted_between_the_lines(streaming: Streaming) -> None:
    event = ReplicaLost(
        app=streaming.app.id,
        replica=streaming.replica.id,
        process=streaming.replica.process,
        number=1,
        release=1,
        reason="it exited with status 1",
    )
    async with streaming.streamer() as streamer:
        await streamer.note_loss(event)
        assert await streaming.texts() == []
        await streamer.follow(streaming.app.id)
        streaming.write("run 1")
        await streaming.until("run 1")
        for _ in range(2):
            await streamer.note_loss(event)
        assert await streaming.texts() == ["run 1", "lost: it exited with status 1"]


async def test_a_survey_names_the_apps_that_have_an_unfollowed_container(streaming: Streaming) -> None:
    async with streaming.streamer() as streamer:
        assert await streamer.survey() == {streaming.app.id}
        await streamer.follow(streaming.app.id)
        assert await streamer.survey() == set()
        streaming.exit()
        await streamer.drained(streaming.app.id, streaming.replica.id)
        assert await streamer.survey() == set()


async def test_a_bug_in_one_follower_leaves_the_others_and_is_taken_up_again(streaming: Streaming) -> None:
    real = streaming.store.position
    streaming.write("one")
    async with streaming.streamer() as streamer:

        async def broken(*arguments: object) -> None:
            raise ZeroDivisionError

        streaming.store.position = broken  # type: ignore[assignment,method-assign]
        await streamer.drained(streaming.app.id, streaming.replica.id)
        streaming.store.position = real  # type: ignore[method-assign]
        assert await streamer.survey() == {streaming.app.id}
        await streamer.follow(streaming.app.id)
        await streaming.until("one")


async def test_long_and_binary_lines_are_split_and_decoded(streaming: Streaming) -> None:
    streaming.write("x" * (2 * MAX_LINE + 5))
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("x" * MAX_LINE, "x" * MAX_LINE, "x" * 5)
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        streaming.write("end")
        await streaming.until("x" * MAX_LINE, "x" * MAX_LINE, "x" * 5, "end")


async def test_a_line_of_10_000_bytes_is_one_and_a_longer_one_two(streaming: Streaming) -> None:
    streaming.write("x" * MAX_LINE, "y" * (MAX_LINE + 1))
    async with streaming.streamer() as streamer:
        await streamer.follow(streaming.app.id)
        await streaming.until("x" * MAX_LINE, "y" * MAX_LINE, "y")


async def test_a_chatty_app_does_not_delay_another(streaming: Streaming) -> None:
    streaming.source.batch_lines = 1000
    other = await streaming.world.create("shop")
    await streaming.world.push(other, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
    await streaming.world.settle()
    (quiet,) = await streaming.world.database.read.replicas.of_app(other.id)
    async with streaming.streamer() as streamer:
        streaming.write(*(["noise " * 10] * 50_000))
        await streamer.follow(streaming.app.id)
        await streamer.follow(other.id)
        streaming.source.write(quiet.id, "hello")
        async with aclosing(streaming.store.follow(other.id, LogQuery())) as following:
            assert [line.text for line in await anext(following)] == ["hello"]
        assert len(await streaming.texts()) < 50_000
