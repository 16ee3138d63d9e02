"""What containers write, as a list that a test adds to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator

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
        self._ended: set[ReplicaId] = set()
        self._changed = asyncio.Event()

    def write(self, replica: ReplicaId, *texts: str, at: int | None = None) -> None:
        """Let a replica write lines, stamped one after the other, or all with the same stamp."""
        for text in texts:
            newest = self.written[replica][-1].at if self.written[replica] else 0
            stamp = newest + 50_000_000 if at is None else at
            self.written[replica].append(RawLine(stamp, "stdout", text.encode()))
        self._wake()

    def end(self, replica: ReplicaId) -> None:
        """Let the replica's output be over."""
        self._ended.add(replica)
        self._wake()

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
        given = 0
        while True:
            changed = self._changed
            if self.is_down:
                raise Unavailable("docker.unavailable", "Docker does not answer.")
            batch = [line for line in self.written[replica][given : given + self.batch_lines] if line.at >= since]
            given = min(given + self.batch_lines, len(self.written[replica]))
            if batch:
                yield RawLines.of(batch)
            elif given == len(self.written[replica]):
                if replica in self._ended:
                    return
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
