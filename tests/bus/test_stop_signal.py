"""Long work ends when it is no longer wanted, so that what is newer never queues behind it."""

from __future__ import annotations

import asyncio

from agent.bus.durable import Bus
from agent.errors import Retry, Stopped
from agent.ports.world import Stop
from agent.state.database import Database
from proto.events import AppDestroyed, DeployAccepted, DeployCancelled, DeploySuperseded, Event
from proto.names import DeployId
from tests.bus.conftest import BLOG, SHOP, Builder, Reopen, Start, accepted, emit
from tests.fakes.world import FakeClock


def superseded(deploy: str, newer: str) -> DeploySuperseded:
    return DeploySuperseded(app=BLOG, deploy=DeployId(deploy), newer=DeployId(newer))


def cancelled(deploy: str) -> DeployCancelled:
    return DeployCancelled(app=BLOG, deploy=DeployId(deploy), by="ann")


class Slow(Builder):
    """Works on its first deploy until it is stopped."""

    def __init__(self) -> None:
        super().__init__(self._work)
        self.begun = asyncio.Event()
        self.stopped: list[DeployId] = []

    async def _work(self, event: DeployAccepted, stop: Stop) -> None:
        if event.deploy == "d1":
            self.begun.set()
            try:
                await stop.race(asyncio.Event().wait())
            except Stopped:
                self.stopped.append(event.deploy)
                raise


async def test_a_newer_deploy_stops_the_older_build_and_follows_at_once(database: Database, start: Start) -> None:
    builder = Slow()
    bus = start(builder)
    async with bus.delivering():
        await emit(database, accepted(BLOG, "d1"))
        await builder.begun.wait()
        await emit(database, accepted(BLOG, "d2"), superseded("d1", "d2"))
        await bus.settle()
    assert builder.stopped == ["d1"]
    assert builder.seen == [("d1", False), ("d2", False)]
    assert await database.read.outbox.lanes() == []
    assert await database.read.outbox.dead() == []


async def test_another_deploys_and_another_apps_end_stop_nothing(database: Database, start: Start) -> None:
    builder = Slow()
    bus = start(builder)
    async with bus.delivering():
        await emit(database, accepted(BLOG, "d1"))
        await builder.begun.wait()
        others: list[Event] = [cancelled("d0"), DeployCancelled(app=SHOP, deploy=DeployId("d1"), by="ann")]
        await emit(database, *others, AppDestroyed(app=SHOP, name="shop"))
        assert builder.stopped == []
        await emit(database, cancelled("d1"))
        await bus.settle()
    assert builder.stopped == ["d1"]


async def test_an_event_without_a_deploy_stops_whatever_is_done_for_the_app(database: Database, start: Start) -> None:
    builder = Slow()
    bus = start(builder)
    async with bus.delivering():
        await emit(database, accepted(BLOG, "d1"), accepted(BLOG, "d2"))
        await builder.begun.wait()
        await emit(database, AppDestroyed(app=BLOG, name="blog"))
        await bus.settle()
    assert builder.stopped == ["d1"]
    assert builder.seen == [("d1", False), ("d2", True)]


async def test_the_signal_is_set_from_the_start_if_the_end_was_committed_before(
    reopen: Reopen, clock: FakeClock
) -> None:
    async with reopen() as database:
        await emit(database, accepted(BLOG, "d1"), accepted(BLOG, "d2"), cancelled("d1"))
    builder = Builder()
    async with reopen() as database:
        await Bus(database, [builder], clock=clock).settle()
    assert builder.seen == [("d1", True), ("d2", False)]


async def test_a_rolled_back_cancel_stops_nothing(database: Database, start: Start) -> None:
    builder = Slow()
    bus = start(builder)
    async with bus.delivering():
        await emit(database, accepted(BLOG, "d1"))
        await builder.begun.wait()
        try:
            async with database.transaction() as tx:
                await tx.emit(cancelled("d1"))
                raise LookupError
        except LookupError:
            await asyncio.sleep(0)
        assert builder.stopped == []
        await emit(database, cancelled("d1"))
        await bus.settle()
    assert builder.stopped == ["d1"]


async def test_a_pause_ends_when_the_work_becomes_pointless(database: Database, start: Start, clock: FakeClock) -> None:
    async def not_yet(event: DeployAccepted, stop: Stop) -> None:
        if event.deploy == "d1" and not stop.is_set:
            raise Retry("the base image is being pulled", after=50)

    builder = Builder(not_yet)
    bus = start(builder)
    await emit(database, accepted(BLOG, "d1"), accepted(BLOG, "d2"))
    await bus.settle()
    assert builder.seen == [("d1", False)]
    await emit(database, superseded("d1", "d2"))
    await bus.settle()
    assert builder.seen == [("d1", False), ("d1", True), ("d2", False)]


async def test_work_that_asks_for_patience_after_it_was_stopped_does_not_spin(
    database: Database, start: Start, clock: FakeClock
) -> None:
    async def not_yet(event: DeployAccepted, stop: Stop) -> None:
        raise Retry("never mind", after=5)

    builder = Builder(not_yet)
    bus = start(builder)
    await emit(database, accepted(BLOG, "d1"))
    await bus.settle()
    await emit(database, cancelled("d1"))
    await bus.settle()
    await bus.settle()
    assert builder.seen == [("d1", False), ("d1", True)]
