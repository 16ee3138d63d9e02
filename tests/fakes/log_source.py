"""What containers write, as a list that a test adds to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal

from agent.errors import Unavailable
from agent.ports.logs import RawLine, RawLines
from proto.names import ReplicaId


class FakeLogSource:
    """Fulfils ``LogSource``. A replica's output ends when a test says so."""

    def __init__(self) -> None:
        self.written: dict[ReplicaId, list[RawLine]] = defaultdict(list)
        """What the engine still has of each replica's output."""
        self.followed: list[tuple[ReplicaId, int]] = []
        """Each call of `follow`, with its ``since``."""
        self.batch_lines = 10
        """Lines that one batch holds at most."""
        self.is_down = False
        self.dropped: dict[ReplicaId, int] = defaultdict(int)
        """How many of each replica's first lines the engine has no more."""
        self._ended: set[ReplicaId] = set()
        self._followers: list[_Place] = []
        self._changed = asyncio.Event()

    def write(
        self, replica: ReplicaId, *texts: str, at: int | None = None, stream: Literal["stdout", "stderr"] = "stdout"
    ) -> None:
        """Let a replica write lines, stamped one after the other, or all with the same stamp."""
        for text in texts:
            newest = self.written[replica][-1].at if self.written[replica] else 0
            stamp = newest + 50_000_000 if at is None else at
            self.written[replica].append(RawLine(stamp, stream, text.encode()))
        self._wake()

    def end(self, replica: ReplicaId) -> None:
        """Let the replica's output be over."""
        self._ended.add(replica)
        self._wake()

    def drop(self, replica: ReplicaId, count: int) -> int:
        """Discard the oldest lines, as rotating engines do: none that a follow under way has yet to give.

        Return how many went.
        """
        needed = [place.next for place in self._followers if place.replica == replica]
        first = self.dropped[replica]
        count = max(0, min([count, len(self.written[replica]), *(place - first for place in needed)]))
        del self.written[replica][:count]
        self.dropped[replica] += count
        return count

    def go_down(self) -> None:
        """End every follow with `Unavailable`, and refuse new ones."""
        self.is_down = True
        self._wake()

    def come_back(self) -> None:
        """Answer again."""
        self.is_down = False

    async def follow(self, replica: ReplicaId, *, since: int) -> AsyncGenerator[RawLines, None]:
        """See ``LogSource``."""
        self.followed.append((replica, since))
        place = _Place(replica, self.dropped[replica])
        self._followers.append(place)
        try:
            while True:
                changed = self._changed
                if self.is_down or place.is_lost:
                    raise Unavailable("docker.unavailable", "Docker does not answer.")
                place.next = max(place.next, self.dropped[replica])
                start = place.next - self.dropped[replica]
                given = self.written[replica][start : start + self.batch_lines]
                if given:
                    place.next += len(given)
                    if batch := [line for line in given if line.at >= since]:
                        yield RawLines.of(batch)
                    continue
                if replica in self._ended or place.is_over:
                    return
                await changed.wait()
        finally:
            if place in self._followers:
                self._followers.remove(place)

    def lose_follows(self) -> None:
        """End every follow under way with `Unavailable`."""
        for place in self._followers:
            place.is_lost = True
        self._wake()

    def forget_followers(self) -> None:
        """Let go of followers that are gone without having said so."""
        self._followers = []
        self._changed = asyncio.Event()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(eq=False)
class _Place:
    """Where one follow stands."""

    replica: ReplicaId
    next: int
    """The number of the line that is given next, those that were dropped counted."""
    is_lost: bool = False
    """Whether the engine has cut it off."""
    is_over: bool = False
    """Whether the container is gone."""
