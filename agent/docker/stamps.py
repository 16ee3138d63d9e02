"""The engine's time stamps (RFC 3339 with nanoseconds), read exactly and fast.

Log lines are told apart by their stamps to the nanosecond, which a float of Unix seconds cannot hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

SECOND = 1_000_000_000
"""In nanoseconds."""

LINE_STAMP = 30
"""Bytes of the stamp before a log line: ``2026-11-22T21:12:52.123456789Z``, always UTC and of this width (moby's
RFC3339NanoFixed)."""

SECOND_STAMP = 19
"""Bytes of it before the point."""


class StampReader:
    """Reads the stamps of one log stream. Remembers the last minute, since neighbours mostly share it."""

    def __init__(self) -> None:
        self._minute = b""
        self._base = 0

    def read(self, stamp: bytes) -> int:
        """Return nanoseconds since 1970 of the first `LINE_STAMP` bytes of `stamp`.

        Raises:
            ValueError: that is not such a stamp.
        """
        return self.second(stamp[:SECOND_STAMP]) + int(stamp[20:29])

    def second(self, stamp: bytes) -> int:
        """Return nanoseconds since 1970 of a stamp's first `SECOND_STAMP` bytes, up to its whole second.

        Raises:
            ValueError: that is not such a stamp.
        """
        minute = stamp[:16]
        if minute != self._minute:
            moment = datetime.strptime(minute.decode("ascii"), "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
            self._minute, self._base = minute, int(moment.timestamp()) * SECOND
        return self._base + int(stamp[17:19]) * SECOND

    def column(self, seconds: Sequence[bytes], fractions: Sequence[bytes]) -> list[int]:
        """Return nanoseconds since 1970 of many stamps: up to their seconds, and the nine digits after the point.

        Raises:
            ValueError: one is no such stamp.
        """
        if seconds.count(seconds[0]) == len(seconds):
            base = self.second(seconds[0])
            return [base + fraction for fraction in map(int, fractions)]
        bases = {second: self.second(second) for second in set(seconds)}
        return [bases[second] + int(fraction) for second, fraction in zip(seconds, fractions, strict=True)]


def unix_seconds(stamp: str) -> float:
    """Return Unix seconds of a stamp as ``inspect`` writes it; 0 for the engine's "never" (year 1) and for no stamp."""
    try:
        # The engine writes up to nine decimals, Python reads six.
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp))
    except ValueError:
        return 0.0
    return moment.timestamp() if moment.year > 1 else 0.0


def query_time(at: int) -> str:
    """Return nanoseconds since 1970 as the engine's ``since`` and ``until`` parameters want them."""
    return f"{at // SECOND}.{at % SECOND:09d}"
