"""Crashes, shutdowns, a full disk, clocks that are set, and long queues."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import structlog

from agent.bus.durable import Bus
from agent.bus.subscriptions import routes_for
from agent.errors import Retry
from agent.ports.world import Stop
from agent.state.database import Database
from agent.state.sql import InlineSql, Opener, Rows, Sql, Value
from agent.vault import Vault
from proto.events import AppCreated, DeployAccepted, HandlerGaveUp
from proto.names import AppId
from tests.bus.conftest import (
    ALL,
    BLOG,
    SHOP,
    Builder,
    Greeter,
    Mourner,
    Reopen,
    Scaler,
    Start,
    accepted,
    created,
    emit,
    scaled,
)
from tests.fakes.world import FakeClock, SeededIds

VAULT = Vault(bytes(32), token=SeededIds().token)

STEPS_AT_ONCE = 10
"""Between two calls of SQLite's progress handler."""


class CountingSql:
    """Counts what is asked of the connections it opens."""

    def __init__(self, opener: Opener) -> None:
        self.statements: list[str] = []
        self._opener = opener

    async def open(self, path: Path) -> Sql:
        return _Counted(await self._opener(path), self.statements)


class _Counted:
    def __init__(self, sql: Sql, statements: list[str]) -> None:
        self._sql = sql
        self._statements = statements

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        self._statements.append(statement)
        return await self._sql.run(statement, parameters)

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        self._statements.append(statement)
        return await self._sql.run_many(statement, rows)

    async def script(self, text: str) -> None:
        await self._sql.script(text)

    async def roll_back(self) -> None:
        await self._sql.roll_back()

    async def close(self) -> None:
        await self._sql.close()


async def begin(bus: Bus, greeter: Greeter) -> asyncio.Task[None]:
    """Run the bus until the greeter is inside a call."""
    running = asyncio.create_task(bus.run())
    await greeter.begun.wait()
    return running


async def limit_pages(database: Database, pages: int) -> None:
    """Let the file grow to `pages` (or what it has), and no further."""
    async with database.transaction() as tx:
        # The limit belongs to the connection that writes, and this statement writes nothing.
        await tx.outbox._sql.run(f"PRAGMA max_page_count = {pages}")


async def stay(event: AppCreated) -> None:
    await asyncio.Event().wait()


async def test_a_crash_inside_a_handler_delivers_again_and_counts(reopen: Reopen, path: Path, clock: FakeClock) -> None:
    async with reopen() as database:
        await emit(database, created(BLOG, 0))
        greeter = Greeter(stay)
        running = await begin(Bus(database, [greeter], clock=clock), greeter)
        with contextlib.closing(sqlite3.connect(path)) as after_the_crash:
            copy = sqlite3.connect(path.with_name("crashed.db"))
            with contextlib.closing(copy):
                after_the_crash.backup(copy)
        running.cancel()
        await asyncio.wait((running,))

    greeter = Greeter()
    path.with_name("crashed.db").rename(path)
    async with reopen() as database:
        [lane] = await database.read.outbox.lanes()
        assert lane.head.attempts == 1
        await Bus(database, [greeter], clock=clock).settle()
        assert greeter.seen == [(BLOG, "0")]
        assert await database.read.outbox.lanes() == []


async def test_an_event_that_kills_the_agent_each_time_is_given_up(
    reopen: Reopen, path: Path, clock: FakeClock
) -> None:
    async with reopen() as database:
        await emit(database, created(BLOG, 0), created(BLOG, 1))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as crashes:
        crashes.execute("UPDATE deliveries SET attempts = 3 WHERE event_id = 1")
    greeter, mourner = Greeter(), Mourner()
    async with reopen() as database:
        await Bus(database, [greeter, mourner], clock=clock).settle()
    assert greeter.seen == [(BLOG, "1")]
    assert [gave_up.event_id for gave_up in mourner.seen] == [1]


async def test_the_news_of_giving_up_is_heard_however_often_the_agent_dies_with_it(
    reopen: Reopen, path: Path, clock: FakeClock
) -> None:
    news = HandlerGaveUp(app=BLOG, handler="builder.build", event_id=1, event_type="deploy.accepted", reason="died")
    async with reopen() as database:
        await emit(database, news)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as crashes:
        crashes.execute("UPDATE deliveries SET attempts = 50")
    mourner = Mourner()
    async with reopen() as database:
        await Bus(database, [mourner], clock=clock).settle()
    assert mourner.seen == [news]


async def test_shutdown_cancels_what_outlasts_its_grace_and_leaves_it_owed_and_uncounted(
    reopen: Reopen, clock: FakeClock
) -> None:
    async with reopen() as database:
        greeter = Greeter(stay)
        await emit(database, created(BLOG, 0), created(BLOG, 1))
        bus = Bus(database, [greeter], clock=clock)
        running = await begin(bus, greeter)
        await bus.stop(grace=0)
        await running
        [lane] = await database.read.outbox.lanes()
        assert (lane.head.event_id, lane.head.attempts, lane.newest) == (1, 0, 2)
    greeter = Greeter()
    async with reopen() as database:
        await Bus(database, [greeter], clock=clock).settle()
    assert greeter.seen == [(BLOG, "0"), (BLOG, "1")]


async def test_shutdown_starts_nothing_more_and_lets_what_runs_finish(reopen: Reopen, clock: FakeClock) -> None:
    release = asyncio.Event()

    async def wait(event: AppCreated) -> None:
        await release.wait()

    async with reopen() as database:
        greeter = Greeter(wait)
        await emit(database, created(BLOG, 0), created(BLOG, 1))
        bus = Bus(database, [greeter], clock=clock)
        running = await begin(bus, greeter)
        stopping = asyncio.create_task(bus.stop(grace=10))
        await asyncio.sleep(0)
        release.set()
        await stopping
        await running
        assert greeter.seen == [(BLOG, "0")]
        [lane] = await database.read.outbox.lanes()
        assert lane.head.event_id == 2


async def test_what_a_handler_answers_to_its_cancellation_is_still_written_down(
    reopen: Reopen, clock: FakeClock
) -> None:
    async def finish_anyway(event: AppCreated) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with reopen() as database:
        greeter = Greeter(finish_anyway)
        await emit(database, created(BLOG, 0))
        bus = Bus(database, [greeter], clock=clock)
        running = await begin(bus, greeter)
        await bus.stop(grace=0)
        await running
        assert await database.read.outbox.lanes() == []


async def test_a_pause_outlives_a_restart(reopen: Reopen, clock: FakeClock) -> None:
    async def not_yet(event: AppCreated) -> None:
        raise Retry("later", after=20)

    async with reopen() as database:
        await emit(database, created(BLOG, 0))
        await Bus(database, [Greeter(not_yet)], clock=clock).settle()
    clock.advance(19)
    greeter = Greeter()
    async with reopen() as database:
        bus = Bus(database, [greeter], clock=clock)
        await bus.settle()
        assert greeter.seen == []
        clock.advance(1)
        await bus.settle()
        assert greeter.seen == [(BLOG, "0")]


async def test_a_clock_set_back_while_the_agent_is_down_makes_no_pause_longer_than_a_minute(
    reopen: Reopen, clock: FakeClock
) -> None:
    async def not_yet(event: AppCreated) -> None:
        raise Retry("later", after=2)

    async with reopen() as database:
        await emit(database, created(BLOG, 0))
        await Bus(database, [Greeter(not_yet)], clock=clock).settle()
    clock.jump(-7_200)
    greeter = Greeter()
    async with reopen() as database:
        await Bus(database, [greeter], clock=clock).settle(advance=clock.advance, within=60)
    assert greeter.seen == [(BLOG, "0")]


async def test_setting_the_machines_clock_holds_nothing_up(reopen: Reopen, clock: FakeClock) -> None:
    async def not_yet(event: AppCreated) -> None:
        if len(greeter.seen) < 2:
            raise Retry("later", after=20)

    year = 365 * 86_400.0
    async with reopen() as database:
        greeter = Greeter(not_yet)
        bus = Bus(database, [greeter], clock=clock)
        await emit(database, created(BLOG, 0))
        await bus.settle()
        clock.jump(-year)
        await bus.settle()
        assert len(greeter.seen) == 1
        clock.advance(20)
        await bus.settle()
        assert len(greeter.seen) == 2
        await emit(database, created(SHOP, 1))
        await bus.settle()
        assert greeter.seen[-1] == (SHOP, "1")

        clock.jump(2 * year)
        await emit(database, created(BLOG, 2))
    clock.jump(-2 * year)
    async with reopen() as database:
        bus = Bus(database, [greeter], clock=clock)
        await bus.settle(advance=clock.advance, within=3_600)
        assert greeter.seen[-1] == (BLOG, "2")


async def test_a_full_disk_makes_handlers_wait_and_counts_against_nobody(
    database: Database, path: Path, start: Start, clock: FakeClock
) -> None:
    """`greeter.greet` may fail three times, and the disk is full for longer: events of more bytes than are free."""

    async def store(event: AppCreated) -> None:
        await emit(database, *[accepted(event.app, f"d{number}" * 2_000) for number in range(20)])

    greeter, mourner = Greeter(store), Mourner()
    bus = start(greeter, mourner)
    await emit(database, created(BLOG, 0))
    await limit_pages(database, 1)
    await bus.settle(advance=clock.advance, within=120)
    assert len(greeter.seen) > 3
    await limit_pages(database, 1_000_000)
    await bus.settle(advance=clock.advance, within=120)
    assert mourner.seen == []
    assert [event.type for event in await database.read.outbox.events()] == ["app.created", *["deploy.accepted"] * 20]


@pytest.mark.slow
async def test_a_bus_that_cannot_write_pauses_and_goes_on_where_it_was(
    tmp_path: Path, clock: FakeClock, opener: Opener
) -> None:
    broken = {"is": False}

    class Flaky(_Counted):
        async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
            if broken["is"] and not statement.startswith("INSERT"):
                raise sqlite3.OperationalError("disk I/O went wrong in a new way")
            return await super().run_many(statement, rows)

    async def open_flaky(path: Path) -> Sql:
        return Flaky(await opener(path), [])

    async def break_it(event: AppCreated) -> None:
        broken["is"] = True

    greeter = Greeter(break_it)
    async with Database.open(
        tmp_path / "s.db",
        routes=routes_for(*ALL),
        clock=clock,
        vault=VAULT,
        opener=open_flaky,
    ) as database:
        bus = Bus(database, [greeter], clock=clock)
        async with bus.delivering():
            await emit(database, created(BLOG, 0), created(BLOG, 1))
            await bus.settle(advance=clock.advance, within=300)
            assert greeter.seen == [(BLOG, "0")]
            broken["is"] = False
            await bus.settle(advance=clock.advance, within=60)
        assert greeter.seen == [(BLOG, "0"), (BLOG, "1")]


async def open_counting_steps(path: Path, steps: list[int]) -> Sql:
    """Open a connection that adds to `steps` the instructions of SQLite's virtual machine that it runs.

    They tell what a statement really costs: each row that is read, each comparison of a sort is some of them
    (https://www.sqlite.org/opcode.html), whatever else the machine does meanwhile.
    """
    sql = await InlineSql.open(path)
    assert isinstance(sql, InlineSql)

    def count() -> int:
        steps[0] += STEPS_AT_ONCE
        return 0

    sql._connection.set_progress_handler(count, STEPS_AT_ONCE)
    return sql


@pytest.mark.slow
async def test_ten_thousand_owed_events_cost_no_more_each_than_a_hundred(tmp_path: Path, clock: FakeClock) -> None:
    """In statements, and in what SQLite does for them: no statement reads on past the lane that it is about."""
    per_size: dict[int, list[str]] = {}
    steps_each: dict[int, float] = {}
    for count in (100, 10_000):
        steps = [0]
        counting = CountingSql(functools.partial(open_counting_steps, steps=steps))
        greeter = Greeter()
        async with Database.open(
            tmp_path / f"{count}.db",
            routes=routes_for(*ALL),
            clock=clock,
            vault=VAULT,
            opener=counting.open,
        ) as database:
            async with database.transaction() as tx:
                for number in range(count):
                    await tx.emit(created(AppId(f"a{number % (count // 2)}"), number))
            counting.statements.clear()
            steps[0] = 0
            await Bus(database, [greeter], clock=clock).settle()
            assert len(greeter.seen) == count
            per_size[count] = list(counting.statements)
            steps_each[count] = steps[0] / count
    whole = [text for text in per_size[10_000] if "GROUP BY handler, app" in text]
    assert len(whole) == 1
    assert len(per_size[10_000]) / 10_000 <= 1.1 * len(per_size[100]) / 100
    assert steps_each[10_000] <= 1.1 * steps_each[100], steps_each


async def test_an_idle_bus_runs_no_sql_and_no_handler(tmp_path: Path, clock: FakeClock) -> None:
    counting = CountingSql(InlineSql.open)
    async with Database.open(
        tmp_path / "s.db",
        routes=routes_for(*ALL),
        clock=clock,
        vault=VAULT,
        opener=counting.open,
    ) as database:
        scaler, greeter = Scaler(), Greeter()
        bus = Bus(database, [scaler, greeter], clock=clock)
        async with bus.delivering():
            await emit(database, created(BLOG, 0), scaled(BLOG))
            await bus.settle()
            counting.statements.clear()
            await bus.settle(advance=clock.advance, within=3_600)
            assert counting.statements == []
            assert (len(greeter.seen), len(scaler.seen)) == (1, 1)
            assert scaler.surveys > 100
            # Nothing is scheduled on the loop but the next survey.
            assert len([task for task in asyncio.all_tasks() if task is not asyncio.current_task()]) == 0


async def test_bookkeeping_of_many_lanes_shares_transactions(tmp_path: Path, clock: FakeClock) -> None:
    counting = CountingSql(InlineSql.open)
    async with Database.open(
        tmp_path / "s.db",
        routes=routes_for(*ALL),
        clock=clock,
        vault=VAULT,
        opener=counting.open,
    ) as database:
        scaler = Scaler()
        await emit(database, *[scaled(AppId(f"a{number}")) for number in range(80)])
        counting.statements.clear()
        await Bus(database, [scaler], clock=clock).settle()
        assert len(scaler.seen) == 80
        assert counting.statements.count("COMMIT") <= 80 / 8 + 2


async def test_each_line_of_a_handlers_log_says_what_it_works_on(
    database: Database, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger().setLevel(logging.INFO)

    async def fail(event: DeployAccepted, stop: Stop) -> None:
        structlog.get_logger("agent.builders").info("build.begun")
        raise OSError("no such luck")

    bus = start(Builder(fail))
    [event_id] = await emit(database, accepted(BLOG, "d7"))
    await bus.settle()
    written = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for name in ("build.begun", "handler.failed"):
        [line] = [line for line in written.splitlines() if re.search(rf"\] {name}\s", line)]
        facts = dict(re.findall(r"(\w+)=(\S+)", line))
        assert facts.items() >= {
            ("app", BLOG),
            ("deploy", "d7"),
            ("handler", "builder.build"),
            ("event_id", str(event_id)),
        }
    assert "no such luck" in written
