"""How a handler says what it wants.

`on` is for work that each event calls for once (a build). `reconciles` is for work that compares what should be with
what is, where only the latest state matters; it gets the app's id and never sees an event. `surveys` finds the apps
for which the second kind has something to do although nothing happened here. Names are stored with what is owed:
they may be reordered and moved between classes, never changed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeVar, overload

import msgspec

from agent.ports.world import Stop
from agent.state.outbox import Routes
from proto.events import Event
from proto.names import AppId

H = TypeVar("H")
E = TypeVar("E", bound=Event)
M = TypeVar("M", bound=Callable[..., Awaitable[object]])

OnEach = Callable[[H, E], Awaitable[None]]
OnEachUntil = Callable[[H, E, Stop], Awaitable[None]]
Level = Callable[[H, AppId], Awaitable[float | None]]
LevelUntil = Callable[[H, AppId, Stop], Awaitable[float | None]]
Survey = Callable[[H], Awaitable[Iterable[AppId]]]

_NAME = re.compile(r"[a-z][a-z-]*(\.[a-z][a-z-]*)+")
_SUBSCRIPTION = "__subscription__"
_SURVEYS = "__surveys__"


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What one method of a handler class asked for."""

    name: str
    """Stored with each delivery, such as ``builder.build``."""
    method: str
    """Name of the method in its class."""
    kind: Literal["each", "level"]
    """``each``: every event, in order. ``level``: the app, some time after one or many events."""
    events: tuple[type[Event], ...]
    limit: int
    """How many apps may be in the method at once. Waiting for a repetition does not count."""
    tries: int = 0
    """Attempts before an event is given up; 0: never (``level``)."""
    stop_on: tuple[type[Event], ...] = ()
    """Events that make the work pointless while it runs (``each``)."""
    is_interruptible: bool = False
    """Whether the method is told that it will be called again (``level``)."""


@overload
def on(event_type: type[E], *, name: str, limit: int = 4, tries: int = 5) -> Callable[[OnEach[H, E]], OnEach[H, E]]: ...


@overload
def on(
    event_type: type[E], *, name: str, limit: int = 4, tries: int = 5, stop_on: tuple[type[Event], ...]
) -> Callable[[OnEachUntil[H, E]], OnEachUntil[H, E]]: ...


def on(
    event_type: type[Event], *, name: str, limit: int = 4, tries: int = 5, stop_on: tuple[type[Event], ...] = ()
) -> Callable[[Any], Any]:
    """Deliver every `event_type` to this method: at least once, in order for each app, one at a time.

    The method returns when the event is dealt with, or raises `Retry` (not yet), `GiveUp` (never), `Stopped` (no
    longer wanted; counts as done). `Unavailable` counts as not yet, with growing pauses. Any other exception is a
    bug: it is tried again after growing pauses, `tries` times in all, and then given up.

    With `stop_on` the method gets a `Stop` as its last argument. It is set once one of these events of the same app
    (and, if it names a deploy, of the same deploy) has been committed after the event, also if that was before the
    method began.
    """
    return _marking(
        Subscription(name=name, method="", kind="each", events=(event_type,), limit=limit, tries=tries, stop_on=stop_on)
    )


@overload
def reconciles(*event_types: type[Event], name: str, limit: int = 8) -> Callable[[Level[H]], Level[H]]: ...


@overload
def reconciles(
    *event_types: type[Event], name: str, limit: int = 8, is_interruptible: Literal[False]
) -> Callable[[Level[H]], Level[H]]: ...


@overload
def reconciles(
    *event_types: type[Event], name: str, limit: int = 8, is_interruptible: Literal[True]
) -> Callable[[LevelUntil[H]], LevelUntil[H]]: ...


def reconciles(
    *event_types: type[Event], name: str, limit: int = 8, is_interruptible: bool = False
) -> Callable[[Any], Any]:
    """Call this method with an app's id some time after any of `event_types`, or when it is nudged.

    However many events are owed when a call begins, they are dealt with when it returns. It may return the seconds
    after which it wants to be called again at the latest (kept in memory: a restart calls nobody, surveys find what
    there is to do). If it raises, it is called again after growing pauses, without end; `Retry` sets the pause.

    With `is_interruptible` the method gets a `Stop` as its last argument, set once more is owed or it is nudged, so
    that long work on an old state can end (raise `Stopped`, or return) and begin anew. Surveys do not interrupt.
    """
    return _marking(
        Subscription(
            name=name, method="", kind="level", events=event_types, limit=limit, is_interruptible=is_interruptible
        )
    )


def surveys(method: Survey[H]) -> Survey[H]:
    """Call this method at the start, every 30 s and when asked to; nudge its class's reconcilers for what it returns.

    It looks at the whole world once (one list of containers, one look at the proxy) and returns the apps where what
    is differs from what should be. If it raises, that is logged, and the next survey tries again.
    """
    setattr(method, _SURVEYS, True)
    return method


def subscriptions_of(handler: type[object]) -> list[Subscription]:
    """Return what the methods of a handler class asked for, sorted by name."""
    found: list[Subscription] = []
    for attribute in dir(handler):
        subscription = getattr(getattr(handler, attribute), _SUBSCRIPTION, None)
        if isinstance(subscription, Subscription):
            found.append(msgspec.structs.replace(subscription, method=attribute))
    return sorted(found, key=lambda subscription: subscription.name)


def survey_of(handler: type[object]) -> str | None:
    """Return the name of the method that surveys for a handler class, or `None`."""
    return next((name for name in dir(handler) if getattr(getattr(handler, name), _SURVEYS, False)), None)


def routes_for(*handlers: type[object]) -> Routes:
    """Return which subscriptions of these classes want which event.

    Raises:
        ValueError: two subscriptions have the same name.
    """
    routes: dict[type[Event], list[str]] = {}
    names: set[str] = set()
    for handler in handlers:
        for subscription in subscriptions_of(handler):
            if subscription.name in names:
                raise ValueError(f"two subscriptions are called {subscription.name}")
            names.add(subscription.name)
            for event_type in subscription.events:
                routes.setdefault(event_type, []).append(subscription.name)
    return routes


def _marking(subscription: Subscription) -> Callable[[M], M]:
    if not _NAME.fullmatch(subscription.name):
        raise ValueError(f"{subscription.name!r} is not a name like builder.build")

    def mark(method: M) -> M:
        setattr(method, _SUBSCRIPTION, subscription)
        return method

    return mark
