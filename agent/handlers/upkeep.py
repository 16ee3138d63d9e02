"""What is done by the clock and not by events: a backup of the database, old events trimmed, repositories repacked.

The time of the last round is stored, so that an agent that is restarted often does its rounds all the same.
"""

from __future__ import annotations

import asyncio

import structlog

from agent.errors import Unavailable, UserError
from agent.lifecycle.kept_commits import kept_commits
from agent.ports.source import SourceRepo
from agent.ports.world import Clock
from agent.state.database import Database

log = structlog.get_logger(__name__)

ROUND_SECONDS = 86_400.0
"""Between rounds: at most a day's events are lost with a disk that breaks."""
FIRST_SECONDS = 300.0
"""After the start, so that it does not add to the work of a machine that has just booted."""
KEPT_SECONDS = 90 * 86_400.0
"""How long events are kept that nobody is owed."""
KEPT_RECORDS_SECONDS = 400 * 86_400.0
"""How long it is known who asked for what: a year, and time to look back on it."""
TRIMMED_AT_ONCE = 1_000
"""Events, or records, per transaction, so that nobody waits for it."""

LONGEST_STEP_SECONDS = 2 * ROUND_SECONDS
"""By how much a round moves on, at most, from what the one before took for the time: a machine that booted with a clock
years ahead shall not lose all that is kept. After a year of standing still, trimming is late by a year."""

_LAST = "upkeep.last-round"
_HORIZON = "upkeep.horizon"


class Upkeep:
    """Does the rounds."""

    def __init__(self, database: Database, *, repos: SourceRepo, clock: Clock) -> None:
        self._database = database
        self._repos = repos
        self._clock = clock

    async def run(self) -> None:
        """Do a round a day until cancelled. One that fails is logged, and done again the next day."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            last = float(await self._database.read.server.get(_LAST) or 0)
            await asyncio.sleep(seconds_until_due(last, now=self._clock.now()))
            try:
                await self.round()
            except (Unavailable, UserError, OSError) as error:
                log.warning("upkeep.failed", reason=str(error))
            async with self._database.transaction() as tx:
                await tx.server.set(_LAST, str(tx.now))

    async def round(self) -> None:
        """Back up, trim, repack. Repeating is harmless."""
        path = await self._database.back_up()
        log.info("upkeep.backed-up", path=str(path))
        horizon = await self._horizon()
        while await self._trim(horizon - KEPT_SECONDS) == TRIMMED_AT_ONCE:
            pass
        while await self._trim_records(horizon - KEPT_RECORDS_SECONDS) == TRIMMED_AT_ONCE:
            pass
        async with self._database.transaction() as tx:
            await tx.replicas.forget_cooled(now=tx.now)
        for app in await self._database.read.apps.all():
            await self._repos.tidy(app.id, kept=await kept_commits(self._database.read, app.id))

    async def _horizon(self) -> float:
        """Return what this round takes for the time when it asks what is old, and note it."""
        async with self._database.transaction() as tx:
            former = await tx.server.get(_HORIZON)
            horizon = tx.now if former is None else min(tx.now, float(former) + LONGEST_STEP_SECONDS)
            await tx.server.set(_HORIZON, str(horizon))
        return horizon

    async def _trim(self, before: float) -> int:
        async with self._database.transaction() as tx:
            return await tx.outbox.trim(before=before, limit=TRIMMED_AT_ONCE)

    async def _trim_records(self, before: float) -> int:
        async with self._database.transaction() as tx:
            return await tx.invocations.trim(before=before, limit=TRIMMED_AT_ONCE)


def seconds_until_due(last: float, *, now: float) -> float:
    """Return how long to wait for the next round. One that lies ahead was noted by a clock that has been set back."""
    return 0.0 if last > now else max(0.0, last + ROUND_SECONDS - now)
