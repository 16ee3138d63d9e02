"""What a build begins before it is needed, by tasks that end with the block that began them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

T = TypeVar("T")

_AHEAD: Final = 4
"""Pieces of the context that may wait for the engine to take them."""


@asynccontextmanager
async def begun(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Future[T]]:
    """Begin `work` and give what it will return; it is cancelled if the block is left before that."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # Whoever left without asking for the result left for a reason of his own.


@asynccontextmanager
async def read_ahead(source: AsyncGenerator[bytes, None]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give the pieces of `source`, read a little ahead by a task of ours, and close it when the block is left.

    The HTTP client reads its body in a task of its own, which it drops whenever it likes: a generator that was in the
    middle of a step could then not be closed, and its git would live on.
    """
    queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(maxsize=_AHEAD)

    async def produce() -> None:
        try:
            async with aclosing(source):
                async for data in source:
                    await queue.put(data)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    producing = asyncio.create_task(produce())
    try:
        yield _drained(queue)
    finally:
        producing.cancel()
        await asyncio.wait((producing,))


async def _drained(queue: asyncio.Queue[bytes | Exception | None]) -> AsyncIterator[bytes]:
    while (item := await queue.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
