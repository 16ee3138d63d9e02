"""Reconcilers: many events, one call; never given up; nudged, recalled and surveyed for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from agent.bus.durable import Bus
from agent.bus.subscriptions import on, reconciles, routes_for, subscriptions_of
from agent.errors import GiveUp, Retry, Stopped, Unavailable
from agent.ports.world import Stop
from agent.state.database import Database
from proto.events import AppCreated, ImageBuilt, ScaleChanged
from proto.names import AppId, DeployId
from tests.bus.conftest import BLOG, SHOP, Checker, Greeter, Mourner, Reopen, Scaler, Start, created, emit, scaled
from tests.fakes.world import FakeClock


async def test_many_events_become_one_call(database: Database, start: Start) -> None:
    scaler = Scaler()
    bus = start(scaler)
    built = ImageBuilt(app=BLOG, deploy=DeployId("d1"), image="sha256:1")
    await emit(database, *[scaled(BLOG, number) for number in range(10)], built, scaled(SHOP))
    await bus.settle()
    assert sorted(scaler.seen) == [BLOG, SHOP]
    assert await database.read.outbox.lanes() == []


async def test_an_event_during_a_call_leads_to_another(database: Database, start: Start) -> None:
    async def emit_more(app: AppId) -> None:
        if len(scaler.seen) == 1:
            await emit(database, scaled(BLOG), scaled(BLOG))

    scaler = Scaler(emit_more)
    bus = start(scaler)
    await emit(database, scaled(BLOG))
    await bus.settle()
    assert scaler.seen == [BLOG, BLOG]


async def test_a_failing_reconciler_pauses_and_never_gives_up(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def fail(app: AppId) -> None:
        if len(scaler.seen) <= 20:
            raise [OSError("bug"), GiveUp("no"), Unavailable("engine.down", "Docker does not answer.")][
                len(scaler.seen) % 3
            ]

    scaler, mourner = Scaler(fail), Mourner()
    bus = start(scaler, mourner)
    await emit(database, scaled(BLOG))
    await bus.settle(advance=clock.advance, within=17)
    assert len(scaler.seen) == 4
    await bus.settle(advance=clock.advance, within=2_000)
    assert len(scaler.seen) == 21
    assert mourner.seen == []
    assert await database.read.outbox.lanes() == []


async def test_news_shorten_the_pause_of_a_failing_reconciler_but_not_to_nothing(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def fail(app: AppId) -> None:
        raise OSError

    scaler = Scaler(fail)
    bus = start(scaler)
    await emit(database, scaled(BLOG))
    await bus.settle(advance=clock.advance, within=20)
    calls = len(scaler.seen)
    await emit(database, scaled(BLOG))
    await bus.settle()
    assert len(scaler.seen) == calls
    clock.advance(1)
    await bus.settle()
    assert len(scaler.seen) == calls + 1


async def test_a_nudge_shortens_the_pause_and_a_survey_does_not(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def fail(app: AppId) -> None:
        raise OSError

    scaler = Scaler(fail)
    scaler.different = [BLOG]
    bus = start(scaler)
    await bus.settle(advance=clock.advance, within=20)
    calls = len(scaler.seen)
    bus.resurvey()
    clock.advance(1)
    await bus.settle()
    assert len(scaler.seen) == calls
    bus.nudge(BLOG)
    clock.advance(1)
    await bus.settle()
    assert len(scaler.seen) == calls + 1


async def test_the_worlds_return_shortens_the_pause_of_those_who_wait_for_it(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def no_answer(app: AppId) -> None:
        raise Unavailable("docker.unavailable", "Docker does not answer.")

    scaler = Scaler(no_answer)
    bus = start(scaler)
    await emit(database, scaled(BLOG))
    await bus.settle(advance=clock.advance, within=20)
    calls = len(scaler.seen)
    clock.advance(1)
    await bus.settle()
    assert len(scaler.seen) == calls
    bus.resurvey()
    clock.advance(1)
    await bus.settle()
    assert len(scaler.seen) == calls + 1


async def test_a_retry_sets_the_pause(database: Database, start: Start, clock: FakeClock) -> None:
    async def not_yet(app: AppId) -> None:
        if len(scaler.seen) == 1:
            raise Retry("starting", after=3)

    scaler = Scaler(not_yet)
    bus = start(scaler)
    await emit(database, scaled(BLOG))
    await bus.settle(advance=clock.advance, within=2.9)
    assert len(scaler.seen) == 1
    clock.advance(3)
    await bus.settle()
    assert len(scaler.seen) == 2


async def test_a_nudge_calls_reconcilers_only_and_a_failed_one_is_repeated_after_a_second(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def fail_once(app: AppId) -> None:
        if len(scaler.seen) == 1:
            raise OSError

    scaler, greeter = Scaler(fail_once), Greeter()
    bus = start(scaler, greeter)
    bus.nudge(BLOG)
    bus.nudge(SHOP, names=["someone.else"])
    await bus.settle()
    assert (scaler.seen, greeter.seen) == ([BLOG], [])
    clock.advance(1)
    await bus.settle()
    assert scaler.seen == [BLOG, BLOG]
    clock.advance(100)
    await bus.settle()
    assert scaler.seen == [BLOG, BLOG]


async def test_a_reconciler_is_called_again_when_it_asked_to_be(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def once_more(app: AppId) -> float | None:
        return 12.0 if len(scaler.seen) < 3 else None

    scaler = Scaler(once_more)
    bus = start(scaler)
    await emit(database, scaled(BLOG))
    await bus.settle(advance=clock.advance, within=11.9)
    assert len(scaler.seen) == 1
    await bus.settle(advance=clock.advance, within=100)
    assert len(scaler.seen) == 3


async def test_an_earlier_call_replaces_the_wish_to_be_called(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def wish(app: AppId) -> float | None:
        return 10.0 if len(scaler.seen) == 1 else None

    scaler = Scaler(wish)
    bus = start(scaler)
    bus.nudge(BLOG)
    await bus.settle()
    bus.nudge(BLOG)
    await bus.settle()
    clock.advance(20)
    await bus.settle()
    assert len(scaler.seen) == 2


async def test_a_reconciler_that_wants_to_know_is_told_that_its_work_is_outdated(
    database: Database, start: Start
) -> None:
    begun, ends = asyncio.Event(), []

    async def work(app: AppId, stop: Stop) -> None:
        if not ends:
            begun.set()
            try:
                await stop.race(asyncio.Event().wait())
            except Stopped:
                ends.append("stopped")
                raise
        ends.append("done")

    bus = start(Checker(work), Scaler())
    async with bus.delivering():
        await emit(database, scaled(BLOG))
        await begun.wait()
        await emit(database, scaled(BLOG))
        await bus.settle()
    assert ends == ["stopped", "done"]
    assert await database.read.outbox.lanes() == []


async def test_a_nudge_interrupts_and_a_survey_does_not(database: Database, start: Start, clock: FakeClock) -> None:
    begun, surveyed, release = asyncio.Event(), asyncio.Event(), asyncio.Event()
    calls: list[Stop] = []

    class Thorough(Checker):
        surveys = 0

        async def survey(self) -> Iterable[AppId]:
            self.surveys += 1
            if self.surveys == 1:
                return []
            surveyed.set()
            return [BLOG]

    Thorough.survey.__surveys__ = True  # type: ignore[attr-defined]

    async def work(app: AppId, stop: Stop) -> None:
        calls.append(stop)
        if len(calls) == 1:
            begun.set()
            await release.wait()

    bus = start(Thorough(work))
    async with bus.delivering():
        bus.nudge(BLOG)
        await begun.wait()
        bus.resurvey()
        await surveyed.wait()
        await asyncio.sleep(0)
        assert not calls[0].is_set
        bus.nudge(BLOG)
        assert calls[0].is_set
        release.set()
        await bus.settle()
    assert len(calls) == 2


async def test_surveys_come_at_the_start_every_30_seconds_and_on_request(
    database: Database, start: Start, clock: FakeClock
) -> None:
    scaler = Scaler()
    scaler.different = [SHOP]
    bus = start(scaler, Greeter())
    await bus.settle()
    assert (scaler.surveys, scaler.seen) == (1, [SHOP])
    clock.advance(29.9)
    await bus.settle()
    assert scaler.surveys == 1
    clock.advance(0.1)
    await bus.settle()
    assert (scaler.surveys, scaler.seen) == (2, [SHOP, SHOP])
    bus.resurvey()
    await bus.settle()
    assert scaler.surveys == 3


async def test_a_survey_that_fails_is_tried_again_at_the_next_one(
    database: Database, start: Start, clock: FakeClock
) -> None:
    class Blind(Scaler):
        async def survey(self) -> Iterable[AppId]:
            self.surveys += 1
            if self.surveys < 3:
                raise [OSError("bug"), Unavailable("engine.down", "Docker does not answer.")][self.surveys - 1]
            return [BLOG]

    Blind.survey.__surveys__ = True  # type: ignore[attr-defined]
    scaler = Blind()
    bus = start(scaler)
    await bus.settle(advance=clock.advance, within=59)
    assert (scaler.surveys, scaler.seen) == (2, [])
    await bus.settle(advance=clock.advance, within=30)
    assert (scaler.surveys, scaler.seen) == (3, [BLOG])


async def test_what_a_reconciler_owed_at_a_crash_is_one_call_after_the_restart(
    reopen: Reopen, clock: FakeClock
) -> None:
    async with reopen() as database:
        await emit(database, *[scaled(BLOG) for _ in range(5)])
    scaler = Scaler()
    async with reopen() as database:
        await Bus(database, [scaler], clock=clock).settle()
    assert scaler.seen == [BLOG]


def test_routes_name_every_handler_of_an_event() -> None:
    assert routes_for(Scaler, Checker, Greeter) == {
        ScaleChanged: ["scaler.converge", "checker.check"],
        ImageBuilt: ["scaler.converge"],
        AppCreated: ["greeter.greet"],
    }


def test_two_subscriptions_cannot_share_a_name() -> None:
    class Other:
        @on(AppCreated, name="greeter.greet")
        async def greet(self, event: AppCreated) -> None:
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"greeter\.greet"):
        routes_for(Greeter, Other)


def test_a_subscription_needs_a_name_that_can_be_stored() -> None:
    with pytest.raises(ValueError, match="Greeter"):
        on(AppCreated, name="Greeter.greet")
    with pytest.raises(ValueError, match="converge"):
        reconciles(ScaleChanged, name="converge")


def test_an_inherited_subscription_counts() -> None:
    class Louder(Greeter):
        pass

    assert [subscription.name for subscription in subscriptions_of(Louder)] == ["greeter.greet"]
    assert created(BLOG, 1).name == "1"
