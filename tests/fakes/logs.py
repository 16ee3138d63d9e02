"""Logs and transcripts of lists."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence

from agent.ports.logs import IsOver, LogLine, LogQuery, Missed, Position
from proto.names import AppId, ReplicaId


class FakeTranscripts:
    """Fulfils ``Transcripts``."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = defaultdict(list)
        self.said: list[str] = []
        """Every line, also of transcripts that were removed."""
        self._apps: dict[str, AppId] = {}
        self._changed = asyncio.Event()

    def say(self, app: AppId, deploy: str, line: str) -> None:
        self.lines[deploy].append(line)
        self.said.append(line)
        self._apps[deploy] = app
        self._wake()

    async def follow(self, app: AppId, deploy: str, *, is_over: IsOver) -> AsyncIterator[str]:
        position = 0
        while True:
            changed, over = self._changed, await is_over()
            while position < len(lines := self.lines.get(deploy, [])):
                yield lines[position]
                position += 1
            if over:
                return
            await changed.wait()

    def nudge(self, app: AppId, deploy: str) -> None:
        self._wake()

    async def remove(self, app: AppId, deploys: Sequence[str] | None = None) -> None:
        for deploy in [one for one in self.lines if self._apps.get(one) == app] if deploys is None else deploys:
            self.lines.pop(deploy, None)

    def forget_readers(self) -> None:
        """Let go of readers that are gone without having said so."""
        self._changed = asyncio.Event()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class FakeLogs:
    """Fulfils ``LogStore``, ``LogReader`` and ``LogKeeper``."""

    def __init__(self) -> None:
        self.lines: dict[AppId, list[LogLine]] = defaultdict(list)
        self.drained_replicas: list[ReplicaId] = []

    async def append(self, app: AppId, replica: ReplicaId, lines: Sequence[LogLine]) -> None:
        self.lines[app] += lines

    async def position(self, app: AppId, replica: ReplicaId) -> Position:
        return Position()

    async def retain(self, app: AppId, replicas: Collection[ReplicaId]) -> None:
        return None

    async def shrinkable(self, size: int) -> int:
        return sum(map(len, self.lines.values()))

    async def shrink(self, size: int) -> int:
        before = sum(map(len, self.lines.values()))
        self.lines.clear()
        return before

    async def remove(self, app: AppId) -> None:
        self.lines.pop(app, None)

    async def read(self, app: AppId, query: LogQuery) -> AsyncIterator[Sequence[LogLine]]:
        found = [
            line
            for line in self.lines[app]
            if query.process in (None, line.process) and query.release in (None, line.release)
        ]
        if found:
            yield found[-(query.last or len(found)) :]

    async def follow(self, app: AppId, query: LogQuery) -> AsyncIterator[Sequence[LogLine] | Missed]:
        async for page in self.read(app, query):
            yield page

    async def drained(self, app: AppId, replica: ReplicaId) -> None:
        self.drained_replicas.append(replica)
