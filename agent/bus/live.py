"""Live lines for those who watch. They inform; nothing is ever triggered by one, and none is stored.

A reader holds a bounded number of items. One that falls behind loses its own oldest and is told how many; the
speaker never waits and the other readers never notice. Saying something that nobody watches costs one look-up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Missed(msgspec.Struct, frozen=True):
    """In the place of items that a reader was too slow for."""

    count: int


class Reader(Generic[T]):
    """What was said on one topic since the watching began, in order."""

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._missed = 0
        self._is_closed = False
        self._news = asyncio.Event()

    async def batch(self) -> list[T | Missed]:
        """Wait until there is something, and return all there is. Empty: the topic is closed."""
        if not self._items and not self._is_closed:
            self._news.clear()
            await self._news.wait()
        items: list[T | Missed] = [Missed(self._missed)] if self._missed else []
        items.extend(self._items)
        self._items.clear()
        self._missed = 0
        return items

    async def __aiter__(self) -> AsyncIterator[T | Missed]:
        """Yield each item until the topic is closed. What was yielded counts as read, one at a time."""
        while True:
            if not self._items and not self._is_closed:
                self._news.clear()
                await self._news.wait()
            if self._missed:
                count, self._missed = self._missed, 0
                yield Missed(count)
            elif self._items:
                yield self._items.popleft()
            else:
                return

    def put(self, item: T) -> None:
        """Add an item, at the cost of the oldest if there is no room."""
        if len(self._items) >= self._size:
            self._items.popleft()
            self._missed += 1
        self._items.append(item)
        self._news.set()

    def close(self) -> None:
        """Let the reader end once it has read what it has."""
        self._is_closed = True
        self._news.set()


class Live(Generic[T]):
    """Topics and their readers."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Reader[T]]] = {}
        self._is_closed = False

    def say(self, topic: str, item: T) -> None:
        """Give `item` to everybody who watches `topic` now. Never blocks; may drop."""
        for reader in self._readers.get(topic, ()):
            reader.put(item)

    def is_watched(self, topic: str) -> bool:
        """Tell whether anybody would hear, for items that cost something to make."""
        return topic in self._readers

    @contextlib.contextmanager
    def watch(self, topic: str, *, size: int = 1_000) -> Iterator[Reader[T]]:
        """Read what is said on `topic` during the block; `size` items may wait, older ones are dropped and counted."""
        reader: Reader[T] = Reader(size=size)
        if self._is_closed:
            reader.close()
        self._readers.setdefault(topic, set()).add(reader)
        try:
            yield reader
        finally:
            self._readers[topic].discard(reader)
            if not self._readers[topic]:
                del self._readers[topic]

    def close(self) -> None:
        """End all readers, present and future, once they have read what they have. Repeating is harmless."""
        self._is_closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.close()
