"""Ends replicas that are no longer wanted: drained, stopped, their log stored, then removed.

A drain is a row with a deadline. Nobody sleeps over it: each look says when the next one is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from agent.bus.subscriptions import reconciles, surveys
from agent.errors import Stopped, Unavailable
from agent.lifecycle import replicas
from agent.ports.logs import LogKeeper
from agent.ports.proxy import Proxy, Upstream
from agent.ports.scheduler import Scheduler
from agent.ports.world import Clock, Stop
from agent.state.database import Database
from agent.state.replicas import Replica
from proto.events import ReplicasDraining
from proto.names import AppId, ReplicaId

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""Between questions to the proxy whether a draining replica has requests left."""

FIRST_ROUTE_SECONDS = 10.0
"""For the proxy to be told what is stored, after the start. An agent that was away for longer than a drain would
otherwise end what requests still go to."""


class Retirer:
    """Ends replicas."""

    def __init__(
        self,
        database: Database,
        *,
        scheduler: Scheduler,
        proxy: Proxy,
        keeper: LogKeeper,
        clock: Clock,
        stop_seconds: float,
        turn: asyncio.Lock,
    ) -> None:
        """`turn`: held by whoever makes a table of routes, until the proxy has it."""
        self._database = database
        self._scheduler = scheduler
        self._proxy = proxy
        self._keeper = keeper
        self._clock = clock
        self._stop_seconds = stop_seconds
        self._turn = turn
        self._began_at = clock.monotonic()
        self._due: dict[ReplicaId, float] = {}
        """When the drain of each is over, by the clock that nobody sets: one that is put right cuts nobody off."""

    @reconciles(ReplicasDraining, name="retirer.retire", limit=16, is_interruptible=True)
    async def retire(self, app: AppId, stop: Stop) -> float | None:
        """End those that may go; return the seconds until the next look if others have to wait.

        Raises:
            Unavailable: about one of them something did not answer; the others were dealt with.
        """
        leaving = [r for r in await self._database.read.replicas.of_app(app) if r.state in ("draining", "stopping")]
        outcomes = await asyncio.gather(*(self._attempt(row, stop) for row in leaving))
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):
                raise outcome
        return None if all(outcomes) else LOOK_SECONDS

    @surveys
    async def survey(self) -> Sequence[AppId]:
        """Return the apps with replicas to end; end containers that no row names, or one of a task that has ended."""
        statuses = await self._scheduler.survey()
        rows = await self._database.read.replicas.all()
        known = {row.id for row in rows} | {task.id for task in await self._database.read.tasks.unfinished()}
        for status in statuses:
            # A row is made before its container and deleted after it, so nothing can want this one.
            if status.replica not in known:
                log.warning("retirer.orphan", container=status.name, app=status.app)
                await self._scheduler.stop(status.replica, seconds=self._stop_seconds)
                await self._scheduler.remove(status.replica)
        return [row.app for row in rows if row.state in ("draining", "stopping")]

    async def _attempt(self, row: Replica, stop: Stop) -> bool | Unavailable:
        try:
            return await self._end_if_drained(row, stop)
        except Unavailable as error:
            return error

    async def _end_if_drained(self, row: Replica, stop: Stop) -> bool:
        """Return whether the replica is gone."""
        if row.state == "draining" and not await self._may_stop(row):
            return False
        async with self._database.transaction() as tx:
            await tx.replicas.set_stopping(row.id)
        try:
            await stop.race(self._scheduler.stop(row.id, seconds=await self._patience(row.app)))
        except Stopped:
            return False
        await self._keeper.drained(row.app, row.id)
        await self._scheduler.remove(row.id)
        async with self._database.transaction() as tx:
            await replicas.removed(tx, replica=row)
        self._due.pop(row.id, None)
        return True

    async def _may_stop(self, row: Replica) -> bool:
        if not row.port or row.ready_at is None:
            return True
        now = self._clock.monotonic()
        due = self._due.setdefault(row.id, now + max(0.0, (row.drain_until or 0.0) - self._clock.now()))
        if now >= due and now - self._began_at > FIRST_ROUTE_SECONDS:
            return True
        # A table that is being made may be of what was stored before this one was given up. The proxy is to know of it.
        async with self._turn:
            pass
        return await self._proxy.is_drained(row.app, Upstream(row.id, row.address, row.port))

    async def _patience(self, app: AppId) -> float:
        text = await self._database.read.properties.effective(app, "ps.stop-timeout-seconds")
        return float(text) if text else self._stop_seconds
