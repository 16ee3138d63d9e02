"""Ports: where log lines come from and where they are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

import msgspec

from proto.names import AppId, ProcessType, ReplicaId

Stream = Literal["stdout", "stderr", "agent"]
"""``agent``: the line is Pushboat's own (a gap, an exit)."""

MAX_LINE = 10_000
"""Bytes of one stored line. A longer one is split into several."""


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


class LogSource(Protocol):
    """Reads what containers write."""

    def follow(self, replica: ReplicaId, *, since: int) -> AsyncIterator[Sequence[RawLine]]:
        """Yield batches of lines with ``at >= since`` (ns), then new ones as they come; end when the container has.

        Lines stamped exactly `since` come again: the caller de-duplicates. A batch is never empty.

        Raises:
            Unavailable: the engine went away; follow again from the last time stamp.
        """
        ...


class LogStore(Protocol):
    """Keeps lines per app on disk, within a budget, across deploys, crashes and restarts."""

    async def append(self, app: AppId, replica: ReplicaId, lines: Sequence[LogLine]) -> None:
        """Store lines of one replica, in order. When this returns they survive the agent's death."""
        ...

    async def position(self, app: AppId, replica: ReplicaId) -> tuple[int, int]:
        """Return the time (ns) of the replica's last stored line, and how many lines of it have just that time.

        (0, 0) if none is stored.
        """
        ...

    async def remove(self, app: AppId) -> None:
        """Forget a destroyed app's lines."""
        ...


class Transcripts(Protocol):
    """What a deploy said, line by line, kept on disk: build output, steps, failures."""

    def say(self, app: AppId, deploy: str, line: str) -> None:
        """Append a line and wake its readers. Never blocks, never raises; a full disk is told to the agent's log."""
        ...

    def follow(self, app: AppId, deploy: str, *, is_over: IsOver) -> AsyncIterator[str]:
        """Yield every line from the first on, then new ones as they come, until the deploy is over and all was read."""
        ...

    async def remove(self, app: AppId, deploys: Sequence[str] | None = None) -> None:
        """Forget some deploys' lines, or all of the app's."""
        ...


class IsOver(Protocol):
    """Tells a follower whether more can come."""

    async def __call__(self) -> bool:
        """Return true once nothing will be said any more."""
        ...
