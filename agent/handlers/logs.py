"""Follows the output of every replica and task, from its first byte to its last, into the log store.

One task per container that there is. Where a follow begins is the store's word (`Position`), so neither an agent that
was killed nor an engine that was gone costs a gap or a double; what the engine has rotated away meanwhile is marked
as a gap. The store's pace is the reader's: nothing waits in memory but the batch under way, and an app that writes
faster than the disk takes it is slowed down for itself alone.

A container is removed only after `LogStreamer.drained` has returned, so those that live 50 ms are complete too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress

import structlog

from agent.bus.subscriptions import on, reconciles, surveys
from agent.errors import Unavailable
from agent.lifecycle.replicas import ending_of
from agent.ports.logs import (
    GAP,
    MAX_LINE,
    SLOT_NS,
    LogLine,
    LogLines,
    LogSource,
    LogStore,
    Position,
    RawLine,
    RawLines,
    slot_of,
)
from agent.ports.scheduler import ReplicaStatus, Scheduler
from agent.ports.world import Clock
from agent.state.database import Database
from proto.events import DeployLive, ReplicaLost, ReplicasDraining, ReplicasStarted, TaskStarted
from proto.names import AppId, ReplicaId

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10.0
"""How long a removal waits for a replica's last lines. They are read from a local file: usually milliseconds."""

LOOKS_AT_ONCE = 16
"""Followers that ask the engine at the same time where they begin. At the agent's start all do, thousands perhaps, and
those who see to it that everything runs want answers, too."""

PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before following anew, after the engine went away or the disk was full; the last one repeats."""


class LogStreamer:
    """Keeps a follower at every replica. Fulfils ``LogKeeper``. Nothing is followed before `run` is under way."""

    def __init__(
        self,
        database: Database,
        *,
        source: LogSource,
        store: LogStore,
        scheduler: Scheduler,
        clock: Clock,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._database = database
        self._source = source
        self._store = store
        self._scheduler = scheduler
        self._clock = clock
        self._drain_seconds = drain_seconds
        self._followers: dict[ReplicaId, _Follower] = {}
        self._followed: dict[AppId, set[ReplicaId]] = {}
        """The same by app."""
        self._ended: set[ReplicaId] = set()
        self._group: asyncio.TaskGroup | None = None
        self._has_group = asyncio.Event()
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def run(self) -> None:
        """Own the followers' tasks, until cancelled. What is being stored then is stored to its end."""
        async with asyncio.TaskGroup() as self._group:
            self._has_group.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._has_group.clear()

    @reconciles(ReplicasStarted, ReplicaLost, ReplicasDraining, DeployLive, TaskStarted, name="logs.follow", limit=8)
    async def follow(self, app: AppId) -> None:
        """See to it that each of the app's containers has a follower."""
        rows = await self._database.read.replicas.of_app(app)
        tasks = await self._database.read.tasks.started(app)
        # One whose row is gone may have a container for a while, which its follower reads on.
        followed = self._followed.get(app, ())
        await self._store.retain(app, [*(row.id for row in rows), *(task.id for task in tasks), *followed])
        for replica in [*(row.id for row in rows if row.container is not None), *(task.id for task in tasks)]:
            await self._follower(app, replica)

    @on(ReplicaLost, name="logs.note-loss", limit=8)
    async def note_loss(self, event: ReplicaLost) -> None:
        """Note in the app's log that a replica was lost, if the engine has restarted it: its output just goes on."""
        status = await self._scheduler.look(event.replica) if event.replica in self._followers else None
        # The end of one that was not restarted is noted by its follower, after its last line.
        if status is None or status.phase == "exited":
            return
        position = await self._store.position(event.app, event.replica)
        # Not twice, and not below the note of its end.
        if not position.ended_at:
            line = LogLine(
                at=_nanoseconds(self._clock.now()),
                process=event.process,
                number=event.number,
                release=event.release,
                stream="agent",
                text=f"lost: {event.reason}",
            )
            await self._store.append(event.app, event.replica, [line])

    @surveys
    async def survey(self) -> Iterable[AppId]:
        """Return the apps that have a container which nobody follows."""
        statuses = await self._scheduler.survey()
        self._ended &= {status.replica for status in statuses}
        return {status.app for status in statuses if self._is_unfollowed(status)}

    async def drained(self, app: AppId, replica: ReplicaId) -> None:
        """Return once everything a stopped replica wrote is stored; after 10 s in any case. Gone is fine."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                follower = await self._follower(app, replica)
                follower.hurry()
                await follower.ended.wait()
        except TimeoutError:
            log.warning("logs.end-not-stored", app=app, replica=replica)

    def _is_unfollowed(self, status: ReplicaStatus) -> bool:
        if status.replica in self._followers:
            return False
        return status.phase != "exited" or status.replica not in self._ended

    async def _follower(self, app: AppId, replica: ReplicaId) -> _Follower:
        """Return the replica's follower, started if there is none."""
        await self._has_group.wait()
        assert self._group is not None
        follower = self._followers.get(replica)
        if follower is None:
            follower = _Follower(
                app,
                replica,
                source=self._source,
                store=self._store,
                scheduler=self._scheduler,
                clock=self._clock,
                looking=self._looking,
            )
            self._followers[replica] = follower
            self._followed.setdefault(app, set()).add(replica)
            self._group.create_task(self._own(follower))
        return follower

    async def _own(self, follower: _Follower) -> None:
        """Run a follower to its end. A bug of ours ends it with a traceback; the next survey starts another."""
        try:
            await follower.run()
            self._ended.add(follower.replica)
        except Exception:
            log.exception("logs.follower-failed", app=follower.app, replica=follower.replica)
        finally:
            self._followers.pop(follower.replica, None)
            followed = self._followed[follower.app]
            followed.discard(follower.replica)
            if not followed:
                del self._followed[follower.app]
        # Not if it was cancelled: who waits for the end would remove a container that was not read to it.
        follower.ended.set()


class _Follower:
    """Copies one replica's output into the store until its container has ended or is gone."""

    def __init__(
        self,
        app: AppId,
        replica: ReplicaId,
        *,
        source: LogSource,
        store: LogStore,
        scheduler: Scheduler,
        clock: Clock,
        looking: asyncio.Semaphore,
    ) -> None:
        self.app = app
        self.replica = replica
        self.ended = asyncio.Event()
        """Set once nothing more will be stored."""
        self._source = source
        self._store = store
        self._scheduler = scheduler
        self._clock = clock
        self._looking = looking
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """End a pause: somebody waits for the replica's end."""
        self._hurry.set()

    async def run(self) -> None:
        """Follow until the container has ended and its end is noted, through failures of the engine and the disk."""
        pauses = _Pauses()
        while True:
            try:
                async with self._looking:
                    status = await self._scheduler.look(self.replica)
                if status is None:
                    return
                position = await self._store.position(self.app, self.replica)
                if await self._copy(status, position):
                    pauses = _Pauses()
                elif _is_end_noted(status, position):
                    # Not before it was read: what was noted may be that it was given up while it still ran.
                    return
                has_ended = status.phase == "exited"
                status = await self._scheduler.look(self.replica)
                if status is None:
                    return
                if status.phase == "exited":
                    if not has_ended:
                        # A stream may break off before that. Only what is read after it surely has the last line.
                        continue
                    await self._note_end(status)
                    return
            except Unavailable as error:
                log.warning("logs.interrupted", app=self.app, replica=self.replica, code=error.code, why=error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(pauses.next()):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _copy(self, status: ReplicaStatus, position: Position) -> bool:
        """Store what is new until the source ends. Return whether anything was."""
        resume = _Resume(position, created_at=_nanoseconds(status.created_at))
        has_stored = False
        batches = self._source.follow(self.replica, since=position.since)
        try:
            async for batch in batches:
                fresh = resume.fresh(batch)
                if fresh:
                    await self._store.append(self.app, self.replica, _lines(status, fresh))
                    has_stored = True
        finally:
            # At once, not when it is collected: it holds a connection to the engine.
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()
        return has_stored

    async def _note_end(self, status: ReplicaStatus) -> None:
        text = ending_of(status).removeprefix("it ")
        raw = RawLine(_nanoseconds(self._clock.now()), "agent", text.encode())
        await self._store.append(self.app, self.replica, _lines(status, RawLines.of([raw])))


class _Resume:
    """Tells new lines from those that are stored already, and finds out whether some are missing between."""

    def __init__(self, position: Position, *, created_at: int) -> None:
        self._unmet = dict(position.seen)
        self._newest = position.newest
        # A stored line comes again unless all were rotated away, or belonged to another container.
        self._may_have_gap = bool(position.seen) and created_at <= max(position.seen) + SLOT_NS

    def fresh(self, batch: RawLines) -> RawLines:
        """Return the lines of `batch` that are not stored yet, none longer than `MAX_LINE`; the gap, if any, first."""
        if not self._may_have_gap and min(batch.at) > self._newest and batch.longest <= MAX_LINE:
            return batch
        return RawLines.of(self._singly_fresh(batch))

    def _singly_fresh(self, batch: RawLines) -> Iterator[RawLine]:
        for raw in batch:
            for piece in _pieces(raw):
                if piece.at <= self._newest and self._was_seen(piece):
                    self._may_have_gap = False
                    continue
                if self._may_have_gap:
                    self._may_have_gap = False
                    yield RawLine(piece.at, "agent", GAP.encode())
                yield piece

    def _was_seen(self, piece: RawLine) -> bool:
        slot = slot_of(piece.at)
        count = self._unmet.get(slot, 0)
        if count:
            self._unmet[slot] = count - 1
        return count > 0


class _Pauses:
    """How long to wait before each further try."""

    def __init__(self) -> None:
        self._tries = 0

    def next(self) -> float:
        pause = PAUSES[min(self._tries, len(PAUSES) - 1)]
        self._tries += 1
        return pause


def _is_end_noted(status: ReplicaStatus, position: Position) -> bool:
    """Tell whether the run that `status` saw end is stored to its end, the note of it included."""
    is_noted = position.ended_at > 0 and position.ended_at >= _nanoseconds(status.started_at)
    return status.phase == "exited" and is_noted


def _pieces(raw: RawLine) -> Iterable[RawLine]:
    """Return a line in pieces that the store takes."""
    if len(raw.data) <= MAX_LINE:
        return (raw,)
    starts = range(0, len(raw.data), MAX_LINE)
    return [RawLine(raw.at, raw.stream, raw.data[start : start + MAX_LINE]) for start in starts]


def _lines(status: ReplicaStatus, raw: RawLines) -> LogLines:
    return LogLines(raw, process=status.process, number=status.number, release=status.release)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
