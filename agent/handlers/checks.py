"""Finds out when a started replica is ready, and ends the deploy of one that never will be.

All waiting replicas of an app are watched at once, in memory. Whenever one of them is drained, or others start, the
watching goes on from where it was; attempts and pauses are not stored, so that after a restart of the agent they begin
anew, and the patience is counted from the time that the container was started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from agent.bus.subscriptions import reconciles, surveys
from agent.errors import Stopped, Unavailable
from agent.lifecycle import checks, deploys, domains, replicas
from agent.ports.logs import LogKeeper, LogLine, LogQuery, LogReader, Transcripts
from agent.ports.scheduler import CheckSpec, Prober, ReplicaStatus, Scheduler
from agent.ports.world import Clock, Stop
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy
from agent.state.releases import Release
from agent.state.replicas import Replica
from proto.events import ReplicasDraining, ReplicasStarted
from proto.names import AppId, ReplicaId

log = structlog.get_logger(__name__)

FIRST_POLL_SECONDS = 0.02
"""A small server listens after 70 to 150 ms; asking sooner costs nothing."""
POLL_GROWTH = 1.5
SLOWEST_POLL_SECONDS = 1.0
LAST_LINES = 30
"""Log lines of a failed replica that the pusher is shown."""
LOOK_SECONDS = 0.25
"""Between looks at whether a container that is waited for still runs."""
SILENCE_SECONDS = 1.0
"""Before an engine that did not answer is asked again."""
SILENCE_PATIENCE_SECONDS = 120.0
"""How long a deploy waits, once its replicas are started, for an engine that does not answer."""
ENDED_FROM_OUTSIDE = (137, 143)
"""Exit statuses of SIGKILL and SIGTERM. An engine that is restarted ends its containers by them while it still answers;
whoever sent them, once is forgiven."""
LOST_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class NotReady(Exception):
    """A replica did not pass. The text says why, for users."""


class Interrupted(Exception):
    """A replica did not pass for a reason that is hardly its own (the engine was restarted): it is started again."""


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a replica while it is waited for."""

    app: App
    release: Release
    row: Replica
    deploy: Deploy | None
    """The deploy that fails if the replica does; `None`: the release is live already."""
    host: str
    """Sent as Host by HTTP checks."""
    is_checked: bool
    """Whether it has checks to pass; else it is ready as soon as it runs."""


class Run(msgspec.Struct, frozen=True):
    """A check that a replica has before it, since one of its starts."""

    app: AppId
    replica: ReplicaId
    started_at: float | None
    check: CheckSpec


class Checks:
    """Waits for replicas to become ready."""

    def __init__(
        self,
        database: Database,
        *,
        scheduler: Scheduler,
        prober: Prober,
        transcripts: Transcripts,
        logs: LogReader,
        keeper: LogKeeper,
        clock: Clock,
        start_seconds: float,
        stop_seconds: float,
    ) -> None:
        """`start_seconds`: how long a web process may take until it listens, if app.json says nothing else.

        `stop_seconds`: from SIGTERM to SIGKILL for a replica that runs and is not ready within its time.
        """
        self._database = database
        self._scheduler = scheduler
        self._prober = prober
        self._transcripts = transcripts
        self._logs = logs
        self._keeper = keeper
        self._clock = clock
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._failed_attempts: dict[Run, int] = {}
        """Of checks that are under way."""

    @reconciles(ReplicasStarted, ReplicasDraining, name="checks.watch", limit=1000, is_interruptible=True)
    async def watch(self, app: AppId, stop: Stop) -> float | None:
        """Watch every started replica of the app until each is ready or has failed, or something changed."""
        watches = await self._watches(app)
        waiting = {(watch.row.id, watch.row.started_at) for watch in watches}
        for run in [run for run in self._failed_attempts if run.app == app]:
            if (run.replica, run.started_at) not in waiting:
                del self._failed_attempts[run]
        try:
            async with asyncio.TaskGroup() as group:
                for watch in watches:
                    group.create_task(self._until_decided(watch, stop))
        except ExceptionGroup as failures:
            late, others = failures.split(Unavailable)
            if late is None or others is not None:
                raise
            # Such as a full disk: the bus knows what to do with one of them, and takes a group for a mistake of ours.
            raise _first(late) from failures
        return None

    @surveys
    async def survey(self) -> Sequence[AppId]:
        """Return the apps that have replicas waiting for their check: nobody watches them after a restart."""
        return [row.app for row in await self._database.read.replicas.all() if row.state == "started"]

    async def _watches(self, app: AppId) -> list[Watch]:
        async with self._database.snapshot() as tables:
            row = await tables.apps.get(app)
            if row is None:
                return []
            candidate = await tables.deploys.candidate(app)
            releases = {release.version: release for release in await replicas.generations(tables, app)}
            names = await domains.of_app(tables, row)
            modes = await checks.modes_of(tables, app)
            waiting = [replica for replica in await tables.replicas.of_app(app) if replica.state == "started"]
        return [
            Watch(
                app=row,
                release=releases[replica.release],
                row=replica,
                deploy=candidate if candidate and candidate.release == replica.release else None,
                host=next((name for name in names if not name.startswith("*")), row.name),
                is_checked=modes.of(replica.process) == "enabled",
            )
            for replica in waiting
            if replica.release in releases
        ]

    async def _until_decided(self, watch: Watch, stop: Stop) -> None:
        try:
            await stop.race(self._through_silence(watch))
        except Stopped:
            return
        except Interrupted as error:
            await self._lose(watch, str(error))
            return
        except NotReady as error:
            await self._failed(watch, str(error))
            return
        async with self._database.transaction() as tx:
            if await replicas.ready(tx, replica=watch.row):
                await deploys.ready_if_complete(tx, app=watch.app.id)
        if watch.deploy:
            told = "is ready" if watch.is_checked else "runs; its checks are off"
            self._say(watch, f"       {watch.row.label} {told}")

    async def _through_silence(self, watch: Watch) -> None:
        """Wait until the replica is ready, beginning anew whenever the engine did not answer."""
        silent_since: float | None = None
        while True:
            try:
                return await self._until_ready(watch)
            except NotReady as error:
                if silent_since is None:
                    raise
                raise Interrupted(str(error)) from error
            except Unavailable as error:
                if silent_since is None:
                    silent_since = self._clock.monotonic()
                    self._say(watch, f" !     {error.message} Trying again.")
                    log.warning("checks.engine-silent", replica=watch.row.label, reason=error.message)
                if watch.deploy and self._clock.monotonic() - silent_since > SILENCE_PATIENCE_SECONDS:
                    raise NotReady(error.message) from error
            await asyncio.sleep(SILENCE_SECONDS)

    async def _until_ready(self, watch: Watch) -> None:
        due = checks.due(watch.release, watch.row, start_seconds=self._start_seconds) if watch.is_checked else ()
        first = await self._look(watch)
        alive = asyncio.ensure_future(self._watch_over(watch, first))
        passed = asyncio.gather(*(self._pass(watch, check) for check in due))
        try:
            await asyncio.wait((alive, passed), return_when=asyncio.FIRST_COMPLETED)
            (await alive) if alive.done() else (await passed)
        finally:
            alive.cancel()
            passed.cancel()
            await asyncio.gather(alive, passed, return_exceptions=True)
        # Between the last look and the check's answer it may have ended.
        await self._require_running(watch, first)
        await self._scheduler.entrust(watch.row.id)

    async def _pass(self, watch: Watch, check: CheckSpec) -> None:
        """Return once `check` passed; a failed one that is a warning is told, no more."""
        try:
            await self._attempt(watch, check)
        except NotReady as error:
            if not check.is_warning:
                raise
            self._say(watch, f" !     {watch.row.label}: {error} (only a warning)")

    async def _attempt(self, watch: Watch, check: CheckSpec) -> None:
        match check.kind:
            case "uptime":
                await self._stay_up(watch, check.uptime)
            case "connect" | "image":
                await self._poll(watch, check)
            case "path" | "command" | "listening":
                await self._try_times(watch, check)

    async def _stay_up(self, watch: Watch, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds - self._age(watch)))

    async def _poll(self, watch: Watch, check: CheckSpec) -> None:
        """Ask often at first, then less; give up when the replica had its time."""
        started_at = self._clock.monotonic() - self._age(watch)
        pause = FIRST_POLL_SECONDS
        while True:
            status = await self._look(watch)
            reason = await self._prober.probe(check, status, port=watch.row.port, host=watch.host)
            if reason is None:
                return
            # A HEALTHCHECK that asks once a minute has its time; one that has come to its result has had it.
            patience = self._start_seconds if status.health == "unhealthy" else check.uptime
            if (waited := self._clock.monotonic() - started_at) > patience:
                raise NotReady(f"{reason} (waited {waited:.0f} s)")
            await asyncio.sleep(pause)
            pause = min(pause * POLL_GROWTH, SLOWEST_POLL_SECONDS)

    def _age(self, watch: Watch) -> float:
        """Return how long ago the replica was started; 0 if the machine's clock was set back since."""
        return max(0.0, self._clock.now() - (watch.row.started_at or self._clock.now()))

    async def _try_times(self, watch: Watch, check: CheckSpec) -> None:
        """As app.json says: so many attempts, so long between them, the first so long after the start."""
        run = Run(watch.app.id, watch.row.id, watch.row.started_at, check)
        failed = self._failed_attempts.get(run, 0)
        await asyncio.sleep(check.wait if failed else max(0.0, check.initial_delay - self._age(watch)))
        while (reason := await self._probe(watch, check)) is not None:
            failed += 1
            self._failed_attempts[run] = failed
            self._say(watch, f"       {watch.row.label}: {check.name}, attempt {failed} of {check.attempts}: {reason}")
            if failed >= check.attempts:
                del self._failed_attempts[run]
                raise NotReady(f"the check {check.name} failed {failed} times: {reason}")
            await asyncio.sleep(check.wait)

    async def _probe(self, watch: Watch, check: CheckSpec) -> str | None:
        status = await self._look(watch)
        return await self._prober.probe(check, status, port=watch.row.port, host=watch.host)

    async def _watch_over(self, watch: Watch, first: ReplicaStatus) -> None:
        """Raise as soon as the replica has ended: no check can pass then. Never returns."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._require_running(watch, first)

    async def _require_running(self, watch: Watch, first: ReplicaStatus) -> None:
        """Raise unless the replica runs, and has done so without a break since `first`."""
        status = await self._look(watch)
        if status.exit_code in ENDED_FROM_OUTSIDE and not status.is_oom_killed and not watch.row.losses:
            raise Interrupted(replicas.ending_of(status))
        if status.phase != "running":
            raise NotReady(replicas.ending_of(status))
        if status.started_at != first.started_at:
            raise NotReady("it ended, and was started again")

    async def _look(self, watch: Watch) -> ReplicaStatus:
        status = await self._scheduler.look(watch.row.id)
        if status is None:
            raise NotReady("its container is gone")
        return status

    async def _failed(self, watch: Watch, reason: str) -> None:
        log.warning("replica.not-ready", replica=watch.row.label, release=watch.row.release, reason=reason)
        try:
            if watch.deploy:
                await self._show_last_lines(watch)
            else:
                # Whatever it is doing, it is not getting ready: its next start shall be a fresh one.
                await self._scheduler.stop(watch.row.id, seconds=self._stop_seconds)
        except Unavailable as error:
            log.warning("checks.engine-silent", replica=watch.row.label, reason=error.message)
        if watch.deploy is None:
            await self._lose(watch, reason)
            return
        async with self._database.transaction() as tx:
            await deploys.fail(
                tx, deploy=watch.deploy, stage="checks", reason=f"{watch.row.label} is not ready: {reason}"
            )

    async def _lose(self, watch: Watch, reason: str) -> None:
        async with self._database.transaction() as tx:
            pause = LOST_BACKOFF_SECONDS[min(watch.row.losses, len(LOST_BACKOFF_SECONDS) - 1)]
            await replicas.lost(tx, replica=watch.row, reason=reason, retry_at=tx.now + pause)

    async def _show_last_lines(self, watch: Watch) -> None:
        status = await self._scheduler.look(watch.row.id)
        if status is None or status.phase == "exited":
            await self._keeper.drained(watch.app.id, watch.row.id)
        query = LogQuery(last=LAST_LINES, process=watch.row.process, number=watch.row.number, release=watch.row.release)
        lines: list[LogLine] = []
        async for page in self._logs.read(watch.app.id, query):
            lines += page
        self._say(watch, f"=====> Start of {watch.app.name} container output ({watch.row.label})")
        for line in lines:
            self._say(watch, f"       {line.text}")
        self._say(watch, f"=====> End of {watch.app.name} container output ({watch.row.label})")

    def _say(self, watch: Watch, line: str) -> None:
        if watch.deploy:
            self._transcripts.say(watch.app.id, watch.deploy.id, line)


def _first(failures: ExceptionGroup[Unavailable]) -> Unavailable:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, ExceptionGroup) else failure
