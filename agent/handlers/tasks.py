"""Runs what a deploy has to do once: its release task and the like, each in a container of its own.

The container is made first; then ``started`` is committed; then the engine is asked to start it, by whoever made that
commit and never again. So whatever dies in between, a task runs at most once. Whoever comes after a crash finds the
container by its label, and follows it to its end. If it cannot be found any more, or was never started though it
should have been, the deploy fails and says so.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from agent.bus.subscriptions import on
from agent.errors import Retry, Stopped, Unavailable
from agent.handlers.scheduler import RunDefaults
from agent.handlers.task_output import INDENT, TaskOutput
from agent.lifecycle import deploys, pushes, tasks, wishes
from agent.lifecycle.replicas import ending_of
from agent.lifecycle.resources import resources
from agent.ports.logs import LogKeeper, LogReader, Transcripts
from agent.ports.scheduler import Scheduler, StartFailed, TaskWish
from agent.ports.world import Clock, Stop
from agent.state.apps import App
from agent.state.database import Database
from agent.state.plans import TaskKind
from agent.state.releases import Release
from agent.state.tasks import Task
from proto.events import AppDestroyed, DeployCancelled, DeployLive, DeploySuperseded, ReleaseCreated
from proto.names import AppId, DeployId, TaskId

log = structlog.get_logger(__name__)

TURN_SECONDS = 0.5
"""Before a task that waits for another one of its app looks again."""
SILENCE_SECONDS = 1.0
"""Before an engine that did not answer is asked again."""
PATIENCE_SECONDS = 120.0
"""How long a task that was not started waits for an engine that does not answer."""
LATE_LOOKS = 5
"""How often, `SILENCE_SECONDS` apart, a container is looked at that was to be started and is not: the engine may be
about to do it."""
AGAIN_SECONDS = 0.05
"""Between the end of a wait and a look that does not show that end yet."""


class Ending(msgspec.Struct, frozen=True):
    """How a task ended. `reason`: why it did not succeed."""

    exit_code: int | None = None
    reason: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task while it is dealt with."""

    app: App
    release: Release
    task: Task
    output: TaskOutput
    limit_seconds: float
    stop_seconds: float


class Tasks:
    """Runs the tasks of deploys."""

    def __init__(
        self,
        database: Database,
        *,
        scheduler: Scheduler,
        transcripts: Transcripts,
        logs: LogReader,
        keeper: LogKeeper,
        clock: Clock,
        defaults: RunDefaults,
        limit_seconds: float,
    ) -> None:
        """`limit_seconds`: that a task may take, unless a property says otherwise."""
        self._database = database
        self._scheduler = scheduler
        self._transcripts = transcripts
        self._logs = logs
        self._keeper = keeper
        self._clock = clock
        self._defaults = defaults
        self._limit_seconds = limit_seconds
        self._begun: set[TaskId] = set()
        """Tasks under way that this agent has started."""

    @on(
        ReleaseCreated,
        name="tasks.before",
        limit=100,
        tries=10,
        stop_on=(DeployCancelled, DeploySuperseded, AppDestroyed),
    )
    async def before(self, event: ReleaseCreated, stop: Stop) -> None:
        """Run what has to succeed before the release's replicas start, and after its image is in its registry."""
        read = self._database.read
        has_any = any(task.kind in tasks.BEFORE for task in await read.tasks.of_deploy(event.deploy))
        # A push that fails ends the deploy: nothing should have been migrated for it by then.
        if has_any and not stop.is_set and await pushes.is_awaited(read, event.deploy):
            raise Retry("the image is being pushed", after=TURN_SECONDS)
        await self._run_all(event.deploy, tasks.BEFORE, stop)

    @on(DeployLive, name="tasks.after", limit=100, tries=10, stop_on=(AppDestroyed,))
    async def after(self, event: DeployLive, stop: Stop) -> None:
        """Run what is to be done once the release serves."""
        await self._run_all(event.deploy, tasks.AFTER, stop)

    async def _run_all(self, deploy: DeployId, kinds: tuple[TaskKind, ...], stop: Stop) -> None:
        for planned in await self._database.read.tasks.of_deploy(deploy):
            # Read anew: the end of one may have been the end of all.
            task = await self._database.read.tasks.get(planned.id)
            if task is None or task.kind not in kinds:
                continue
            if stop.is_set:
                await self._end_early(task)
            elif task.ended_at is None:
                await self._run(task, stop)

    async def _run(self, task: Task, stop: Stop) -> None:
        job = await self._job(task)
        if job is None:
            return
        try:
            ending = await stop.race(self._to_its_end(job))
        except Stopped:
            await self._end_early(task)
            return
        await self._conclude(job, ending)

    async def _job(self, task: Task) -> Job | None:
        read = self._database.read
        app, release = await read.apps.get(task.app), await read.releases.get(task.app, task.release)
        if app is None or release is None:
            return None
        limit = await read.properties.effective(app.id, "ps.task-timeout-seconds")
        return Job(
            app=app,
            release=release,
            task=task,
            output=TaskOutput(task, logs=self._logs, transcripts=self._transcripts),
            limit_seconds=float(limit) if limit else self._limit_seconds,
            stop_seconds=await self._patience(app.id),
        )

    async def _to_its_end(self, job: Job) -> Ending:
        """Start the task if it never was, follow it, and return how it ended."""
        started_at = job.task.started_at
        if job.task.status == "intended":
            try:
                await self._prepare(job)
                started_at = await self._start(job)
            except StartFailed as error:
                return Ending(reason=f"The {job.task.kind} task could not be started: {error}")
        else:
            if job.task.id not in self._begun:
                job.output.say(f" !     Pushboat was restarted; the {job.task.kind} task was left to itself meanwhile.")
            await job.output.take_up()
        telling = asyncio.ensure_future(job.output.tell())
        try:
            return await self._follow(job, until=(started_at or self._clock.now()) + job.limit_seconds)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _prepare(self, job: Job) -> None:
        """Make the container, waiting for an engine that does not answer, and for an older task of the app."""
        await self._await_turn(job)
        wish = await self._wish(job)
        silent_since: float | None = None
        while True:
            try:
                return await self._scheduler.prepare(wish)
            except Unavailable as error:
                if silent_since is None:
                    silent_since = self._clock.monotonic()
                    job.output.say(f" !     {error.message} Trying again.")
                if error.code == "image.missing" or self._clock.monotonic() - silent_since > PATIENCE_SECONDS:
                    raise StartFailed(f"{error.message} {error.hint}".strip()) from error
            await asyncio.sleep(SILENCE_SECONDS)

    async def _await_turn(self, job: Job) -> None:
        """Return once no other task of the app may be running: an older deploy may not be through with its last."""
        has_told = False
        while others := await self._database.read.tasks.started(job.app.id):
            if not has_told:
                has_told = True
                job.output.say(f"{INDENT}Waiting for the {others[0].kind} task of v{others[0].release} to end")
            await asyncio.sleep(TURN_SECONDS)

    async def _start(self, job: Job) -> float:
        """Have the engine start the container, once and for all; return when that was.

        Raises:
            StartFailed: it was not started.
        """
        async with self._database.transaction() as tx:
            is_ours = await tasks.started(tx, task=job.task)
        if not is_ours:
            raise Retry("another task of the app is under way, or the deploy has ended", after=TURN_SECONDS)
        self._begun.add(job.task.id)
        job.output.say(job.output.heading)
        started_at = self._clock.now()
        try:
            await self._scheduler.begin(job.task.id)
        except Unavailable as error:
            # It may have been started all the same: what the container has come to tells.
            job.output.say(f" !     {error.message}")
        return started_at

    async def _follow(self, job: Job, *, until: float) -> Ending:
        """Return how a task that was started ended; end it where it takes longer than it may."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.now())) as limit:
                return await self._ending(job)
        except TimeoutError:
            if not limit.expired():
                raise
        await self._scheduler.stop(job.task.id, seconds=job.stop_seconds)
        return Ending(
            reason=f"The {job.task.kind} task took longer than {job.limit_seconds:.0f} s and was ended. "
            "It may take longer with: ps:set task-timeout-seconds"
        )

    async def _ending(self, job: Job) -> Ending:
        looks, is_silent = 0, False
        while True:
            pause = SILENCE_SECONDS
            try:
                status = await self._scheduler.look(job.task.id)
                if status is None:
                    return _unknown(job.task)
                if status.exit_code is not None:
                    reason = f"The {job.task.kind} task failed: {ending_of(status)}." if status.exit_code else None
                    return Ending(status.exit_code, reason)
                if status.phase == "created":
                    looks += 1
                    if looks > LATE_LOOKS:
                        return _not_started(job.task)
                else:
                    await self._scheduler.wait(job.task.id)
                    pause = AGAIN_SECONDS
                is_silent = False
            except Unavailable as error:
                if not is_silent:
                    is_silent = True
                    job.output.say(f" !     {error.message} Trying again.")
            await asyncio.sleep(pause)

    async def _conclude(self, job: Job, ending: Ending) -> None:
        """Tell the rest of what it said, note how it ended, and remove its container, in this order."""
        task = job.task
        await self._drained(task)
        await job.output.tell_rest()
        if ending.reason is None:
            job.output.say(f"-----> The {task.kind} task has succeeded")
        elif task.kind in tasks.AFTER:
            job.output.say(f" !     {ending.reason}")
            job.output.say(f" !     v{task.release} serves all the same.")
        log.info("task.ended", task=task.id, kind=task.kind, exit_code=ending.exit_code, reason=ending.reason)
        async with self._database.transaction() as tx:
            await deploys.task_ended(tx, task=task, exit_code=ending.exit_code, reason=ending.reason)
        self._begun.discard(task.id)
        # What a crash leaves here is found by the survey of those who end replicas.
        await self._scheduler.remove(task.id)

    async def _end_early(self, task: Task) -> None:
        """End a task that is no longer wanted, if it was begun, and note that."""
        now = await self._database.read.tasks.get(task.id)
        if now is not None and now.ended_at is None:
            await self._scheduler.stop(task.id, seconds=await self._patience(task.app))
            await self._drained(task)
            reason = f"The {task.kind} task was stopped: the deploy has ended."
            async with self._database.transaction() as tx:
                await deploys.task_ended(tx, task=task, reason=reason)
        self._begun.discard(task.id)
        await self._scheduler.remove(task.id)

    async def _drained(self, task: Task) -> None:
        """Return once all that it wrote is stored."""
        status = await self._scheduler.look(task.id)
        # One that never ran wrote nothing, and has no end that could be waited for.
        if status is not None and status.phase != "created":
            await self._keeper.drained(task.app, task.id)

    async def _wish(self, job: Job) -> TaskWish:
        read = self._database.read
        revision_variable = await read.properties.effective(job.app.id, "git.rev-env-var")
        return wishes.task_wish(
            app=job.app,
            release=job.release,
            config=await read.configs.get(job.app.id, release=job.release.version),
            task=job.task,
            resources=await resources(
                read, app=job.app.id, process=job.task.process, defaults=self._defaults.resources
            ),
            stop_seconds=job.stop_seconds,
            revision_variable=wishes.REVISION_VARIABLE if revision_variable is None else revision_variable,
        )

    async def _patience(self, app: AppId) -> float:
        text = await self._database.read.properties.effective(app, "ps.stop-timeout-seconds")
        return float(text) if text else self._defaults.stop_seconds


def _unknown(task: Task) -> Ending:
    return Ending(
        reason=f"Nobody knows how the {task.kind} task ended: its container is gone. It may have run, so it is not run "
        "again. See what it has done with: logs -p "
        f"{task.kind}. Then deploy again: ps:rebuild"
    )


def _not_started(task: Task) -> Ending:
    return Ending(
        reason=f"The {task.kind} task was to be started just when Pushboat or Docker was stopped, and its container "
        "has not run. Deploy again: ps:rebuild"
    )
