"""What is lost of a log is marked where it was, once; what the engine still has is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.errors import Unavailable
from agent.ports.logs import GAP
from tests.handlers.streaming import Streaming, stream


@pytest.fixture
async def streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streaming]:
    async with stream(tmp_path, monkeypatch) as one:
        yield one


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
    event = streaming.loss("it exited with status 1")
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
    event = streaming.loss("nothing listens there")
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
