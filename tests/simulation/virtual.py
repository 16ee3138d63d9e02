"""An event loop whose time passes only while everybody waits, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

BEGINNING = 1_700_000_000.0
"""Unix seconds at the loop's time 0."""


class _Selector(selectors.DefaultSelector):
    """Where the loop would sleep, time is moved forward instead."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is None or timeout > 0 else timeout)
        if not ready and timeout is None:
            return super().select(1.0)  # a thread works: the lock on the database's folder, at the start
        if not ready and timeout:
            self.passed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Counts the seconds that were slept through."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed


class VirtualClock:
    """Fulfils ``Clock`` by the running loop."""

    def now(self) -> float:
        return BEGINNING + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(main: Coroutine[object, object, T]) -> T:
    """Run `main` on a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
