"""What replicas write is stored whole: once each, through failures, restarts of the agent and short lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.ports.logs import MAX_LINE, LogQuery
from tests.handlers.streaming import Streaming, stream


@pytest.fixture
async def streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streaming]:
    async with stream(tmp_path, monkeypatch) as one:
        yield one


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
    event = streaming.loss("it exited with status 1")
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
