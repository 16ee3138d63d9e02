"""``events``, ``events:why``: what happened, and what led to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from agent.commands.arguments import Argument, Flag, Option
from agent.commands.command import Command, Context
from agent.commands.replies import Ended, Json, Reply, Table, as_json
from agent.commands.times import stamp
from agent.commands.waiting import unless_gone
from agent.errors import UserError
from agent.state.outbox import StoredEvent
from proto.events import Event
from proto.names import AppId

MAX_EVENTS = 10_000
"""Printed by one command. More are asked for by ``--before``."""

COLUMNS = ("ID", "WHEN", "EVENT", "APP", "FACTS")

_HIDDEN = ("type", "app")


class Events(Command, frozen=True, kw_only=True):
    """List what happened, the newest last: to one app or to all; with -t, go on with what happens."""

    name = "events"
    permission = "read"
    examples = ("events", "events blog -n 20", "events -t --app blog")

    app: Annotated[str | None, Argument(help="The app; all if left out.", metavar="app", is_app=True)] = None
    count: Annotated[int, Option(names=("-n", "--num"), help="How many; 50.", metavar="count")] = 50
    before: Annotated[int | None, Option(names=("--before",), help="Only older ones than this id.", metavar="id")] = (
        None
    )
    is_followed: Annotated[bool, Flag(names=("-t", "--tail"), help="Go on with what happens from now.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Answer from the stored events, and then from each commit."""
        app = ctx.maybe_app.id if ctx.maybe_app else None
        count = min(self.count, MAX_EVENTS)
        if self.is_followed:
            return Ended(status=await unless_gone(ctx.session, _follow(ctx, app, count=count)))
        found = await ctx.database.read.outbox.events(app, before=self.before, limit=count) if count else []
        return _table(found, names=await _names(ctx), title="Events")


class EventsWhy(Command, frozen=True, kw_only=True):
    """Walk back from an event to what led to it."""

    name = "events:why"
    permission = "read"
    examples = ("events:why 1234",)

    event: Annotated[int, Argument(help="The event's id, as events lists it.", metavar="id")]

    async def run(self, ctx: Context) -> Reply:
        """Answer with the event first, and its first cause last."""
        chain = await ctx.database.read.outbox.why(self.event)
        if not chain:
            raise UserError(
                "event.not-found", f"There is no event {self.event}, or it is no longer kept.", "List them with: events"
            )
        return _table(chain, names=await _names(ctx), title=f"What led to event {self.event}")


async def _follow(ctx: Context, app: AppId | None, *, count: int) -> int:
    """Print the last `count` events and then each new one, until cancelled."""
    news = asyncio.Event()

    def notice(events: Sequence[tuple[int, Event]]) -> None:
        if app is None or any(event.app == app for _, event in events):
            news.set()

    ctx.database.listeners.append(notice)
    try:
        outbox = ctx.database.read.outbox
        found = await outbox.events(app, limit=max(count, 1))
        last = found[-1].id if found else 0
        await _print(ctx, found[-count:] if count else [])
        while True:
            await news.wait()
            news.clear()
            while fresh := await outbox.events(app, after=last, limit=1_000):
                last = fresh[-1].id
                await _print(ctx, fresh)
    finally:
        ctx.database.listeners.remove(notice)


async def _print(ctx: Context, events: Sequence[StoredEvent]) -> None:
    names = await _names(ctx)
    if ctx.options.as_json:
        await ctx.screen.lines(as_json(_facts(event, names)) for event in events)
    else:
        await ctx.screen.lines("  ".join(_row(event, names)).rstrip() for event in events)


async def _names(ctx: Context) -> Mapping[AppId, str]:
    return {app.id: app.name for app in await ctx.database.read.apps.all()}


def _table(events: Sequence[StoredEvent], *, names: Mapping[AppId, str], title: str) -> Reply:
    return Table(
        title=title,
        columns=COLUMNS,
        rows=tuple(_row(event, names) for event in events),
        data=[_facts(event, names) for event in events],
    )


def _row(event: StoredEvent, names: Mapping[AppId, str]) -> tuple[str, ...]:
    facts = " ".join(f"{key}={_short(value)}" for key, value in _body(event).items() if key not in _HIDDEN)
    return (str(event.id), stamp(event.at), event.type, names.get(event.app, event.app), facts)


def _facts(event: StoredEvent, names: Mapping[AppId, str]) -> Json:
    return {
        "id": event.id,
        "at": event.at,
        "type": event.type,
        "app": names.get(event.app, event.app),
        "cause": event.cause,
        "facts": {key: value for key, value in _body(event).items() if key not in _HIDDEN},
    }


def _body(event: StoredEvent) -> dict[str, object]:
    """Return an event's fields. A newer agent may have written ones that this one does not know."""
    try:
        return msgspec.json.decode(event.body, type=dict[str, object])
    except msgspec.DecodeError:
        return {"unreadable": True}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    line = text.replace("\n", " ")
    return line if len(line) <= 100 else f"{line[:99]}…"
