"""Events that are delivered once each, in order, and what happens when a handler cannot."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from pathlib import Path

import pytest

from agent.bus.durable import Bus
from agent.errors import GiveUp, Retry, Unavailable
from agent.state.database import Database
from proto.events import AppCreated
from tests.bus.conftest import BLOG, SHOP, Builder, Greeter, Mourner, Scaler, Start, accepted, created, emit
from tests.fakes.world import FakeClock


async def test_each_app_keeps_its_order_and_no_more_than_the_limit_run_at_once(
    database: Database, start: Start
) -> None:
    async def turn(event: AppCreated) -> None:
        await asyncio.sleep(0)

    greeter = Greeter(turn)
    bus = start(greeter)
    apps = [BLOG, SHOP, BLOG[:-1], SHOP[:-1]]
    await emit(database, *[created(app, number) for number in range(5) for app in apps])  # type: ignore[arg-type]
    await bus.settle()
    for app in apps:
        assert [name for seen, name in greeter.seen if seen == app] == list("01234")
    assert greeter.peak == 2


async def test_what_is_emitted_while_a_handler_runs_is_delivered_after_it(database: Database, start: Start) -> None:
    async def emit_another(event: AppCreated) -> None:
        if event.name == "0":
            await emit(database, created(BLOG, 1))
            assert greeter.seen == [(BLOG, "0")]

    greeter = Greeter(emit_another)
    bus = start(greeter)
    await emit(database, created(BLOG, 0))
    await bus.settle()
    assert greeter.seen == [(BLOG, "0"), (BLOG, "1")]


async def test_a_rolled_back_transaction_delivers_nothing(database: Database, start: Start) -> None:
    greeter = Greeter()
    bus = start(greeter)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await tx.emit(created(BLOG, 0))
            raise ZeroDivisionError
    await bus.settle()
    assert greeter.seen == []
    assert await database.read.outbox.lanes() == []


async def test_an_unexpected_error_holds_that_lane_only(database: Database, start: Start, clock: FakeClock) -> None:
    async def fail_once(event: AppCreated) -> None:
        if greeter.seen.count((BLOG, "0")) == 1 and event.app == BLOG:
            raise OSError("no such luck")

    greeter = Greeter(fail_once)
    bus = start(greeter)
    await emit(database, created(BLOG, 0), created(BLOG, 1), created(SHOP, 0))
    await bus.settle()
    assert greeter.seen == [(BLOG, "0"), (SHOP, "0")]
    clock.advance(0.9)
    await bus.settle()
    assert len(greeter.seen) == 2
    clock.advance(0.1)
    await bus.settle()
    assert greeter.seen[2:] == [(BLOG, "0"), (BLOG, "1")]


async def test_pauses_grow(database: Database, start: Start, clock: FakeClock) -> None:
    began: list[float] = []

    async def fail(event: AppCreated) -> None:
        began.append(clock.monotonic())
        raise Unavailable("engine.down", "Docker does not answer.")

    bus = start(Greeter(fail))
    await emit(database, created(BLOG, 0))
    await bus.settle(advance=clock.advance, within=200)
    assert [later - earlier for earlier, later in itertools.pairwise(began)] == [1, 2, 5, 10, 30, 60, 60]


async def test_after_its_last_try_an_event_is_given_up_and_the_lane_moves_on(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def fail(event: AppCreated) -> None:
        if event.name == "0":
            raise OSError("password: hunter2")

    greeter, mourner = Greeter(fail), Mourner()
    bus = start(greeter, mourner)
    [event_id, _] = await emit(database, created(BLOG, 0), created(BLOG, 1))
    await bus.settle(advance=clock.advance)
    assert greeter.seen == [(BLOG, "0")] * 3 + [(BLOG, "1")]
    [gave_up] = mourner.seen
    assert (gave_up.handler, gave_up.event_id, gave_up.event_type) == ("greeter.greet", event_id, "app.created")
    assert "hunter2" not in gave_up.reason
    [dead] = await database.read.outbox.dead()
    assert (dead.event_id, dead.handler, dead.attempts) == (event_id, "greeter.greet", 3)
    [last, first] = await database.read.outbox.why(event_id + 2)
    assert (last.type, first.id) == ("handler.gave-up", event_id)


async def test_giving_up_is_immediate_and_names_the_deploy(database: Database, start: Start) -> None:
    async def refuse(event: object, stop: object) -> None:
        raise GiveUp("the image is gone")

    mourner = Mourner()
    bus = start(Builder(refuse), mourner)
    await emit(database, accepted(BLOG, "d1"))
    await bus.settle()
    [gave_up] = mourner.seen
    assert (gave_up.deploy, gave_up.reason) == ("d1", "the image is gone")


async def test_a_handler_of_the_news_of_giving_up_cannot_make_news_for_ever(
    database: Database, start: Start, clock: FakeClock
) -> None:
    class Hopeless(Mourner):
        async def mourn(self, event: object) -> None:
            raise GiveUp("not this either")

    async def refuse(event: AppCreated) -> None:
        raise GiveUp("no")

    Hopeless.mourn.__subscription__ = Mourner.mourn.__subscription__  # type: ignore[attr-defined]
    bus = start(Greeter(refuse), Hopeless())
    await emit(database, created(BLOG, 0))
    await bus.settle(advance=clock.advance)
    assert [dead.handler for dead in await database.read.outbox.dead()] == ["greeter.greet", "mourner.mourn"]
    assert len(await database.read.outbox.events()) == 2


async def test_retry_waits_as_told_and_never_counts(database: Database, start: Start, clock: FakeClock) -> None:
    async def not_yet(event: AppCreated) -> None:
        if len(greeter.seen) < 10:
            raise Retry("the disk is slow", after=7)

    greeter, mourner = Greeter(not_yet), Mourner()
    bus = start(greeter, mourner)
    await emit(database, created(BLOG, 0))
    await bus.settle()
    clock.advance(6.9)
    await bus.settle()
    assert len(greeter.seen) == 1
    clock.advance(0.1)
    await bus.settle()
    assert len(greeter.seen) == 2
    await bus.settle(advance=clock.advance, within=70)
    assert len(greeter.seen) == 10
    assert mourner.seen == []


async def test_a_retry_at_once_does_not_spin(database: Database, start: Start, clock: FakeClock) -> None:
    async def at_once(event: AppCreated) -> None:
        raise Retry("now!", after=0)

    greeter = Greeter(at_once)
    bus = start(greeter)
    await emit(database, created(BLOG, 0))
    await bus.settle()
    assert len(greeter.seen) == 1


async def test_a_cancellation_that_escapes_from_a_handler_is_its_mistake(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def escape(event: AppCreated) -> None:
        if len(greeter.seen) == 1:
            raise asyncio.CancelledError

    greeter = Greeter(escape)
    bus = start(greeter)
    await emit(database, created(BLOG, 0), created(BLOG, 1))
    await bus.settle(advance=clock.advance)
    assert greeter.seen == [(BLOG, "0"), (BLOG, "0"), (BLOG, "1")]


async def test_what_a_handler_emits_points_back_at_what_led_to_it(database: Database, start: Start) -> None:
    async def accept(event: AppCreated) -> None:
        await emit(database, accepted(BLOG, "d1"))

    bus = start(Greeter(accept), Scaler())
    [first] = await emit(database, created(BLOG, 0))
    await bus.settle()
    assert [event.type for event in await database.read.outbox.why(first + 1)] == ["deploy.accepted", "app.created"]
    assert (await database.read.outbox.why(first))[0].cause is None


async def test_an_event_of_a_newer_version_is_buried_and_the_lane_moves_on(
    database: Database, path: Path, start: Start
) -> None:
    greeter = Greeter()
    await emit(database, created(BLOG, 0), created(BLOG, 1), created(BLOG, 2))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as newer:
        newer.execute("UPDATE events SET body = ? WHERE id = 1", (b'{"type":"app.reborn"}',))
        newer.execute("UPDATE events SET body = ? WHERE id = 2", (b"\xff\x00 not JSON",))
    bus = start(greeter)
    await bus.settle()
    assert greeter.seen == [(BLOG, "2")]
    assert [dead.event_id for dead in await database.read.outbox.dead()] == [1, 2]


async def test_what_is_owed_to_a_handler_that_is_gone_is_buried_at_the_start(
    database: Database, clock: FakeClock
) -> None:
    await emit(database, created(BLOG, 0), accepted(BLOG, "d1"))
    greeter = Greeter()
    await Bus(database, [greeter], clock=clock).settle()
    assert greeter.seen == [(BLOG, "0")]
    assert [dead.handler for dead in await database.read.outbox.dead()] == ["builder.build"]
