"""What the bus keeps in memory: one lane for each (handler, app) that owes something, and nothing else.

The table is the truth and holds every event. A lane knows only how far it has come (`position`), how far it has to
go (`newest`) and, at most, the one event it deals with now. So a million owed events cost no more memory than one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from agent.bus.subscriptions import Subscription
from agent.bus.timers import Timer
from agent.ports.world import Stop
from proto.events import Event, tag_of
from proto.names import AppId


class Head(msgspec.Struct):
    """The oldest event that a lane owes."""

    event_id: int
    event: Event
    attempts: int
    """How often it was begun."""
    due_at: float
    """Unix seconds, as stored."""


class Lane:
    """One handler's dealings with one app: one call at a time, in the order of the events."""

    def __init__(self, work: Work, app: AppId) -> None:
        self.work = work
        self.app = app
        self.position = 0
        """Nothing is owed up to and including this event."""
        self.newest = 0
        """The last event that is owed, if it is over `position`."""
        self.head: Head | None = None
        """The event after `position`, once it was read."""
        self.is_nudged = False
        """Whether a call is wanted although nothing is owed (``level``)."""
        self.is_queued = False
        self.is_running = False
        self.has_slot = False
        self.failures = 0
        """In a row, since this agent started."""
        self.waits_for_world = False
        """Whether the last call ended because Docker, HAProxy or the disk did not answer."""
        self.stop: Stop | None = None
        """Of the call that is running, if it takes one."""
        self.hold: Timer | None = None
        """While it waits, nothing of this lane runs."""
        self.recall: Timer | None = None
        """When it wants to be called again at the latest (``level``)."""

    @property
    def is_owed(self) -> bool:
        """Whether an event waits for the handler."""
        return self.newest > self.position

    @property
    def is_held(self) -> bool:
        """Whether the lane pauses."""
        return self.hold is not None and self.hold.is_waiting

    @property
    def is_ready(self) -> bool:
        """Whether a call should begin as soon as the handler's limit allows."""
        wanted = self.is_owed or self.is_nudged
        return wanted and not (self.is_held or self.is_queued or self.is_running)

    @property
    def is_idle(self) -> bool:
        """Whether the lane can be forgotten."""
        busy = self.is_queued or self.is_running or self.is_owed or self.is_nudged or self.is_held
        return not busy and (self.recall is None or not self.recall.is_waiting)

    def owe(self, event_id: int, event: Event, *, now: float) -> None:
        """Note a new event, committed at `now`."""
        if self.head is None and not self.is_owed:
            self.head = Head(event_id=event_id, event=event, attempts=0, due_at=now)
        self.newest = event_id
        self.interrupt()

    def nudge(self) -> None:
        """Want a call although nothing is owed."""
        self.is_nudged = True

    def interrupt(self) -> None:
        """Tell a running call of a level, if it asked for that, that another will follow."""
        if self.work.subscription.is_interruptible and self.stop is not None:
            self.stop.set()

    def moved_to(self, event_id: int) -> None:
        """Note that nothing is owed up to and including `event_id`."""
        self.position = max(self.position, event_id)
        self.head = None
        self.failures = 0

    def resume(self) -> None:
        """End the pause, if there is one."""
        if self.hold is not None:
            self.hold.cancel()


class Work:
    """One subscription with its method, and the lanes that have something to do for it."""

    def __init__(self, subscription: Subscription, handler: object) -> None:
        self.subscription = subscription
        self.call: Callable[..., Awaitable[Any]] = getattr(handler, subscription.method)
        self.stop_types = [tag_of(event_type) for event_type in subscription.stop_on]
        self.lanes: dict[AppId, Lane] = {}
        self.queue: deque[Lane] = deque()
        self.running = 0

    @property
    def is_level(self) -> bool:
        """Whether it deals with apps rather than with events."""
        return self.subscription.kind == "level"

    @property
    def has_room(self) -> bool:
        """Whether its limit allows one more call."""
        return self.running < self.subscription.limit

    def lane(self, app: AppId) -> Lane:
        """Return the app's lane, a new one if it had nothing to do."""
        lane = self.lanes.get(app)
        if lane is None:
            lane = self.lanes[app] = Lane(self, app)
        return lane


def stops(stop_event: Event, *, event: Event) -> bool:
    """Tell whether `stop_event`, of the same app, makes the work for `event` pointless.

    One that names a deploy ends only what is done for that deploy.
    """
    deploy = getattr(stop_event, "deploy", None)
    return deploy is None or deploy == getattr(event, "deploy", None)
