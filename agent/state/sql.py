"""SQL as the tables see it: one statement, one answer.

Every call is one hop to whoever runs SQLite, and brings all rows back. A cursor that stayed open would pin the
connection's snapshot, and the next read of anybody would be stale. Production runs each connection on a thread of
its own (`ThreadSql`); under a virtual clock, where a real thread would look like an endless wait, the same
statements run inline (`InlineSql`).

This is the adapter to SQLite: its errors become ours here, and its values are untyped here.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import aiosqlite

from agent.errors import Unavailable

Value = str | bytes | int | float | None
"""What SQLite stores."""

Row = tuple[Any, ...]
"""One row. Its columns have the types of the STRICT table they come from, which the type checker cannot know."""


class Rows(NamedTuple):
    """What a statement answered."""

    rows: list[Row]
    changed: int
    """Rows inserted, updated or deleted by this statement."""
    last_id: int | None
    """The ``INTEGER PRIMARY KEY`` of the row it inserted, if it inserted one."""

    @property
    def first(self) -> Row | None:
        """The first row, if there is one."""
        return self.rows[0] if self.rows else None


class Sql(Protocol):
    """Runs statements on one connection, in the order of the calls. Outside ``BEGIN`` each commits by itself.

    A cancelled call may or may not have run its statement; calls made later run after it in any case.
    """

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        """Run one statement and return all that it answers.

        Raises:
            sqlite3.IntegrityError: a constraint forbids it; the transaction goes on without it.
            StorageBroken: the file or the disk under it cannot be trusted any more.
            Unavailable: ``disk.full`` or ``database.busy``.
        """
        ...

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        """Run one changing statement once for each row of parameters, in one hop; return how many rows changed."""
        ...

    async def script(self, text: str) -> None:
        """Run several statements. An open transaction is committed first (a habit of Python's ``executescript``)."""
        ...

    async def roll_back(self) -> None:
        """End the open transaction, if there is one, and undo it."""
        ...

    async def close(self) -> None:
        """Close the connection, which undoes an open transaction. Repeating is harmless."""
        ...


Opener = Callable[[Path], Awaitable[Sql]]
"""Opens one connection to a database file, and creates the file if it is missing."""


class StorageBroken(Unavailable):
    """The database file is damaged, or the disk failed to store. Nothing more is acknowledged; the agent must end."""


class ThreadSql:
    """Runs statements on a thread of their own."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Sql:
        """Return a new connection to `path`."""
        connection = _Connection(lambda: _connect(path), 64)
        await connection
        return cls(connection)

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        """See `Sql.run`."""
        return cast(Rows, await self._connection.hop(_run, statement, parameters))

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        """See `Sql.run_many`."""
        return cast(int, await self._connection.hop(_run_many, statement, list(rows)))

    async def script(self, text: str) -> None:
        """See `Sql.script`."""
        await self._connection.hop(_script, text)

    async def roll_back(self) -> None:
        """See `Sql.roll_back`."""
        await self._connection.hop(_roll_back)

    async def close(self) -> None:
        """See `Sql.close`."""
        await self._connection.close()


class InlineSql:
    """Runs statements where they are called, for a loop whose clock is virtual."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Sql:
        """Return a new connection to `path`."""
        return cls(_connect(path))

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        """See `Sql.run`."""
        # Everybody else gets a turn here, as they do while a thread works: tests see the same interleavings.
        await asyncio.sleep(0)
        return _run(self._connection, statement, parameters)

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        """See `Sql.run_many`."""
        await asyncio.sleep(0)
        return _run_many(self._connection, statement, list(rows))

    async def script(self, text: str) -> None:
        """See `Sql.script`."""
        await asyncio.sleep(0)
        _script(self._connection, text)

    async def roll_back(self) -> None:
        """See `Sql.roll_back`."""
        await asyncio.sleep(0)
        _roll_back(self._connection)

    async def close(self) -> None:
        """See `Sql.close`."""
        self._connection.close()


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread and queue, for whole pieces of work instead of single cursor calls."""

    async def hop(self, work: Callable[..., object], *arguments: object) -> object:
        """Run ``work(connection, *arguments)`` on the thread, after all that was asked before."""
        return await self._execute(work, self._conn, *arguments)  # type: ignore[no-untyped-call]


def _connect(path: Path) -> sqlite3.Connection:
    # No isolation level: Python then leaves BEGIN and COMMIT to us.
    try:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise _translated(error) from error


def _run(connection: sqlite3.Connection, statement: str, parameters: Sequence[Value]) -> Rows:
    try:
        cursor = connection.execute(statement, parameters)
        rows = cursor.fetchall()
    except sqlite3.Error as error:
        raise _translated(error) from error
    changed = max(cursor.rowcount, 0)
    return Rows(rows, changed, cursor.lastrowid if changed else None)


def _run_many(connection: sqlite3.Connection, statement: str, rows: list[Sequence[Value]]) -> int:
    try:
        return max(connection.executemany(statement, rows).rowcount, 0)
    except sqlite3.Error as error:
        raise _translated(error) from error


def _script(connection: sqlite3.Connection, text: str) -> None:
    try:
        connection.executescript(text)
    except sqlite3.Error as error:
        raise _translated(error) from error


def _roll_back(connection: sqlite3.Connection) -> None:
    # SQLite itself ends the transaction on some errors (https://www.sqlite.org/lang_transaction.html, 2.2).
    if connection.in_transaction:
        _run(connection, "ROLLBACK", ())


def _translated(error: sqlite3.Error) -> Exception:
    """Return what `error` means to the rest of the agent; itself if only its author can say."""
    # The low byte is the primary result code (https://www.sqlite.org/rescode.html).
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return Unavailable(
                "disk.full",
                "The disk that holds Pushboat's data is full; nothing was changed.",
                "Free some space and try again.",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(
                "database.busy",
                "Another program holds Pushboat's database; nothing was changed.",
                "Try again; if it stays, end the program that has the file open.",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StorageBroken("database.damaged", f"Pushboat's database is damaged ({error}).")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return StorageBroken("disk.failed", f"The disk that holds Pushboat's data fails ({error}).")
    return error
