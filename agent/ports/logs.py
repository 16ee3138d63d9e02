"""Ports: where log lines come from and where they are kept.

On their way to the store lines travel in columns (`RawLines`, `LogLines`): an app may write a hundred thousand a
second, and what is done to a column is done without a step of Python for each line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from itertools import islice
from operator import lt
from typing import Literal, Protocol, overload

import msgspec

from proto.names import AppId, ProcessType, ReplicaId

Stream = Literal["stdout", "stderr", "agent"]
"""``agent``: the line is Pushboat's own (a gap, an exit)."""

MAX_LINE = 10_000
"""Bytes of one stored line. A longer one is split into several."""

GAP = "Lines are missing here: the engine had discarded them before Pushboat could read them."
"""The ``agent`` line in their place."""

SLOT_NS = 20_000_000
"""Length of the slots of time in which stored lines are counted (20 ms). See `Position`."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line that an app wrote."""

    at: int
    """Nanoseconds since 1970 in UTC, as the engine stamped it."""
    process: ProcessType
    number: int
    release: int
    stream: Stream
    text: str
    """Decoded as UTF-8 (errors replaced), no newline; may hold control characters: whoever shows it sanitises."""


class RawLine(msgspec.Struct, frozen=True):
    """A line as it comes from the engine: time in nanoseconds, stream, bytes without the newline."""

    at: int
    stream: Stream
    data: bytes


class RawLines(Sequence[RawLine]):
    """Lines of one container in columns of equal length. Never changed once made."""

    __slots__ = ("at", "streams", "texts")

    def __init__(self, at: Sequence[int], streams: Sequence[Stream], texts: Sequence[bytes]) -> None:
        self.at = at
        self.streams = streams
        self.texts = texts

    @classmethod
    def of(cls, lines: Iterable[RawLine]) -> RawLines:
        """Return single lines as columns."""
        rows = list(lines)
        return cls([row.at for row in rows], [row.stream for row in rows], [row.data for row in rows])

    @property
    def is_of_one_stream(self) -> bool:
        """Tell whether all lines, of which there is one at least, came by the same stream."""
        return self.streams.count(self.streams[0]) == len(self.streams)

    @property
    def longest(self) -> int:
        """Bytes of the longest line."""
        return max(map(len, self.texts), default=0)

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, index: int) -> RawLine: ...

    @overload
    def __getitem__(self, index: slice) -> RawLines: ...

    def __getitem__(self, index: int | slice) -> RawLine | RawLines:
        if isinstance(index, slice):
            return RawLines(self.at[index], self.streams[index], self.texts[index])
        return RawLine(self.at[index], self.streams[index], self.texts[index])


class LogLines(Sequence[LogLine]):
    """Lines of one replica on their way to the store, in columns; single ones are made once, when somebody looks."""

    __slots__ = ("_lines", "number", "process", "raw", "release")

    def __init__(self, raw: RawLines, *, process: ProcessType, number: int, release: int) -> None:
        self.raw = raw
        self.process = process
        self.number = number
        self.release = release
        self._lines: list[LogLine] | None = None

    @property
    def lines(self) -> list[LogLine]:
        """All lines, texts decoded. Shared: not to be changed."""
        if self._lines is None:
            self._lines = [
                LogLine(
                    at=at,
                    process=self.process,
                    number=self.number,
                    release=self.release,
                    stream=stream,
                    text=data.decode("utf-8", "replace"),
                )
                for at, stream, data in zip(self.raw.at, self.raw.streams, self.raw.texts, strict=True)
            ]
        return self._lines

    def __len__(self) -> int:
        return len(self.raw)

    @overload
    def __getitem__(self, index: int) -> LogLine: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LogLine]: ...

    def __getitem__(self, index: int | slice) -> LogLine | Sequence[LogLine]:
        return self.lines[index]


class LogSource(Protocol):
    """Reads what containers write."""

    def follow(self, replica: ReplicaId, *, since: int) -> AsyncIterator[RawLines]:
        """Yield batches of lines with ``at >= since`` (ns), then new ones as they come; end when the container has.

        Lines stamped exactly `since` come again: the caller de-duplicates. A batch is never empty. Where lines are
        missing, because the engine discarded them before they could be read, `GAP` stands by the stream ``agent``
        before the next one.

        Raises:
            Unavailable: the engine went away; follow again from the last time stamp.
        """
        ...


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a replica's lines are stored: enough to go on without a gap or a double.

    Engines stamp stdout and stderr in two threads, so stamps step back, on a busy machine by milliseconds. Hence not
    the last stamp is told, but how many lines of each slot of time are stored, up to it: an engine gives lines in the
    same order again, so the first ones of each slot are those.
    """

    since: int = 0
    """Nanoseconds: where to follow from, the beginning of a slot. 0: nothing is stored."""
    seen: Mapping[int, int] = {}
    """Slot (see `slot_of`) -> how many of the replica's stored lines are of it, for every slot from `since` on."""
    newest: int = 0
    """The newest stamp of all: what the engine gives that is later is not stored."""
    ended_at: int = 0
    """Stamp of the ``agent`` line that is the replica's last one (its end was noted), or 0."""


def slot_of(at: int) -> int:
    """Return the beginning of the slot of time that a stamp is in, both in nanoseconds."""
    return at - at % SLOT_NS


def are_rising(stamps: Sequence[int]) -> bool:
    """Tell whether each stamp is later than the one before it, as those of one stream nearly always are."""
    return all(map(lt, stamps, islice(stamps, 1, None)))


def count_slots(stamps: Sequence[int]) -> Counter[int]:
    """Return how many of `stamps` lie in each slot."""
    if not are_rising(stamps):
        return Counter(at - at % SLOT_NS for at in stamps)
    counts: Counter[int] = Counter()
    start = 0
    while start < len(stamps):
        slot = slot_of(stamps[start])
        stop = bisect_left(stamps, slot + SLOT_NS, start)
        counts[slot] = stop - start
        start = stop
    return counts


class LogStore(Protocol):
    """Keeps lines per app on disk, within a budget, across deploys, crashes and restarts."""

    async def append(self, app: AppId, replica: ReplicaId, lines: Sequence[LogLine]) -> None:
        """Store lines of one replica, in order. When this returns they survive the agent's death.

        Raises:
            Unavailable: ``logs.not-written``; nothing of `lines` is stored.
        """
        ...

    async def position(self, app: AppId, replica: ReplicaId) -> Position:
        """Return how far the replica's lines are stored."""
        ...

    async def retain(self, app: AppId, replicas: Collection[ReplicaId]) -> None:
        """Keep the positions of `replicas` alone: the others will not be followed again. Their lines stay."""
        ...

    async def remove(self, app: AppId) -> None:
        """Forget a destroyed app's lines; its readers come to their end. Repeating is harmless."""
        ...

    async def shrinkable(self, size: int) -> int:
        """Return about how many bytes `shrink` would forget, and forget nothing."""
        ...

    async def shrink(self, size: int) -> int:
        """Forget the oldest lines of all apps, about `size` bytes of them but never the last few; return how many."""
        ...


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are asked for. All conditions must hold."""

    last: int | None = 100
    """How many of the newest matching lines; `None`: all that are stored."""
    process: ProcessType | None = None
    number: int | None = None
    release: int | None = None
    since: int | None = None
    """Nanoseconds: lines stamped then or later."""
    until: int | None = None
    """Nanoseconds: lines stamped then or earlier."""
    grep: str | None = None
    """A regular expression (Python's) to be found in the line, colours and control characters left out."""


class Missed(msgspec.Struct, frozen=True):
    """A reader was too slow: so many of its oldest waiting lines were dropped."""

    count: int


class LogReader(Protocol):
    """Reads stored lines, and those that come. Close the iterators (``aclosing``) to stop early."""

    def read(self, app: AppId, query: LogQuery) -> AsyncGenerator[Sequence[LogLine], None]:
        """Yield the stored lines that match, oldest first, in pages of bounded size.

        Raises:
            UserError: ``logs.bad-pattern``, ``logs.slow-pattern``.
        """
        ...

    def follow(self, app: AppId, query: LogQuery) -> AsyncGenerator[Sequence[LogLine] | Missed, None]:
        """Yield what `read` does, then each matching line as it is stored, with no gap and no double between.

        Live lines come in batches, 50 ms apart or more. Ends when the app is removed or the agent shuts down. Raises
        as `read` does.
        """
        ...


class LogKeeper(Protocol):
    """Sees to it that no container goes before its last line is stored."""

    async def drained(self, app: AppId, replica: ReplicaId) -> None:
        """Return once everything a stopped replica wrote is stored; after 10 s in any case. Gone is fine.

        Called between ``Scheduler.stop`` and ``Scheduler.remove``.
        """
        ...


class Transcripts(Protocol):
    """What a deploy said, line by line, kept on disk: build output, steps, failures."""

    def say(self, app: AppId, deploy: str, line: str) -> None:
        """Append a line and wake its readers. Never blocks, never raises; a full disk is told to the agent's log."""
        ...

    def follow(self, app: AppId, deploy: str, *, is_over: IsOver) -> AsyncGenerator[str, None]:
        """Yield every line from the first on, then new ones as they come, until the deploy is over and all was read.

        Lines are sanitised already.
        """
        ...

    def nudge(self, app: AppId, deploy: str) -> None:
        """Make the deploy's followers ask `is_over` now. For after the commit that ends the deploy. Never blocks."""
        ...

    async def remove(self, app: AppId, deploys: Sequence[str] | None = None) -> None:
        """Forget some deploys' lines, or all of the app's. Repeating is harmless."""
        ...


class IsOver(Protocol):
    """Tells a follower whether more can come."""

    async def __call__(self) -> bool:
        """Return true once nothing will be said any more."""
        ...
