"""Calls come when their time has come, by the injected clock alone."""

from __future__ import annotations

import asyncio
import time

from agent.bus.timers import SLACK, Timers
from tests.fakes.world import FakeClock


class LoopClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def test_calls_come_in_the_order_of_their_times_and_once(clock: FakeClock) -> None:
    timers, called = Timers(clock), list[str]()
    timers.after(3, lambda: called.append("late"))
    timers.after(1, lambda: called.append("early"))
    timers.after(1, lambda: called.append("early, too"))
    cancelled = timers.after(2, lambda: called.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    timers.run_due()
    assert called == []
    clock.advance(1)
    timers.run_due()
    assert called == ["early", "early, too"]
    clock.jump(1_000)
    timers.run_due()
    assert len(called) == 2
    clock.advance(2)
    timers.run_due()
    timers.run_due()
    assert called == ["early", "early, too", "late"]
    assert timers.next_due() is None


def test_cancelled_timers_take_no_room(clock: FakeClock) -> None:
    timers = Timers(clock)
    last = timers.after(100, list)
    for number in range(20_000):
        timers.after(60 + number, list).cancel()
        assert len(timers._heap) <= 2 * SLACK + 2
    assert timers.next_due() == last.due


async def test_the_loop_makes_the_calls_between_start_and_stop() -> None:
    timers, called = Timers(LoopClock()), asyncio.Event()
    timers.start()
    timers.after(60, lambda: None)
    timers.after(0.01, called.set)
    async with asyncio.timeout(10):
        await called.wait()
    timers.stop()
    called.clear()
    timers.after(0, called.set)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not called.is_set()
