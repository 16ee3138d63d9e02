"""A replica whose log is followed by a real streamer into a real store, from a source that a test writes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.handlers import logs
from agent.handlers.logs import LogStreamer
from agent.logs.store import DiskLogStore
from agent.ports.logs import LogLine, LogQuery, Missed
from agent.state.apps import App
from agent.state.replicas import Replica
from proto.events import ReplicaLost
from tests.fakes.core import Core, core
from tests.fakes.log_source import FakeLogSource


class Streaming:
    """One live app with one replica, its log source, and streamers that come and go over the same store."""

    def __init__(self, world: Core, app: App, replica: Replica, store: DiskLogStore) -> None:
        self.world = world
        self.app = app
        self.replica = replica
        self.store = store
        self.source = FakeLogSource()

    @asynccontextmanager
    async def streamer(self, *, drain_seconds: float = 10.0) -> AsyncIterator[LogStreamer]:
        """Run a streamer, as an agent does from its start to its death."""
        streamer = LogStreamer(
            self.world.database,
            source=self.source,
            store=self.store,
            scheduler=self.world.scheduler,
            clock=self.world.clock,
            drain_seconds=drain_seconds,
        )
        running = asyncio.ensure_future(streamer.run())
        try:
            yield streamer
        finally:
            running.cancel()
            await asyncio.wait((running,))

    def loss(self, reason: str) -> ReplicaLost:
        """Return what is told when the replica is lost."""
        row = self.replica
        return ReplicaLost(
            app=self.app.id, replica=row.id, process=row.process, number=row.number, release=1, reason=reason
        )

    def write(self, *texts: str, at: int | None = None) -> None:
        self.source.write(self.replica.id, *texts, at=at)

    def exit(self, *, code: int = 0, started_at: float = 0.0) -> None:
        """Let the replica's process end."""
        status = self.world.scheduler.containers[self.replica.id]
        self.world.scheduler.containers[self.replica.id] = msgspec.structs.replace(status, started_at=started_at)
        self.world.scheduler.exit(self.replica.id, code=code)
        self.source.end(self.replica.id)

    async def lines(self) -> list[LogLine]:
        return [line async for page in self.store.read(self.app.id, LogQuery(last=None)) for line in page]

    async def texts(self) -> list[str]:
        return [line.text for line in await self.lines()]

    async def until(self, *texts: str) -> None:
        """Return once as many lines are stored; they are these."""
        found: list[str] = []
        async with asyncio.timeout(10), aclosing(self.store.follow(self.app.id, LogQuery(last=None))) as batches:
            while len(found) < len(texts):
                batch = await anext(batches)
                assert not isinstance(batch, Missed)
                found += [line.text for line in batch]
        assert found == list(texts)


@asynccontextmanager
async def stream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streaming]:
    """Have an app with one replica, whose log nobody follows yet."""
    monkeypatch.setattr(logs, "PAUSES", (0.01,))
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(core(folder))
        store = await stack.enter_async_context(DiskLogStore(folder / "logs", clock=world.clock))
        app = await world.create()
        await world.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        await world.settle()
        (replica,) = await world.database.read.replicas.of_app(app.id)
        yield Streaming(world, app, replica, store)
