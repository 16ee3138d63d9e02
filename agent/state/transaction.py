"""Writes that commit or vanish as one, with the events they give rise to.

Cancellation may strike at any ``await``. Two things keep it from doing harm: whatever begins or ends a transaction
runs `to_the_end` before anybody else gets the connection, and the statements in between go through a `Lease`, which
refuses all further work once one of them did not finish or the block is over.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import TypeVar

from agent.state.outbox import Routes
from agent.state.sql import Rows, Sql, Value
from agent.state.tables import Tables
from agent.vault import Vault
from proto.events import Event

T = TypeVar("T")

cause_var: ContextVar[int | None] = ContextVar("cause", default=None)
"""The id of the event that is being handled, so that what it leads to can point back at it."""


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Return what `work` returns. If the caller is cancelled meanwhile, `work` ends first; then the caller is."""
    task = asyncio.create_task(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        raise interruption from (None if task.cancelled() else task.exception())
    return task.result()


class Lease:
    """The use of a connection for the time of one block.

    After a statement that was cancelled or failed (other than by a constraint) nobody knows what the transaction
    holds; SQLite may even have ended it, and the next statement would commit by itself. So nothing runs after that.
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._is_over = False
        self._failure: BaseException | None = None

    def end(self) -> None:
        """Refuse all further statements."""
        self._is_over = True

    def verify(self) -> None:
        """Return if every statement so far did what it should.

        Raises:
            RuntimeError: one did not, and somebody swallowed its exception.
        """
        if self._failure is not None:
            raise RuntimeError("an earlier statement of this transaction did not finish") from self._failure

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        """See `Sql.run`."""
        return await self._guarded(self._sql.run(statement, parameters))

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        """See `Sql.run_many`."""
        return await self._guarded(self._sql.run_many(statement, rows))

    async def script(self, text: str) -> None:
        """Refuse: a script would commit the transaction."""
        raise RuntimeError("a script cannot run inside a transaction")

    async def roll_back(self) -> None:
        """Refuse: leave the block with an exception instead."""
        raise RuntimeError("only the database ends a transaction")

    async def close(self) -> None:
        """Refuse: the connection is borrowed."""
        raise RuntimeError("only the database closes a connection")

    async def _guarded(self, statement: Coroutine[object, object, T]) -> T:
        try:
            self.verify()
            if self._is_over:
                raise RuntimeError("this transaction is over")
        except RuntimeError:
            statement.close()
            raise
        try:
            return await statement
        except sqlite3.IntegrityError:
            raise
        except BaseException as error:
            self._failure = error
            raise


class Transaction(Tables):
    """Every table, to read and to write, and the only way to publish an event."""

    def __init__(self, sql: Sql, vault: Vault, *, routes: Routes, now: float) -> None:
        super().__init__(sql, vault)
        self.now = now
        """When it began, in Unix seconds: the time stamp of all that it writes."""
        self.emitted: list[tuple[int, Event]] = []
        self._routes = routes

    async def emit(self, event: Event, *, cause: int | None = None) -> int:
        """Record that something happened, and owe it to every handler that asked for it; return the event's id.

        `cause`: the id of the event that led to it; by default the one being handled.
        """
        event_id = await self.outbox.add(
            event,
            at=self.now,
            cause=cause_var.get() if cause is None else cause,
            handlers=self._routes.get(type(event), ()),
        )
        self.emitted.append((event_id, event))
        return event_id
