"""Calls at times of the injected clock, with one timer of the loop for the earliest of them.

Times are the clock's monotonic seconds: setting the machine's clock moves none of them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from agent.ports.world import Clock

BACKOFF = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds to wait after the first, second, … failure in a row. The last one repeats."""

MIN_PAUSE = 0.1
"""Seconds. A handler that asks to be called again at once would keep a core busy."""

MAX_PAUSE = 3_600.0
"""Seconds. Nothing waits longer, whatever was asked for or the machine's clock was when the pause was stored."""

SLACK = 64
"""Cancelled timers that may lie in the heap beside as many live ones, before it is tidied."""


def pause(failures: int) -> float:
    """Return the seconds to wait after that many failures in a row (from 1)."""
    return BACKOFF[min(failures, len(BACKOFF)) - 1]


def bounded(seconds: float) -> float:
    """Return the pause that a handler asked for, within reason."""
    return min(max(seconds, MIN_PAUSE), MAX_PAUSE)


class Timer:
    """One call to come."""

    __slots__ = ("_call", "_timers", "due")

    def __init__(self, timers: Timers, *, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self._timers = timers
        self._call: Callable[[], None] | None = call

    @property
    def is_waiting(self) -> bool:
        """Whether the call is still to come."""
        return self._call is not None

    def cancel(self) -> None:
        """Do not call. Repeating is harmless."""
        if self._call is not None:
            self._call = None
            self._timers.forget()

    def fire(self) -> None:
        """Call now, unless that was done or cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """All calls to come. Between `start` and `stop` they come by themselves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once when `seconds` have passed."""
        timer = Timer(self, due=self._clock.monotonic() + seconds, call=call)
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        self._arm()
        return timer

    def next_due(self) -> float | None:
        """Return the monotonic time of the earliest call to come."""
        while self._heap and not self._heap[0][2].is_waiting:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Make the calls whose time has come, in the order of their times."""
        now = self._clock.monotonic()
        while (due := self.next_due()) is not None and due <= now:
            heapq.heappop(self._heap)[2].fire()
        self._arm()

    def start(self) -> None:
        """Let the running loop make the calls."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        """Make no calls any more; keep them."""
        self._loop = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def forget(self) -> None:
        """Note that one timer was cancelled; tidy up when they outnumber the others."""
        self._cancelled += 1
        if self._cancelled > SLACK + len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].is_waiting]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _arm(self) -> None:
        due = self.next_due()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._loop is not None and due is not None:
            self._handle = self._loop.call_later(max(0.0, due - self._clock.monotonic()), self.run_due)
