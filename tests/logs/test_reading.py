"""Readers find what they ask for, and then see each new line once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.logs import matching, readers, search
from agent.logs.matching import MAX_PATTERN
from agent.logs.readers import READER_BYTES, LiveReader
from agent.logs.store import DiskLogStore
from agent.ports.logs import LogLine, LogQuery, Missed
from proto.names import AppId
from tests.fakes.world import FakeClock
from tests.logs.lines import APP, OTHER, REPLICA, SECOND, line, numbered, stored, take


async def test_the_newest_lines_are_found(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, numbered(1, 250))
    assert await stored(store, last=3) == ["248", "249", "250"]
    assert await stored(store, last=1000) == [str(number) for number in range(1, 251)]
    assert await stored(store, last=0) == []


async def test_each_condition_narrows_what_is_found(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, [line("a", at=10), line("b", at=20, release=2)])
    await store.append(APP, SECOND, [line("c", at=30, number=2), line("d", at=40, number=11)])
    await store.append(APP, SECOND, [line("e", at=50, process="web2"), line("f", at=60, process="worker")])
    assert await stored(store, process="web") == ["a", "b", "c", "d"]
    assert await stored(store, process="web", number=1) == ["a", "b"]
    assert await stored(store, process="web", number=11) == ["d"]
    assert await stored(store, release=2) == ["b"]
    assert await stored(store, since=30) == ["c", "d", "e", "f"]
    assert await stored(store, until=30) == ["a", "b", "c"]
    assert await stored(store, since=20, until=50, process="web", last=2) == ["c", "d"]
    assert await stored(store, grep="[ae]") == ["a", "e"]
    assert await stored(store, process="none") == []


@pytest.mark.parametrize("last", [None, 1, 7, 100, 777])
async def test_reading_over_many_segments_is_the_same_as_over_one(
    tmp_path: Path, clock: FakeClock, last: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PAGE_LINES", 50)
    monkeypatch.setattr(search, "_TURN_RECORDS", 13)
    monkeypatch.setattr(search, "_TURN_MATCHES", 5)
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=700) as store:
        for start in range(1, 900, 9):
            await store.append(APP, REPLICA, numbered(start, start + 8, process="web" if start % 2 else "worker"))
        everything = [number for number in range(1, 901) if ((number - 1) // 9 * 9 + 1) % 2]
        expected = [str(number) for number in everything if "7" in str(number)]
        assert await stored(store, last=last, process="web", grep="7") == expected[-(last or 10_000) :]
        assert (
            await stored(store, last=last, process="web", since=300)
            == [str(number) for number in everything if number >= 300][-(last or 10_000) :]
        )


async def test_old_segments_are_left_unread_when_only_new_lines_are_asked_for(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 1_000_000_000
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=100) as store:
        for number in range(1, 40):
            clock.advance(1)
            await store.append(APP, REPLICA, [line(f"{number:050}", at=number * second)])
        shelf = store._apps[APP].shelf
        loaded: list[int] = []
        load = shelf.load
        monkeypatch.setattr(shelf, "load", lambda number, mark: loaded.append(number) or load(number, mark))
        assert len(await stored(store, since=37 * second)) == 3
        assert len(set(loaded)) <= 5


async def test_a_page_is_in_the_order_of_time(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, numbered(5, 7))
    await store.append(APP, SECOND, numbered(1, 6))
    assert await stored(store) == ["1", "2", "3", "4", "5", "5", "6", "6", "7"]


async def test_a_pattern_is_looked_for_in_what_people_see(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, [line("\x1b[31mer\x1b[0mror: 12"), line("fine")])
    assert await stored(store, grep="error") == ["\x1b[31mer\x1b[0mror: 12"]
    assert await stored(store, grep=r"^error: \d+$") == ["\x1b[31mer\x1b[0mror: 12"]
    assert await stored(store, grep="(?i)ERROR") == ["\x1b[31mer\x1b[0mror: 12"]


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "[z-a]", "x" * 499 + "+?", "(?P<n>a)(?P<n>b)"])
async def test_a_pattern_that_is_none_is_refused(store: DiskLogStore, pattern: str) -> None:
    with pytest.raises(UserError) as caught:
        await stored(store, grep=pattern)
    assert caught.value.code == "logs.bad-pattern"


@pytest.mark.parametrize("past", [0, 1])
async def test_a_mebibyte_waits_for_a_reader_and_past_it_the_oldest_lines_go(past: int) -> None:
    reader = LiveReader(LogQuery())
    reader.push([line("oldest")], size=READER_BYTES - 1)
    reader.push([line("newest")], size=1 + past)
    reader.close()
    got = [batch async for batch in reader.batches()]
    assert got == ([Missed(1), [line("newest")]] if past else [[line("oldest"), line("newest")]])


async def test_a_pattern_of_500_characters_is_one_and_a_longer_one_is_none(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, numbered(1, 1))
    assert await stored(store, grep="1|" + "x" * (MAX_PATTERN - 2)) == ["1"]
    with pytest.raises(UserError, match="at most 500"):
        await stored(store, grep="1|" + "x" * (MAX_PATTERN - 1))


async def test_a_pattern_that_explodes_stops_alone(store: DiskLogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "BATCH_SECONDS", 0.3)
    await store.append(APP, REPLICA, [line("a" * 5_000 + "!")])
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.ensure_future(heart())
    with pytest.raises(UserError) as caught:
        await stored(store, grep="(a+)+$")
    beating.cancel()
    assert caught.value.code == "logs.slow-pattern"
    assert beats > 3
    assert await stored(store, grep="a!") == ["a" * 5_000 + "!"]


async def test_a_follower_sees_history_then_each_new_line_once(store: DiskLogStore) -> None:
    """Joined at any moment of a stream of appends, history and live meet without a gap or a double."""
    writing = asyncio.ensure_future(write(store, 400))
    seen: list[list[str]] = []

    async def follow(start: int) -> None:
        for _ in range(start):
            await asyncio.sleep(0)
        async with aclosing(store.follow(APP, LogQuery(last=None))) as following:
            texts, missed = await take(following, 400)
            assert not missed
            seen.append(texts)

    async with asyncio.TaskGroup() as group:
        for start in range(0, 200, 20):
            group.create_task(follow(start))
    await writing
    assert seen == [[str(number) for number in range(400)]] * 10


async def write(store: DiskLogStore, count: int) -> None:
    for number in range(count):
        await store.append(APP, REPLICA, [line(str(number), at=number)])


async def test_a_follower_gets_only_what_it_asked_for(store: DiskLogStore) -> None:
    query = LogQuery(process=line("").process, number=2, release=3, grep="^x", since=5)
    async with aclosing(store.follow(APP, query)) as following:
        first = asyncio.ensure_future(take(following, 2))
        await joined(store, APP)
        for other in (
            line("x0", number=1, release=3, at=9),
            line("x0", number=2, release=2, at=9),
            line("x0", number=2, release=3, process="worker", at=9),
            line("x0", number=2, release=3, at=4),
            line("y0", number=2, release=3, at=9),
            line("x1", number=2, release=3, at=9),
            line("x2", number=2, release=3, at=5),
        ):
            await store.append(APP, REPLICA, [other])
        await store.append(OTHER, REPLICA, [line("x3", number=2, release=3, at=9)])
        assert await first == (["x1", "x2"], [])


async def test_a_crowd_of_followers_holds_nobody_up(store: DiskLogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """All get a line each, and while they are told others have turns of the loop."""
    followers = 4 * readers.WOKEN_AT_ONCE
    following = [store.follow(APP, LogQuery(last=0)) for _ in range(followers)]
    waiting = [asyncio.ensure_future(anext(one)) for one in following]
    while len(store._apps[APP].readers if APP in store._apps else ()) < followers:
        await asyncio.sleep(0.001)
    told: list[int] = []
    real = readers.LiveReader.push

    def push(self: readers.LiveReader, lines: Sequence[LogLine], *, size: int) -> None:
        real(self, lines, size=size)
        told.append(sum(task.done() for task in waiting))

    monkeypatch.setattr(readers.LiveReader, "push", push)
    await store.append(APP, REPLICA, [line("hello")])
    assert [[one.text for one in batch] for batch in await asyncio.gather(*waiting)] == [["hello"]] * followers
    assert len(told) == followers
    assert told[-1] >= followers // 2, "the first ones had it before the last ones were told"
    for one in following:
        await one.aclose()


async def test_a_slow_follower_loses_its_own_oldest_lines_and_is_told(
    store: DiskLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PACE_SECONDS", 0.0)
    batches = 60
    per_batch = [line("x" * 5_000, at=1)] * 10
    async with aclosing(store.follow(APP, LogQuery())) as slow, aclosing(store.follow(APP, LogQuery())) as quick:
        await store.append(APP, REPLICA, [line("start")])
        assert await anext(slow) == await anext(quick) == [line("start")]
        got = 0
        for _ in range(batches):
            await store.append(APP, REPLICA, per_batch)
            texts, missed = await take(quick, 10)
            assert not missed
            got += len(texts)
        assert got == batches * 10
        waiting = [reader for reader in store._apps[APP].readers if reader._bytes]
        assert [reader._bytes <= READER_BYTES for reader in waiting] == [True]
        first = await anext(slow)
        assert isinstance(first, Missed)
        rest = await anext(slow)
        assert not isinstance(rest, Missed)
        assert first.count + len(rest) == batches * 10


async def test_a_follower_ends_when_its_app_is_removed_or_the_agent_stops(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock) as store:
        await store.append(APP, REPLICA, [line("a")])
        await store.append(OTHER, REPLICA, [line("a")])
        mine, theirs = store.follow(APP, LogQuery()), store.follow(OTHER, LogQuery())
        assert await anext(mine) == await anext(theirs) == [line("a")]
        rest = asyncio.ensure_future(drain(theirs))
        await store.remove(APP)
        assert await drain(mine) == []
        assert not rest.done()
    assert await rest == []


async def joined(store: DiskLogStore, app: AppId) -> None:
    """Return once somebody follows the app."""
    async with asyncio.timeout(10):
        while app not in store._apps or not store._apps[app].readers:
            await asyncio.sleep(0)


async def drain(following: object) -> list[str]:
    async with aclosing(following) as batches:  # type: ignore[type-var]
        return [found.text async for batch in batches for found in batch]


async def test_a_follower_that_leaves_is_forgotten(store: DiskLogStore) -> None:
    await store.append(APP, REPLICA, [line("a")])
    async with aclosing(store.follow(APP, LogQuery(grep="a+"))) as following:
        await anext(following)
        assert len(store._apps[APP].readers) == 1
    assert not store._apps[APP].readers


async def test_segments_deleted_during_a_read_are_left_out(tmp_path: Path, clock: FakeClock) -> None:
    async with DiskLogStore(tmp_path, clock=clock, segment_bytes=100) as store:
        for number in range(1, 30):
            await store.append(APP, REPLICA, [line(f"{number:040}", at=number)])
        async with aclosing(store.read(APP, LogQuery(last=None))) as pages:
            shelf = store._apps[APP].shelf
            load = shelf.load
            calls = 0

            def load_and_drop(number: int, mark: object) -> bytes:
                nonlocal calls
                calls += 1
                if calls == 5:
                    while shelf.drop_oldest():
                        pass
                return load(number, mark)  # type: ignore[arg-type]

            shelf.load = load_and_drop  # type: ignore[method-assign]
            texts = [found.text async for page in pages for found in page]
    assert texts[-1] == f"{29:040}"
    assert len(texts) < 29


@pytest.mark.slow
def test_a_search_that_outlives_its_agent_ends_by_itself() -> None:
    script = (
        f"import runpy, sys; module = runpy.run_path({str(matching._PROGRAM)!r}); "
        "module['serve'].__globals__['BATCH_SECONDS'] = 1; module['serve'](sys.stdin.buffer, sys.stdout.buffer)"
    )
    request = b"".join(len(text).to_bytes(4, "big") + text for text in (b"(a+)+$", b"a" * 5_000 + b"!"))
    ended = subprocess.run(
        [sys.executable, "-I", "-c", script], input=request, capture_output=True, timeout=30, check=False
    )
    assert ended.returncode == -signal.SIGALRM
