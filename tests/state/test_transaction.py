"""Whatever is cancelled or fails, at whichever SQL call: all of a transaction is stored and announced, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.state.database import Database
from agent.state.sql import Opener, Rows, Sql, StorageBroken, Value
from proto.events import Event
from tests.state.conftest import BLOG, SHOP, Open, created

Interference = Callable[[Callable[[], Awaitable[object]]], Awaitable[object]]


class Saboteur:
    """Opens connections on which the n-th call from now goes wrong."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._left = 0
        self._how: Interference | None = None

    def strike(self, call: int, how: Interference) -> None:
        """Let `how` deal with the call number `call` from now, from 1."""
        self._left, self._how = call, how

    @property
    def has_struck(self) -> bool:
        return self._how is None

    async def open(self, path: Path) -> Sql:
        return _Sabotaged(await self._opener(path), self)

    async def through(self, call: Callable[[], Awaitable[object]]) -> object:
        self._left -= 1
        if self._left == 0 and self._how is not None:
            how, self._how = self._how, None
            return await how(call)
        return await call()


class _Sabotaged:
    def __init__(self, sql: Sql, saboteur: Saboteur) -> None:
        self._sql = sql
        self._saboteur = saboteur

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        rows = await self._saboteur.through(lambda: self._sql.run(statement, parameters))
        assert isinstance(rows, Rows)
        return rows

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        changed = await self._saboteur.through(lambda: self._sql.run_many(statement, rows))
        assert isinstance(changed, int)
        return changed

    async def script(self, text: str) -> None:
        await self._saboteur.through(lambda: self._sql.script(text))

    async def roll_back(self) -> None:
        await self._saboteur.through(self._sql.roll_back)

    async def close(self) -> None:
        await self._sql.close()


async def fail_before(call: Callable[[], Awaitable[object]]) -> object:
    raise Unavailable("disk.full", "The disk is full.")


async def fail_after(call: Callable[[], Awaitable[object]]) -> object:
    await call()
    raise sqlite3.OperationalError("something else")


CALLS_OF_A_TRANSACTION = 6
"""BEGIN, (event, deliveries) twice, COMMIT."""


async def emit_two(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.emit(created("one"))
        await tx.emit(created("two"))


async def names(database: Database) -> list[bytes]:
    return [event.body for event in await database.read.outbox.events()]


async def assert_all_or_nothing(database: Database, heard: list[Event], *, expected: Sequence[str] = ()) -> None:
    """What is stored, what is owed and what was announced agree, and the next transaction is untouched by the last."""
    stored = await database.read.outbox.events()
    assert len(stored) in (0, 2), "half a transaction was stored"
    assert [event.id for event in stored] == [number for number, _ in enumerate(heard, 1)], "stored and not announced"
    lanes = await database.read.outbox.lanes()
    assert len(lanes) == (2 if stored else 0)

    async with asyncio.timeout(10), database.transaction() as tx:
        await tx.emit(created("after", app=SHOP))
    assert len(await database.read.outbox.events()) == len(stored) + 1
    assert len(heard) == len(stored) + 1


@pytest.mark.parametrize("call", range(1, CALLS_OF_A_TRANSACTION + 1))
@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_a_cancellation_at_any_call_leaves_all_or_nothing(
    open_database: Open, opener: Opener, call: int, moment: str
) -> None:
    saboteur = Saboteur(opener)
    async with open_database(opener=saboteur.open) as database:
        heard = listening(database)

        async def cancelling(call: Callable[[], Awaitable[object]]) -> object:
            if moment == "before":
                task.cancel()
                await asyncio.sleep(0)
            if moment == "during":
                asyncio.get_running_loop().call_soon(task.cancel)
            answer = await call()
            if moment == "after":
                task.cancel()
            return answer

        saboteur.strike(call, cancelling)
        task = asyncio.create_task(emit_two(database))
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert saboteur.has_struck
        assert task.cancelled() or moment == "after" or call == CALLS_OF_A_TRANSACTION
        if call == CALLS_OF_A_TRANSACTION:
            assert len(heard) == 2, "a commit that was begun is stored and announced"
        await assert_all_or_nothing(database, heard)


@pytest.mark.parametrize("call", range(1, CALLS_OF_A_TRANSACTION + 1))
@pytest.mark.parametrize("how", [fail_before, fail_after])
async def test_a_failure_at_any_call_leaves_all_or_nothing(
    open_database: Open, opener: Opener, call: int, how: Interference
) -> None:
    saboteur = Saboteur(opener)
    async with open_database(opener=saboteur.open) as database:
        heard = listening(database)
        saboteur.strike(call, how)
        with pytest.raises((Unavailable, sqlite3.OperationalError)):
            await emit_two(database)
        assert saboteur.has_struck
        if call == CALLS_OF_A_TRANSACTION and how is fail_after:
            # SQLite committed and said that it had not: it is stored, was not acknowledged, and a restart delivers it.
            assert (len(await database.read.outbox.events()), heard) == (2, [])
            return
        assert heard == []
        await assert_all_or_nothing(database, heard)


@pytest.mark.parametrize("call", range(1, CALLS_OF_A_TRANSACTION + 1))
async def test_a_rollback_that_fails_frees_the_database_all_the_same(
    open_database: Open, opener: Opener, call: int
) -> None:
    saboteur = Saboteur(opener)
    async with open_database(opener=saboteur.open) as database:
        heard = listening(database)

        async def fail_twice(call: Callable[[], Awaitable[object]]) -> object:
            saboteur.strike(1, fail_before)
            raise sqlite3.OperationalError("first the statement, then the rollback")

        saboteur.strike(call, fail_twice)
        with pytest.raises(sqlite3.OperationalError):
            await emit_two(database)
        assert saboteur.has_struck
        await assert_all_or_nothing(database, heard)


async def test_an_impatient_caller_is_cancelled_again_and_again_to_no_harm(open_database: Open, opener: Opener) -> None:
    saboteur = Saboteur(opener)
    async with open_database(opener=saboteur.open) as database:
        heard = listening(database)

        async def hammering(call: Callable[[], Awaitable[object]]) -> object:
            for _ in range(5):
                task.cancel()
                await asyncio.sleep(0)
            return await call()

        saboteur.strike(CALLS_OF_A_TRANSACTION, hammering)
        task = asyncio.create_task(emit_two(database))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(heard) == 2
        await assert_all_or_nothing(database, heard)


async def test_many_who_are_cancelled_at_random_leave_whole_transactions_only(database: Database) -> None:
    heard = listening(database)
    finished = 0

    async def work(number: int) -> None:
        nonlocal finished
        await emit_two(database)
        finished += 1

    tasks = [asyncio.create_task(work(number)) for number in range(60)]
    for number, task in enumerate(tasks):
        if number % 3 == 0:
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
    await asyncio.wait(tasks)
    stored = await database.read.outbox.events(limit=1_000)
    assert len(stored) % 2 == 0
    assert len(stored) >= 2 * finished >= 80
    assert [event.id for event in stored] == list(range(1, len(stored) + 1))
    assert len(heard) == len(stored)


async def test_a_swallowed_failure_dooms_the_transaction(open_database: Open, opener: Opener) -> None:
    saboteur = Saboteur(opener)
    async with open_database(opener=saboteur.open) as database:
        saboteur.strike(2, fail_before)
        with pytest.raises(RuntimeError, match="did not finish"):
            async with database.transaction() as tx:
                with contextlib.suppress(Unavailable):
                    await tx.emit(created("one"))
        saboteur.strike(2, fail_before)
        with pytest.raises(RuntimeError, match="did not finish"):
            async with database.transaction() as tx:
                with contextlib.suppress(Unavailable):
                    await tx.emit(created("one"))
                await tx.emit(created("two"))
        assert await database.read.outbox.events() == []


async def test_a_broken_constraint_costs_one_statement_only(database: Database) -> None:
    async with database.transaction() as tx:
        event_id = await tx.emit(created("one"))
        with pytest.raises(sqlite3.IntegrityError):
            await tx.outbox._sql.run(
                "INSERT INTO deliveries (event_id, handler, app, due_at) VALUES (?, 'greeter.greet', ?, 0)",
                (event_id, BLOG),
            )
    assert len(await database.read.outbox.events()) == 1


async def test_a_transaction_cannot_be_used_after_its_end(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.emit(created("one"))
    with pytest.raises(RuntimeError, match="over"):
        await tx.emit(created("two"))
    async with database.snapshot() as tables:
        assert len(await tables.outbox.events()) == 1
    with pytest.raises(RuntimeError, match="over"):
        await tables.outbox.events()


async def test_a_transaction_inside_a_transaction_is_refused(database: Database) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        async with database.transaction():
            async with database.transaction():
                raise AssertionError("unreachable")


async def test_transactions_wait_for_each_other(database: Database) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with database.transaction() as tx:
            order.append(f"{name} begins")
            await tx.emit(created(name))
            order.append(f"{name} ends")

    await asyncio.gather(work("a"), work("b"), work("c"))
    assert order == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


async def test_a_listener_that_raises_keeps_nobody_from_hearing(database: Database) -> None:
    def stumble(events: Sequence[tuple[int, Event]]) -> None:
        raise LookupError

    database.listeners.append(stumble)
    heard = listening(database)
    await emit_two(database)
    assert len(heard) == 2


async def test_nothing_is_announced_when_nothing_happened(database: Database) -> None:
    calls: list[Sequence[tuple[int, Event]]] = []
    database.listeners.append(calls.append)
    async with database.transaction() as tx:
        await tx.outbox.done([("greeter.greet", BLOG, 1)])
    assert calls == []


async def test_a_failing_disk_is_told_once_and_for_all(open_database: Open, opener: Opener) -> None:
    async def fail_for_good(call: Callable[[], Awaitable[object]]) -> object:
        raise StorageBroken("disk.failed", "The disk fails.")

    saboteur = Saboteur(opener)
    async with open_database(opener=saboteur.open) as database:
        saboteur.strike(CALLS_OF_A_TRANSACTION, fail_for_good)
        with pytest.raises(StorageBroken):
            await emit_two(database)
        assert (await database.broken()).code == "disk.failed"


def listening(database: Database) -> list[Event]:
    """Return the list that collects what is announced from now on."""
    heard: list[Event] = []
    database.listeners.append(lambda events: heard.extend(event for _, event in events))
    return heard
