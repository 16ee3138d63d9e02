"""Makes the containers that run equal to those that should: the live release's and the candidate's.

What should run is derived, never remembered: the rows of ``replicas`` are brought in line with it first, then the
engine with the rows. A replica that ended is started again after a pause that grows with each loss.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from agent.bus.subscriptions import reconciles, surveys
from agent.errors import Unavailable
from agent.handlers.patience import Patience
from agent.lifecycle import deploys, replicas, wishes
from agent.lifecycle.resources import resources
from agent.ports.addresses import Bridges
from agent.ports.logs import LogKeeper, Transcripts
from agent.ports.scheduler import ReplicaStatus, ReplicaWish, Resources, Scheduler, StartFailed
from agent.ports.world import Clock, Ids
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy
from agent.state.releases import Release
from agent.state.replicas import WANTED, Replica
from proto.events import (
    AppDestroyed,
    AppStarted,
    AppStopped,
    DeployCancelled,
    DeployFailed,
    DeployLive,
    DeploySuperseded,
    ImagePushed,
    ProcessRestarted,
    ReleaseCreated,
    ReplicaLost,
    ReplicaReady,
    ReplicaRemoved,
    ScaleChanged,
    TaskEnded,
)
from proto.names import AppId, DeployId, ReplicaId

log = structlog.get_logger(__name__)

BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Pause before a replica is started again, by the number of its losses; the last one repeats."""

WELL_SECONDS = 10.0
"""A replica that was ready for so long did not die of being started."""

PAUSE_SHARE = 0.1
"""Of the time for which it was well it waits at the most, so that an app which fails now and then serves nine tenths of
the time with a single replica."""

FORGIVEN_AFTER_SECONDS = 600.0
"""A replica that was well for so long starts again at once when it is lost the next time."""

PATIENCE_SECONDS = 120.0
"""How long a candidate waits for an engine that does not start it. What is live is tried again for ever."""

MISSING_IMAGE = "image.missing"


class RunDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What replicas get unless a property says otherwise."""

    resources: Resources
    stop_seconds: float
    drain_seconds: float


class SchedulerReconciler:
    """Keeps replicas running."""

    def __init__(
        self,
        database: Database,
        *,
        scheduler: Scheduler,
        keeper: LogKeeper,
        bridges: Bridges,
        transcripts: Transcripts,
        clock: Clock,
        ids: Ids,
        fingerprint: Callable[[bytes], str],
        defaults: RunDefaults,
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._keeper = keeper
        self._bridges = bridges
        self._transcripts = transcripts
        self._clock = clock
        self._ids = ids
        self._fingerprint = fingerprint
        self._defaults = defaults
        self._has_surveyed = False
        self._told_waiting: dict[AppId, DeployId] = {}
        self._patience = Patience(clock, seconds=PATIENCE_SECONDS)

    @reconciles(
        ReleaseCreated,
        ImagePushed,
        TaskEnded,
        DeployLive,
        DeployFailed,
        DeployCancelled,
        DeploySuperseded,
        ScaleChanged,
        ProcessRestarted,
        AppStarted,
        AppStopped,
        AppDestroyed,
        ReplicaLost,
        ReplicaReady,
        ReplicaRemoved,
        name="scheduler.converge",
        limit=8,
    )
    async def converge(self, app: AppId) -> float | None:
        """Run what should run; return the seconds until a lost replica is to be started again.

        Raises:
            Unavailable: the engine does not answer, and no deploy has waited long enough for it to fail.
        """
        try:
            again = await self._converge(app)
        except Unavailable as error:
            if not await self._is_given_up(app, error):
                raise
            return None
        self._patience.end(app)
        return again

    async def _converge(self, app: AppId) -> float | None:
        row = await self._database.read.apps.get(app)
        if row is None:
            return None
        await self._note_losses(app)
        drain_seconds = await self._drain_seconds(app)
        async with self._database.transaction() as tx:
            rows = await replicas.plan(
                tx, app=app, bridges=self._bridges, new_id=self._ids.new, drain_seconds=drain_seconds
            )
        async with self._database.snapshot() as tables:
            releases = await replicas.generations(tables, app)
            candidate = await tables.deploys.candidate(app)
            slots = await replicas.wanted(tables, app) if candidate else []
        self._tell_waiting([slot for slot in slots if slot.waits_for], candidate)
        for release in releases:
            of_release = [replica for replica in rows if replica.release == release.version]
            await self._start(row, release, of_release, candidate=candidate)
        async with self._database.transaction() as tx:
            await deploys.ready_if_complete(tx, app=app)
        return self._next_retry(rows)

    def _tell_waiting(self, waiting: Sequence[replicas.Slot], candidate: Deploy | None) -> None:
        """Tell those who watch a deploy, once, what it waits for."""
        if candidate is None or not waiting or self._told_waiting.get(candidate.app) == candidate.id:
            return
        self._told_waiting[candidate.app] = candidate.id
        lines = {
            "the old ones": "       Waiting for the old {} to end first",
            "its turn": "       Batch by batch: the rest of {} follows as those before take the place of old ones",
        }
        for reason, line in lines.items():
            if types := sorted({slot.process for slot in waiting if slot.waits_for == reason}):
                self._transcripts.say(candidate.app, candidate.id, line.format(", ".join(types)))

    @surveys
    async def survey(self) -> Iterable[AppId]:
        """Return the apps whose containers differ from their rows, by one look at the engine.

        The first time every app is returned: what should run may have been left half done.
        """
        statuses: dict[ReplicaId, ReplicaStatus] = {}
        for status in await self._scheduler.survey():
            statuses.setdefault(status.replica, status)
        rows = await self._database.read.replicas.all()
        now = self._clock.now()
        differing = {row.app for row in rows if _differs(row, statuses.get(row.id), now=now)}
        if not self._has_surveyed:
            self._has_surveyed = True
            differing |= {app.id for app in await self._database.read.apps.all()}
        return differing

    async def _note_losses(self, app: AppId) -> None:
        """Find out which ready replicas do not run any more, or did not run all the time."""
        ready = [row for row in await self._database.read.replicas.of_app(app) if row.state == "ready"]
        statuses = await asyncio.gather(*(self._scheduler.look(row.id) for row in ready))
        for row, status in zip(ready, statuses, strict=True):
            reason = loss_of(row, status, now=self._clock.now())
            if reason is None:
                await self._forgive(row)
                continue
            log.warning("replica.lost", replica=row.label, release=row.release, reason=reason)
            async with self._database.transaction() as tx:
                well = tx.now - row.ready_at if row.ready_at is not None else 0.0
                await replicas.lost(tx, replica=row, reason=reason, retry_at=tx.now + backoff(row.losses, well=well))

    async def _forgive(self, row: Replica) -> None:
        if row.losses and row.ready_at is not None and self._clock.now() - row.ready_at > FORGIVEN_AFTER_SECONDS:
            async with self._database.transaction() as tx:
                await tx.replicas.forgive(row.id)

    async def _start(self, app: App, release: Release, rows: Sequence[Replica], *, candidate: Deploy | None) -> None:
        """Start what is due of one release. What cannot start fails the candidate, or waits for its next try."""
        due = [row for row in rows if row.state == "planned" and not _wait_of(row, now=self._clock.now())]
        if not due:
            return
        deploy = candidate if candidate and candidate.release == release.version else None
        if deploy:
            counts = _counts(due)
            self._transcripts.say(app.id, deploy.id, f"-----> Starting v{release.version} ({counts})")
        try:
            statuses = await self._scheduler.converge(
                app.id, await self._wishes(app, release, due), self._sayer(app.id, deploy)
            )
        except StartFailed as error:
            await self._cannot_start(due, deploy, str(error))
            return
        except Unavailable as error:
            if error.code != MISSING_IMAGE:
                raise
            await self._cannot_start(due, deploy, f"{error.message} {error.hint}")
            return
        await self._note_started(app, statuses)

    async def _is_given_up(self, app: AppId, error: Unavailable) -> bool:
        """Fail the deploy that is to be started if it has waited long enough; tell whether it was failed."""
        deploy = await self._database.read.deploys.candidate(app)
        if deploy is None or deploy.status != "starting":
            return False
        if self._patience.begin(app, deploy.id):
            self._transcripts.say(app, deploy.id, f" !     {error.message} Trying again.")
        if not self._patience.is_over(app, deploy.id):
            return False
        await self._cannot_start((), deploy, f"{error.message} {error.hint}".strip())
        return True

    async def _note_started(self, app: App, statuses: Sequence[ReplicaStatus]) -> None:
        """Note what was started. One that has ended already goes to its check too, which tells why and decides."""
        async with self._database.transaction() as tx:
            containers = [(status.replica, status.container) for status in statuses]
            await replicas.started(tx, app=app.id, containers=containers)
            rows = {row.id: row for row in await tx.replicas.of_app(app.id)}
        for status in statuses:
            row = rows.get(status.replica)
            # It was given up while it was being started, so the one who ends replicas may have missed it.
            if row is None or row.state not in WANTED:
                await self._scheduler.stop(status.replica, seconds=self._defaults.stop_seconds)
                await self._keeper.drained(app.id, status.replica)
                await self._scheduler.remove(status.replica)

    async def _cannot_start(self, rows: Sequence[Replica], deploy: Deploy | None, reason: str) -> None:
        async with self._database.transaction() as tx:
            if deploy:
                await deploys.fail(tx, deploy=deploy, stage="start", reason=reason)
                return
            for row in rows:
                # Never started, so not lost; only the next try is put off.
                await tx.replicas.postpone(row.id, retry_at=tx.now + max(1.0, backoff(row.losses)))
        log.warning("replica.cannot-start", replicas=[row.label for row in rows], reason=reason)

    async def _wishes(self, app: App, release: Release, rows: Sequence[Replica]) -> list[ReplicaWish]:
        read = self._database.read
        config = await read.configs.get(app.id, release=release.version)
        revision_variable = await read.properties.effective(app.id, "git.rev-env-var")
        stop_text = await read.properties.effective(app.id, "ps.stop-timeout-seconds")
        return [
            wishes.replica_wish(
                app=app,
                release=release,
                config=config,
                replica=row,
                resources=await resources(read, app=app.id, process=row.process, defaults=self._defaults.resources),
                stop_seconds=float(stop_text) if stop_text else self._defaults.stop_seconds,
                revision_variable=wishes.REVISION_VARIABLE if revision_variable is None else revision_variable,
                fingerprint=self._fingerprint,
            )
            for row in rows
        ]

    async def _drain_seconds(self, app: AppId) -> float:
        text = await self._database.read.properties.effective(app, "checks.wait-to-retire")
        return float(text) if text else self._defaults.drain_seconds

    def _next_retry(self, rows: Sequence[Replica]) -> float | None:
        waits = [_wait_of(row, now=self._clock.now()) for row in rows if row.state == "planned"]
        return min(filter(None, waits), default=None)

    def _sayer(self, app: AppId, deploy: Deploy | None) -> Callable[[str], None]:
        if deploy is None:
            return lambda line: log.info("scheduler.said", line=line)
        return lambda line: self._transcripts.say(app, deploy.id, f"       {line}")


def backoff(losses: int, *, well: float = 0.0) -> float:
    """Return the seconds to wait before a replica with so many losses behind it is started again.

    `well`: seconds that it was ready before the last one. Pauses are for replicas that die as they start; one that has
    served for a while is worth more than the work of starting it.
    """
    longest = BACKOFF_SECONDS[min(losses, len(BACKOFF_SECONDS) - 1)]
    return min(longest, well * PAUSE_SHARE) if well >= WELL_SECONDS else longest


def _wait_of(row: Replica, *, now: float) -> float:
    """Return the seconds until a replica may be started. None is meant to wait longer than the longest pause."""
    wait = row.retry_at - now
    # More than that, and the machine's clock was set back since it was stored.
    return wait if 0.0 < wait <= BACKOFF_SECONDS[-1] else 0.0


def loss_of(row: Replica, status: ReplicaStatus | None, *, now: float) -> str | None:
    """Return why a ready replica cannot be counted on any more, in words for users, or `None` if it can."""
    if status is None:
        return "its container is gone"
    if _is_another(row, status):
        return "its container is not the one that was started for it"
    if status.phase == "running":
        return "it was restarted and has to pass its check again" if _was_restarted(row, status, now=now) else None
    return replicas.ending_of(status)


def _differs(row: Replica, status: ReplicaStatus | None, *, now: float) -> bool:
    if row.state not in WANTED:
        return False
    if row.state == "planned" or status is None or status.phase != "running":
        return True
    return row.state == "ready" and (_is_another(row, status) or _was_restarted(row, status, now=now))


def _is_another(row: Replica, status: ReplicaStatus) -> bool:
    # The one that the row names was as wished when it was started, by its fingerprint, and no engine changes a label.
    # So there is no config to open for this, nor does a new agent with another recipe find all that runs wrong.
    return row.container is not None and row.container != status.container


def _was_restarted(row: Replica, status: ReplicaStatus, *, now: float) -> bool:
    # Later than both stored times, and not to come: the machine's clock may have been set back since it was started.
    return row.ready_at is not None and max(row.ready_at, row.started_at or 0.0) < status.started_at <= now


def _counts(rows: Sequence[Replica]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.process] += 1
    return ", ".join(f"{process}={count}" for process, count in counts.items())
