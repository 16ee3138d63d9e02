"""Live readers of stored lines: each with a bounded backlog of its own.

A batch is shared by all readers that have it waiting, so a reader costs references, not copies. When more than
`READER_BYTES` wait, its oldest batches go, and it is told how many lines it missed; nobody else notices.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from itertools import chain

from agent.ports.logs import LogLine, LogLines, LogQuery, Missed

READER_BYTES = 1024 * 1024
"""What may wait for one reader, as stored. At 100 bytes a line some ten thousand lines: seconds of a chatty app."""

PACE_SECONDS = 0.05
"""Shortest time between two deliveries to one reader; lines gather meanwhile.

500 readers of 10 lines/s take 94 % of a core line by line and a fraction of that in batches; nobody sees 50 ms.
"""

CROWD_SECONDS = 0.0005
"""The same for each reader of the app: a delivery over ssh takes the agent some 0.1 ms, and however many follow a busy
app, a fifth of a core is what they may have of it. 2,000 followers get its lines once a second."""

WOKEN_AT_ONCE = 50
"""Readers that are told of a batch before others get their turn: with a delivery each, some milliseconds."""


class LiveReader:
    """One watcher of one app's new lines."""

    def __init__(self, query: LogQuery, *, crowd: Collection[LiveReader] = ()) -> None:
        """`crowd`: all readers of the app."""
        self._query = query
        self._crowd = crowd
        self._waiting: deque[tuple[int, Sequence[LogLine]]] = deque()
        self._bytes = 0
        self._missed = 0
        self._wake = asyncio.Event()
        self._is_closed = False

    def push(self, lines: Sequence[LogLine], *, size: int) -> None:
        """Let a batch of one replica's lines, `size` bytes as stored, wait to be read. Never blocks; may drop."""
        if not self._wants(lines):
            return
        self._waiting.append((size, lines))
        self._bytes += size
        while self._bytes > READER_BYTES and len(self._waiting) > 1:
            dropped, oldest = self._waiting.popleft()
            self._bytes -= dropped
            self._missed += len(oldest)
        self._wake.set()

    def close(self) -> None:
        """End the stream after what waits already."""
        self._is_closed = True
        self._wake.set()

    async def batches(self) -> AsyncGenerator[Sequence[LogLine] | Missed, None]:
        """Yield what comes until closed: after a silence at once, then `PACE_SECONDS` apart or more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._missed:
                missed, self._missed = self._missed, 0
                yield Missed(missed)
            if self._waiting:
                waiting, self._bytes = list(self._waiting), 0
                self._waiting.clear()
                lines = self._in_time(list(chain.from_iterable(_lines(batch) for _, batch in waiting)))
                if lines:
                    yield lines
            if self._is_closed and not self._waiting:
                return
            await asyncio.sleep(max(PACE_SECONDS, len(self._crowd) * CROWD_SECONDS))

    def _wants(self, lines: Sequence[LogLine]) -> bool:
        """Tell whether the replica is asked for: what is asked of the source is alike for all its lines."""
        if not lines or self._is_closed:
            return False
        query, source = self._query, lines if isinstance(lines, LogLines) else lines[0]
        return (
            (query.process is None or query.process == source.process)
            and (query.number is None or query.number == source.number)
            and (query.release is None or query.release == source.release)
        )

    def _in_time(self, lines: list[LogLine]) -> list[LogLine]:
        since, until = self._query.since or 0, self._query.until
        if not since and until is None:
            return lines
        return [line for line in lines if since <= line.at and (until is None or line.at <= until)]


async def tell(readers: Collection[LiveReader], lines: Sequence[LogLine], *, size: int) -> None:
    """Push a batch to all readers, some at a time, so that a crowd of them holds nobody else up."""
    for index, reader in enumerate(list(readers), start=1):
        reader.push(lines, size=size)
        if index % WOKEN_AT_ONCE == 0:
            # One turn of the loop: those that were woken write, and whatever else waits is done.
            await asyncio.sleep(0)


def _lines(batch: Sequence[LogLine]) -> Sequence[LogLine]:
    """Return single lines, which all readers of a batch share."""
    return batch.lines if isinstance(batch, LogLines) else batch
