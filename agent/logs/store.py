"""Log lines of all apps on disk: the `LogStore` and the `LogReader` of ``agent.ports.logs``.

Each app has a `Shelf` of segments. Appends of one app queue behind each other, those of different apps run side by
side in a few threads, so a chatty app delays nobody else; its own follower waits for the disk, and so reads no faster
from the engine than lines can be stored. Compression and budgets have a thread of their own.

From history to live there is neither gap nor double: under the app's lock a reader takes the mark of what is stored
and joins the live readers; an append stores and announces its lines under the same lock.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import structlog

from agent.errors import Unavailable
from agent.logs.budget import hold, tidy
from agent.logs.matching import matcher
from agent.logs.readers import LiveReader, tell
from agent.logs.search import pages
from agent.logs.segments import Mark, Shelf
from agent.ports.logs import LogLine, LogQuery, Missed, Position
from agent.ports.world import Clock
from proto.names import AppId, ReplicaId

T = TypeVar("T")

SEGMENT_BYTES = 4 << 20
"""A segment is closed at this size: what is compressed and deleted at once, and what a reader holds in memory."""

SEGMENTS_PER_BUDGET = 8
"""Segments are smaller than `SEGMENT_BYTES` where an app's budget would hold fewer than this many."""

WRITERS = 4
"""Threads that append. There is one disk; more threads would only let more apps wait for it at once."""

TIDY_SHARE = 64
"""The budgets are looked at whenever a segment was closed, or this fraction of the whole budget was written."""

KEPT_SHARE = 10
"""This fraction of the whole budget is kept even where the disk is full."""

_APP_ID = re.compile(r"[a-z0-9]{1,64}")

_log = structlog.get_logger()


class _AppLog:
    """What the store knows of one app."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.lock = asyncio.Lock()
        self.readers: set[LiveReader] = set()


class DiskLogStore:
    """Keeps and reads the lines of all apps. Use it as an async context manager: its threads end with the block."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        budget_total_bytes: int = 2 << 30,
        budget_app_bytes: int = 256 << 20,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Keep lines in `folder`, one folder per app in it; bytes on disk, compressed ones counted as they are."""
        self._folder = folder
        self._clock = clock
        self._total_bytes = budget_total_bytes
        self._app_bytes = budget_app_bytes
        self._segment_bytes = max(min(segment_bytes, budget_app_bytes // SEGMENTS_PER_BUDGET), 1)
        self._apps: dict[AppId, _AppLog] = {}
        self._grown = 0
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="log-writer")
        self._upkeep = ThreadPoolExecutor(1, thread_name_prefix="log-upkeep")

    async def __aenter__(self) -> Self:
        """Find what is stored. Only names and sizes are read."""
        await asyncio.to_thread(self._scan)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the readers; wait for writes and upkeep under way."""
        for app in self._apps.values():
            _close(app.readers)
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self._upkeep.shutdown, cancel_futures=True)

    # LogStore

    async def append(self, app: AppId, replica: ReplicaId, lines: Sequence[LogLine]) -> None:
        """Store lines of one replica, in order. When this returns they survive the agent's death (see `segments`)."""
        if lines:
            await _to_its_end(self._append(self._app(app), replica, lines))

    async def position(self, app: AppId, replica: ReplicaId) -> Position:
        """Return how far the replica's lines are stored."""
        return await self._in_writer(self._app(app).shelf.position, replica)

    async def retain(self, app: AppId, replicas: Collection[ReplicaId]) -> None:
        """Keep the positions of `replicas` alone."""
        await self._in_writer(self._app(app).shelf.retain, frozenset(replicas))

    async def remove(self, app: AppId) -> None:
        """Forget a destroyed app's lines; its readers come to their end. Repeating is harmless."""
        log = self._app(app)
        await _to_its_end(self._remove(log))
        self._apps.pop(app, None)

    async def shrinkable(self, size: int) -> int:
        """See ``LogStore``. Whole segments go, so it may be a little more."""
        shelves = [app.shelf for app in self._apps.values()]
        stored = await self._in_writer(lambda: sum(shelf.size for shelf in shelves))
        return max(0, min(size, stored - self._total_bytes // KEPT_SHARE))

    async def shrink(self, size: int) -> int:
        """Forget the oldest lines of all apps, about `size` bytes; a tenth of the budget stays in any case."""
        shelves = [app.shelf for app in self._apps.values()]
        return await asyncio.get_running_loop().run_in_executor(self._upkeep, self._shrink, shelves, size)

    # LogReader

    async def read(self, app: AppId, query: LogQuery) -> AsyncGenerator[Sequence[LogLine], None]:
        """Yield the stored lines that match, oldest first, in pages of bounded size."""
        log = self._app(app)
        mark = await self._in_writer(log.shelf.mark)
        async with matcher(query.grep) as matching:
            async with aclosing(pages(log.shelf, mark, query=query, matcher=matching)) as stored:
                async for page in stored:
                    yield page

    async def follow(self, app: AppId, query: LogQuery) -> AsyncGenerator[Sequence[LogLine] | Missed, None]:
        """Yield what `read` does, then each matching line as it is stored."""
        log = self._app(app)
        reader = LiveReader(query, crowd=log.readers)
        async with matcher(query.grep) as matching:
            try:
                mark = await self._join(log, reader)
                async with aclosing(pages(log.shelf, mark, query=query, matcher=matching)) as stored:
                    async for page in stored:
                        yield page
                async with aclosing(reader.batches()) as batches:
                    async for batch in batches:
                        if isinstance(batch, Missed) or query.grep is None:
                            yield batch
                            continue
                        found = await matching.matches([line.text for line in batch])
                        lines = [line for line, is_match in zip(batch, found, strict=True) if is_match]
                        if lines:
                            yield lines
            finally:
                log.readers.discard(reader)

    # Private

    def _scan(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.is_dir() and _APP_ID.fullmatch(path.name):
                self._app(AppId(path.name))

    def _app(self, app: AppId) -> _AppLog:
        found = self._apps.get(app)
        if found is None:
            if not _APP_ID.fullmatch(app):
                raise ValueError(f"{app!r} is no app id")
            shelf = Shelf(self._folder / app, segment_bytes=self._segment_bytes, clock=self._clock)
            found = self._apps[app] = _AppLog(shelf)
        return found

    async def _join(self, log: _AppLog, reader: LiveReader) -> Mark:
        async with log.lock:
            mark = await self._in_writer(log.shelf.mark)
            log.readers.add(reader)
            return mark

    async def _append(self, log: _AppLog, replica: ReplicaId, lines: Sequence[LogLine]) -> None:
        async with log.lock:
            number = log.shelf.number
            try:
                size = await self._in_writer(log.shelf.append, replica, lines)
            except OSError as error:
                raise Unavailable(
                    "logs.not-written",
                    f"Log lines cannot be stored: {error.strerror}.",
                    "Free some disk space, or lower the budget for logs.",
                ) from error
            await tell(log.readers, lines, size=size)
            self._grown += size
            if log.shelf.number != number or self._grown >= self._total_bytes // TIDY_SHARE:
                self._grown = 0
                shelves = [app.shelf for app in self._apps.values()]
                # Nobody waits for it. A mistake in it is told by the loop when the future is thrown away.
                asyncio.get_running_loop().run_in_executor(self._upkeep, self._tidy, log.shelf, shelves)

    async def _remove(self, log: _AppLog) -> None:
        async with log.lock:
            await self._in_writer(log.shelf.remove)
            _close(log.readers)

    def _tidy(self, shelf: Shelf, shelves: list[Shelf]) -> None:
        # What may be written until the next look is kept free.
        app_bytes = self._app_bytes - self._segment_bytes
        total_bytes = self._total_bytes - self._total_bytes // TIDY_SHARE
        try:
            tidy(shelf, shelves=shelves, app_bytes=app_bytes, total_bytes=total_bytes)
        except OSError:
            # Tried again when the next segment is closed; meanwhile lines are stored all the same.
            _log.exception("logs.upkeep-failed")

    def _shrink(self, shelves: list[Shelf], size: int) -> int:
        before = sum(shelf.size for shelf in shelves)
        if shelves:
            hold(shelves, budget=max(before - size, self._total_bytes // KEPT_SHARE))
        return max(0, before - sum(shelf.size for shelf in shelves))

    async def _in_writer(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writers, work, *arguments)


def _close(readers: set[LiveReader]) -> None:
    for reader in readers:
        reader.close()


async def _to_its_end(work: Coroutine[object, object, None]) -> None:
    """Await `work` to its end even if the caller is cancelled: what is stored must be announced too."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and task.exception() is None:
        raise cancelled
    task.result()
