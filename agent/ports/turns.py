"""Turns by name: one at a time for each, in the order of asking. In memory, so nothing is ever left locked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A lock for each name, kept only while somebody has it or waits."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    def is_taken(self, name: str) -> bool:
        """Tell whether one would have to wait."""
        return name in self._locks

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Have the turn for the length of a block."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._wanted[name] = self._wanted.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name], self._locks[name]
