"""Time, identifiers and randomness: injected, so that the whole core can run under a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from agent.errors import Stopped

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return Unix seconds in UTC. May jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, for intervals inside one process."""
        ...


class Ids(Protocol):
    """Makes identifiers and random bytes."""

    def new(self, prefix: str) -> str:
        """Return `prefix` and 11 characters of ``a-z2-7`` that were never returned before."""
        ...

    def token(self, size: int) -> bytes:
        """Return `size` bytes nobody can guess."""
        ...


Say = Callable[[str], None]
"""Adds one line (no newline, any text) to what the watchers of a deploy see. Never blocks."""


class Stop:
    """A signal that long work is no longer wanted. Set by the bus, after the commit that made it so."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the work should end."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the work to end. Repeating is harmless."""
        self._event.set()

    async def wait(self) -> None:
        """Return once the work should end."""
        await self._event.wait()

    async def race(self, work: Awaitable[T]) -> T:
        """Return what `work` returns; cancel it, await its end and raise if the signal comes first.

        Raises:
            Stopped: the signal came first.
        """
        task = asyncio.ensure_future(work)
        signal = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((task, signal), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            raise Stopped
        finally:
            signal.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
