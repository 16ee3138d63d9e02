"""Live lines reach who watches, cost nothing otherwise, and never wait for anybody."""

from __future__ import annotations

import asyncio

from agent.bus.live import Live, Missed


async def test_a_reader_gets_what_is_said_while_it_watches_in_order() -> None:
    live: Live[int] = Live()
    live.say("d1", 0)
    with live.watch("d1") as reader, live.watch("d2") as other:
        live.say("d1", 1)
        live.say("d1", 2)
        live.close()
        assert [item async for item in reader] == [1, 2]
        assert [item async for item in other] == []
    live.say("d1", 3)
    assert not live.is_watched("d1")


async def test_a_slow_reader_loses_its_own_oldest_and_is_told_how_many() -> None:
    live: Live[int] = Live()
    with live.watch("d1", size=10) as slow, live.watch("d1", size=1_000) as quick:
        for number in range(25):
            live.say("d1", number)
        live.close()
        assert [item async for item in slow] == [Missed(15), *range(15, 25)]
        assert [item async for item in quick] == list(range(25))


async def test_a_gap_stands_where_it_happened() -> None:
    live: Live[int] = Live()
    with live.watch("d1", size=2) as reader:
        items = aiter(reader)
        live.say("d1", 0)
        assert await anext(items) == 0
        for number in range(1, 5):
            live.say("d1", number)
        assert [await anext(items), await anext(items), await anext(items)] == [Missed(2), 3, 4]


async def test_a_waiting_reader_wakes_for_news_and_for_the_end() -> None:
    live: Live[str] = Live()
    with live.watch("d1") as reader:
        waiting = asyncio.create_task(reader.batch())
        await asyncio.sleep(0)
        live.say("d1", "a")
        live.say("d1", "b")
        assert await waiting == ["a", "b"]
        waiting = asyncio.create_task(reader.batch())
        await asyncio.sleep(0)
        live.close()
        assert await waiting == []


async def test_who_watches_after_the_end_is_not_kept_waiting() -> None:
    live: Live[str] = Live()
    live.close()
    with live.watch("d1") as reader:
        assert [item async for item in reader] == []
