"""Delivers stored events to handlers.

The queue is the ``deliveries`` table; memory holds where each lane stands (see ``lanes``). The table is read whole
once, at the start; from then on the database tells of each commit, and a lane reads its next event when it has dealt
with the last. Nothing polls: without events, nudges and pauses that end, nothing runs.

A delivery is forgotten only after its handler returned. A crash in between delivers it again, which is why every
handler must be safe to repeat. Attempts are counted before they begin, so that an event which kills the agent is
given up too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence

import structlog

from agent.bus.calls import Calls
from agent.bus.lanes import Lane, Work, stops
from agent.bus.ledger import Ledger
from agent.bus.subscriptions import subscriptions_of, survey_of
from agent.bus.surveys import SURVEY_SECONDS, Surveyor
from agent.bus.timers import BACKOFF, MAX_PAUSE, Timers
from agent.ports.world import Clock
from agent.state.database import Database
from agent.state.outbox import OwedLane
from proto.events import Event
from proto.names import AppId

log = structlog.get_logger(__name__)


class Bus:
    """Runs handlers until told to stop."""

    def __init__(
        self, database: Database, handlers: Sequence[object], *, clock: Clock, survey_seconds: float = SURVEY_SECONDS
    ) -> None:
        """`survey_seconds`: from the end of one survey to the next; what no event told of is found that late."""
        self._database = database
        self._clock = clock
        self._works: dict[str, Work] = {}
        self._wanted_by: dict[type[Event], list[Work]] = {}
        self._stopped_by: dict[type[Event], list[Work]] = {}
        self._timers = Timers(clock)
        self._ledger = Ledger(database, timers=self._timers, spawn=self._spawn_unseen, on_stuck=self._tell)
        self._calls = Calls(database, ledger=self._ledger, clock=clock, free=self._free)
        self._surveyors: list[Surveyor] = []
        self._group: asyncio.TaskGroup | None = None
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._is_loaded = False
        self._is_open = False
        self._is_stopping = False
        for handler in handlers:
            self._add(handler, survey_seconds=survey_seconds)
        database.listeners.append(self._heard)

    # What its owner may ask.

    async def run(self) -> None:
        """Deliver until `stop` is called. A bug of the bus itself ends this with its exception."""
        async with self.delivering():
            await self._stopped.wait()

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Deliver during the block; cancel at its end what still runs. What was cancelled stays owed."""
        if not self._is_loaded:
            await self._load()
            self._is_loaded = True
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._context = contextvars.copy_context()
            self._timers.start()
            self._is_open = True
            try:
                self._pump()
                yield
            finally:
                self._is_open = False
                self._timers.stop()
                for task in self._tasks:
                    task.cancel()
                if self._tasks:
                    await asyncio.wait(self._tasks)
                await self._ledger.finish()
                self._group = None

    async def stop(self, *, grace: float = 10.0) -> None:
        """Start nothing more, wait up to `grace` seconds for what runs, and let `run` cancel the rest and return.

        The attempt that is cancelled is not counted: shutting down is not the handler's fault.
        """
        self._is_stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self._stopped.set()

    def nudge(self, app: AppId, *, names: Collection[str] | None = None) -> None:
        """Ask the reconcilers (those called `names`, or all) to look at `app` soon. Forgotten on restart.

        One that takes a stop signal and is looking already begins anew.
        """
        for work in self._works.values():
            if work.is_level and (names is None or work.subscription.name in names):
                lane = work.lane(app)
                lane.nudge()
                lane.interrupt()
                self._hasten(lane)
                self._queue(lane)
        self._pump()

    def resurvey(self) -> None:
        """Survey as soon as possible: something may have changed that nobody told of (Docker was away, say).

        Those who pause because something of the world did not answer try again soon, too: it may be back.
        """
        for surveyor in self._surveyors:
            surveyor.ask()
        for work in self._works.values():
            for lane in work.lanes.values():
                if lane.waits_for_world:
                    self._hasten(lane)
        self._pump()

    async def settle(self, *, advance: Callable[[float], None] | None = None, within: float = 60.0) -> None:
        """Do all that is due now, and all that follows from it, and return. For tests.

        With `advance`, which sets the test's clock forward, go on to what is due next, up to `within` seconds on.
        """
        if not self._is_open:
            async with self.delivering():
                await self._settle(advance, within=within)
        else:
            await self._settle(advance, within=within)

    # Starting.

    def _add(self, handler: object, *, survey_seconds: float) -> None:
        levels: list[Work] = []
        for subscription in subscriptions_of(type(handler)):
            if subscription.name in self._works:
                raise ValueError(f"two subscriptions are called {subscription.name}")
            work = self._works[subscription.name] = Work(subscription, handler)
            for event_type in subscription.events:
                self._wanted_by.setdefault(event_type, []).append(work)
            for event_type in subscription.stop_on:
                self._stopped_by.setdefault(event_type, []).append(work)
            if work.is_level:
                levels.append(work)
        method = survey_of(type(handler))
        if method is not None:
            survey = Surveyor(
                getattr(handler, method),
                name=f"{type(handler).__name__}.{method}",
                report=lambda apps: self._found(levels, apps),
                timers=self._timers,
                pump=self._pump,
                seconds=survey_seconds,
            )
            self._surveyors.append(survey)

    async def _load(self) -> None:
        """Take up what is owed. Events that are committed meanwhile reach the lanes by `_heard`."""
        async with self._database.transaction() as tx:
            unknown = await tx.outbox.bury_all_but(sorted(self._works), reason="no handler has this name any more")
        if unknown:
            log.error("bus.handlers-gone", handlers=unknown)
        for owed in await self._database.read.outbox.lanes():
            self._restore(owed)

    def _restore(self, owed: OwedLane) -> None:
        head = owed.head
        lane = self._works[head.handler].lane(head.app)
        lane.position = head.event_id - 1
        lane.newest = max(lane.newest, owed.newest)
        lane.head = None if lane.work.is_level else self._calls.decoded(head)
        # The stored time is one of the machine's clock. If that was set back since, what is left is no pause of ours.
        wait = 0.0 if lane.work.is_level else min(head.due_at - self._clock.now(), BACKOFF[-1])
        self._pause(lane, wait)
        self._queue(lane)

    # What happens to lanes. None of this waits; each step ends with `_pump`.

    def _heard(self, events: Sequence[tuple[int, Event]]) -> None:
        """Take note of a commit. A listener of the database."""
        now = self._clock.now()
        for event_id, event in events:
            for work in self._wanted_by.get(type(event), ()):
                lane = work.lane(event.app)
                lane.owe(event_id, event, now=now)
                if work.is_level:
                    self._hasten(lane)
                self._queue(lane)
            for work in self._stopped_by.get(type(event), ()):
                if (stopped := work.lanes.get(event.app)) is not None:
                    self._stop_work(stopped, event)
        self._pump()

    def _stop_work(self, lane: Lane, stop_event: Event) -> None:
        if lane.head is None or not stops(stop_event, event=lane.head.event):
            return
        if lane.stop is not None:
            lane.stop.set()
        # A pause would only keep the next event waiting.
        lane.resume()
        self._queue(lane)

    def _hasten(self, lane: Lane) -> None:
        """Cut a pause short: what is new may be what the lane waits for. Not to nothing: it may be its own doing."""
        if lane.hold is not None and lane.is_held:
            self._pause(lane, min(BACKOFF[0], lane.hold.due - self._clock.monotonic()))

    def _found(self, levels: list[Work], apps: Collection[AppId]) -> None:
        # Sorted, since most surveys return sets: what begins first should not depend on how Python hashes strings.
        for app in sorted(apps):
            for work in levels:
                lane = work.lane(app)
                lane.nudge()
                self._queue(lane)
        self._pump()

    def _pause(self, lane: Lane, seconds: float) -> None:
        lane.resume()
        if seconds > 0:
            lane.hold = self._timers.after(min(seconds, MAX_PAUSE), lambda: self._wake(lane))

    def _wake(self, lane: Lane) -> None:
        self._queue(lane)
        self._pump()

    def _recall(self, lane: Lane) -> None:
        lane.nudge()
        self._wake(lane)

    def _queue(self, lane: Lane) -> None:
        if lane.is_ready:
            lane.is_queued = True
            lane.work.queue.append(lane)

    def _free(self, lane: Lane) -> None:
        """Let another lane of the handler begin. Repeating is harmless."""
        if lane.has_slot:
            lane.has_slot = False
            lane.work.running -= 1
            self._pump()

    def _pump(self) -> None:
        """Begin every call that wants to and may."""
        if not self._is_open or self._is_stopping:
            return
        for surveyor in self._surveyors:
            if surveyor.wants_to_run:
                self._spawn(surveyor.run())
        for work in self._works.values():
            while work.queue and work.has_room:
                lane = work.queue.popleft()
                lane.is_queued = False
                lane.is_running = lane.has_slot = True
                work.running += 1
                self._spawn(self._serve(lane))

    async def _serve(self, lane: Lane) -> None:
        """Make one call of the lane's handler, and say when the next may be."""
        seconds, recall = 0.0, None
        if lane.recall is not None:
            lane.recall.cancel()
        try:
            if lane.work.is_level:
                seconds, recall = await self._calls.reconcile(lane)
            else:
                seconds = await self._calls.deliver(lane)
        finally:
            lane.is_running = False
            lane.stop = None
            self._pause(lane, seconds)
            if recall is not None:
                lane.recall = self._timers.after(recall, lambda: self._recall(lane))
            self._queue(lane)
            if lane.is_idle:
                del lane.work.lanes[lane.app]
            self._free(lane)
            self._pump()

    # Tasks.

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._start(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _spawn_unseen(self, work: Coroutine[object, object, None]) -> None:
        self._start(work)

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        assert self._group is not None
        # Not in the context of whoever committed last: causes and log facts are the new work's own.
        return self._group.create_task(work, context=self._context.copy())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    def _tell(self) -> None:
        self._changed.set()

    async def _settle(self, advance: Callable[[float], None] | None, *, within: float) -> None:
        deadline = self._clock.monotonic() + within
        while True:
            self._timers.run_due()
            self._pump()
            while len(self._tasks) > self._ledger.stuck:
                self._changed.clear()
                await self._changed.wait()
            due = self._timers.next_due()
            if due is not None and due <= self._clock.monotonic():
                continue
            if advance is None or due is None or due > deadline:
                return
            advance(due - self._clock.monotonic())
