"""The queue before the builds: a few run at once, the others wait in the order in which they came and know their place.

It is kept in memory: after a restart every deploy that is still to be built comes again, in the order of acceptance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

Told = Callable[[int], None]
"""Is told how many builds run or wait before one that waits: at first, and whenever that changes. Never blocks."""


class _Place(msgspec.Struct, frozen=True, eq=False):
    told: Told
    turn: asyncio.Future[None]


class Slots:
    """Lets a few in at once, first come, first served."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._running = 0
        self._waiting: list[_Place] = []

    @asynccontextmanager
    async def one(self, told: Told) -> AsyncIterator[None]:
        """Have a slot for the block. Cancelled while it waits, a place is left, and those behind move up."""
        if self._running < self._count and not self._waiting:
            self._running += 1
        else:
            await self._wait(told)
        try:
            yield
        finally:
            self._running -= 1
            self._move_up(0)

    async def _wait(self, told: Told) -> None:
        place = _Place(told, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        told(self._running + len(self._waiting) - 1)
        try:
            await place.turn
        except asyncio.CancelledError:
            if place in self._waiting:
                index = self._waiting.index(place)
                self._waiting.remove(place)
                self._move_up(index)
            else:
                # Its turn had come just then.
                self._running -= 1
                self._move_up(0)
            raise

    def _move_up(self, gap: int) -> None:
        """Let in who can come in, and tell those who stand behind the gap, or behind them, their new place."""
        while self._waiting and self._running < self._count:
            self._running += 1
            self._waiting.pop(0).turn.set_result(None)
        for index, place in enumerate(self._waiting[gap:], gap):
            place.told(self._running + index)
