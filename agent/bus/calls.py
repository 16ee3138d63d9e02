"""One call of a handler, and what follows from how it ended.

    returned, Stopped      the delivery is forgotten, the lane moves on
    Retry, Unavailable     the lane pauses; the attempt is not counted: it is the world that is late
    any other exception    a bug: traceback, the lane pauses; after so many tries given up
    GiveUp                 given up: the row stays as evidence, HandlerGaveUp is emitted, the lane moves on

A reconciler never gives up. If the bus itself cannot read or write, the lane pauses too, and nothing is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import structlog

from agent.bus.lanes import Head, Lane, stops
from agent.bus.ledger import Burial, Ledger
from agent.bus.timers import bounded, pause
from agent.errors import GiveUp, Retry, Stopped, Unavailable
from agent.ports.world import Clock, Stop
from agent.state.database import Database, cause_var
from agent.state.outbox import Owed
from proto.events import HandlerGaveUp, decode, tag_of

log = structlog.get_logger(__name__)


class Outcome(msgspec.Struct, frozen=True):
    """How a call ended."""

    kind: Literal["done", "later", "failed", "hopeless"]
    seconds: float | None = None
    """``later``: the pause. ``done``: when the handler wants to be called again, if it does."""
    reason: str = ""


class Calls:
    """Makes calls for lanes. Never raises for anything a handler does."""

    def __init__(self, database: Database, *, ledger: Ledger, clock: Clock, free: Callable[[Lane], None]) -> None:
        """`free` is told as soon as the handler's part is over, so that bookkeeping keeps nobody waiting."""
        self._database = database
        self._ledger = ledger
        self._clock = clock
        self._free = free

    async def deliver(self, lane: Lane) -> float:
        """Deal with the lane's oldest event; return how long the lane pauses, in seconds."""
        subscription = lane.work.subscription
        try:
            head = lane.head or await self._next(lane)
            if head is None:
                return 0.0
            stop = await self._stop_for(lane, head)
        except Exception as error:
            return self._cannot_read(lane, error)
        # The news of giving up ends a deploy, and nothing else would: it is not given up for dying with it.
        if head.attempts >= subscription.tries and not isinstance(head.event, HandlerGaveUp):
            # Counted before, and yet here: the agent died each time.
            await self._bury(lane, head, reason="Pushboat itself was stopped each time it worked on this.")
            return 0.0
        arguments = (head.event, stop) if subscription.stop_on else (head.event,)
        try:
            head.attempts += 1
            await self._mark(lane, head)
            outcome = await self._attempt(lane, lambda: lane.work.call(*arguments), cause=head.event_id, head=head)
        except asyncio.CancelledError:
            self._ledger.mark_soon(
                subscription.name, lane.app, head.event_id, attempts=head.attempts - 1, due_at=head.due_at
            )
            lane.head = None
            raise
        was_stopped = stop.is_set
        seconds = await self._conclude(lane, head, outcome)
        # A pause that began just before the work became pointless would only keep the next event waiting.
        return 0.0 if stop.is_set and not was_stopped else seconds

    async def reconcile(self, lane: Lane) -> tuple[float, float | None]:
        """Let the lane's handler look at its app; return how long the lane pauses, and when it wants to be recalled."""
        subscription = lane.work.subscription
        up_to, lane.is_nudged = lane.newest, False
        arguments: tuple[object, ...] = (lane.app,)
        if subscription.is_interruptible:
            lane.stop = Stop()
            arguments = (lane.app, lane.stop)
        cause = up_to if lane.is_owed else None
        try:
            outcome = await self._attempt(lane, lambda: lane.work.call(*arguments), cause=cause)
        except asyncio.CancelledError:
            lane.nudge()
            raise
        if outcome.kind == "done":
            if up_to > lane.position:
                await self._ledger.done(subscription.name, lane.app, up_to=up_to)
            lane.moved_to(up_to)
            return 0.0, None if outcome.seconds is None else bounded(outcome.seconds)
        lane.nudge()
        if outcome.kind == "later" and outcome.seconds is not None:
            return outcome.seconds, None
        lane.failures += 1
        return pause(lane.failures), None

    def decoded(self, owed: Owed) -> Head | None:
        """Return an owed event as a lane's head, or `None` if this version cannot read it."""
        try:
            event = decode(owed.body)
        except msgspec.MsgspecError:
            return None
        return Head(event_id=owed.event_id, event=event, attempts=owed.attempts, due_at=owed.due_at)

    # Before the call.

    async def _next(self, lane: Lane) -> Head | None:
        """Read the lane's oldest event. Bury on the way what cannot be read."""
        name = lane.work.subscription.name
        while True:
            newest = lane.newest
            owed = await self._database.read.outbox.next(name, lane.app, after=lane.position)
            if owed is None:
                # Unless one was committed while we looked.
                lane.moved_to(newest)
                if not lane.is_owed:
                    return None
                continue
            lane.head = self.decoded(owed)
            if lane.head is not None:
                return lane.head
            log.error("bus.undecodable", handler=name, app=lane.app, event_id=owed.event_id, type=owed.type)
            reason = "this version cannot read the event"
            await self._ledger.bury(Burial(name, lane.app, owed.event_id, reason, None))
            lane.moved_to(owed.event_id)

    async def _stop_for(self, lane: Lane, head: Head) -> Stop:
        """Return the stop signal for work on `head`, set if that is pointless already."""
        stop = Stop()
        if lane.work.stop_types:
            # First this, then the look into the table: what is committed in between sets it.
            lane.stop = stop
            bodies = await self._database.read.outbox.since(lane.app, after=head.event_id, types=lane.work.stop_types)
            if any(stops(decode(body), event=head.event) for body in bodies):
                stop.set()
        return stop

    def _cannot_read(self, lane: Lane, error: Exception) -> float:
        lane.failures += 1
        seconds = pause(lane.failures)
        log.error(
            "bus.not-read",
            handler=lane.work.subscription.name,
            app=lane.app,
            reason=str(error),
            seconds=seconds,
            exc_info=not isinstance(error, Unavailable),
        )
        return seconds

    # The call.

    async def _attempt(
        self, lane: Lane, call: Callable[[], Awaitable[float | None]], *, cause: int | None, head: Head | None = None
    ) -> Outcome:
        facts: dict[str, object] = {"handler": lane.work.subscription.name, "app": lane.app}
        if cause is not None:
            facts["event_id"] = cause
        if head is not None and (deploy := getattr(head.event, "deploy", None)) is not None:
            facts["deploy"] = deploy
        cause_var.set(cause)
        lane.waits_for_world = False
        # For the rest of this task, which is this one call: nothing has to be bound back after it.
        structlog.contextvars.bind_contextvars(**facts)
        try:
            return Outcome("done", await call())
        except Stopped:
            return Outcome("done")
        except Retry as error:
            log.info("handler.not-yet", reason=str(error), seconds=error.after)
            return Outcome("later", bounded(error.after))
        except Unavailable as error:
            lane.failures += 1
            lane.waits_for_world = True
            log.warning("handler.unavailable", code=error.code, reason=error.message, seconds=pause(lane.failures))
            return Outcome("later", pause(lane.failures))
        except GiveUp as error:
            log.error("handler.gave-up", reason=str(error))
            return Outcome("hopeless", reason=str(error))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: the handler let one of its own escape.
            return self._bug(error)
        except Exception as error:
            return self._bug(error)
        finally:
            self._free(lane)

    @staticmethod
    def _bug(error: BaseException) -> Outcome:
        log.error("handler.failed", exc_info=error)
        # Not the exception's text: nobody has checked that it holds no secret.
        return Outcome("failed", reason="Pushboat made a mistake here; the agent's log says more.")

    # After the call.

    async def _conclude(self, lane: Lane, head: Head, outcome: Outcome) -> float:
        """Write down how the call for `head` ended; return how long the lane pauses."""
        match outcome.kind:
            case "done":
                await self._ledger.done(lane.work.subscription.name, lane.app, up_to=head.event_id)
                lane.moved_to(head.event_id)
                return 0.0
            case "later":
                head.attempts -= 1
                seconds = outcome.seconds or 0.0
            case "failed" if head.attempts < lane.work.subscription.tries:
                seconds = pause(head.attempts)
            case _:
                await self._bury(lane, head, reason=outcome.reason)
                return 0.0
        head.due_at = self._clock.now() + seconds
        await self._mark(lane, head)
        return seconds

    async def _mark(self, lane: Lane, head: Head) -> None:
        await self._ledger.mark(
            lane.work.subscription.name, lane.app, head.event_id, attempts=head.attempts, due_at=head.due_at
        )

    async def _bury(self, lane: Lane, head: Head, *, reason: str) -> None:
        name = lane.work.subscription.name
        announcement: HandlerGaveUp | None = None
        # Giving up on the news of giving up is not news: it could go on for ever.
        if not isinstance(head.event, HandlerGaveUp):
            announcement = HandlerGaveUp(
                app=lane.app,
                handler=name,
                event_id=head.event_id,
                event_type=tag_of(type(head.event)),
                reason=reason,
                deploy=getattr(head.event, "deploy", None),
            )
        log.error("delivery.buried", handler=name, app=lane.app, event_id=head.event_id, reason=reason)
        await self._ledger.bury(Burial(name, lane.app, head.event_id, reason, announcement))
        lane.moved_to(head.event_id)
