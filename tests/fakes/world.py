"""A clock that moves when a test says so, and identifiers that come out the same in every run."""

from __future__ import annotations

import random

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class FakeClock:
    """Fulfils ``Clock``."""

    def __init__(self, *, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0, "time does not run backwards; to set the wall clock use jump"
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP does; no time passes."""
        self._now += seconds


class SeededIds:
    """Fulfils ``Ids``."""

    def __init__(self, *, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._made: set[str] = set()

    def new(self, prefix: str) -> str:
        while True:
            made = prefix + "".join(self._random.choices(ALPHABET, k=11))
            if made not in self._made:
                self._made.add(made)
                return made

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)
