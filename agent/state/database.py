"""One SQLite file: one writer, and events that commit together with their change.

All writes go through one connection, one transaction at a time; it is also the only one that checkpoints. Single
reads share a second connection, which cannot write. Several reads that must agree get a connection of their own.
Transactions are short: nothing but SQL is awaited inside one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from agent.errors import Misconfigured
from agent.ports.world import Clock
from agent.state.lock import exclusive
from agent.state.outbox import Routes
from agent.state.schema import MIGRATIONS, check, migrate, prepare_copier, prepare_reader, prepare_writer
from agent.state.sql import Opener, Rows, Sql, StorageBroken, ThreadSql, Value
from agent.state.tables import Tables
from agent.state.transaction import Lease, Transaction, cause_var, to_the_end
from agent.vault import Vault
from proto.events import Event

__all__ = ["Database", "Listener", "Tables", "Transaction", "cause_var"]

log = structlog.get_logger(__name__)

SNAPSHOTS = 4
"""Snapshots at once, each with a connection and a thread; more wait for their turn."""

Listener = Callable[[Sequence[tuple[int, Event]]], None]
"""Told of a commit's events with their ids, in emit order. Must not block; its exceptions are logged, no more."""


class Database:
    """The agent's memory."""

    def __init__(self, path: Path, *, routes: Routes, clock: Clock, vault: Vault, opener: Opener) -> None:
        self.listeners: list[Listener] = []
        self._path = path
        self._routes = routes
        self._clock = clock
        self._vault = vault
        self._opener = opener
        self._turn = asyncio.Lock()
        self._owner: asyncio.Task[object] | None = None
        self._opened: list[Sql] = []
        self._writer: Sql | None = None
        self._read: Tables | None = None
        self._spare: list[Sql] = []
        self._snapshots = asyncio.Semaphore(SNAPSHOTS)
        self._broken: asyncio.Future[StorageBroken] = asyncio.get_running_loop().create_future()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        path: Path,
        *,
        routes: Routes,
        clock: Clock,
        vault: Vault,
        opener: Opener = ThreadSql.open,
        migrations: Path = MIGRATIONS,
    ) -> AsyncIterator[Database]:
        """Open the file under an exclusive lock (made 0600 if missing), bring its schema up to date, close it after.

        `vault`: seals config. `opener`: what runs the SQL, a thread for each connection unless the clock is virtual.

        Raises:
            Unavailable: ``database.in-use``, another process has had it open for 5 s.
            Misconfigured: ``database.damaged``, or ``database.newer`` than this Pushboat.
        """
        async with exclusive(path.with_name(path.name + ".lock")):
            database = cls(path, routes=routes, clock=clock, vault=vault, opener=opener)
            try:
                await database._start(migrations)
                yield database
            finally:
                await to_the_end(database._close())

    @property
    def read(self) -> Tables:
        """The last committed state, a statement at a time. Writing through it fails."""
        assert self._read is not None
        return self._read

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Tables]:
        """Several reads of one and the same committed state. Keep it short: the log cannot shrink meanwhile."""
        async with self._snapshots:
            # Again and again: while one is opened, another reader may take it.
            while not self._spare:
                await to_the_end(self._open_spare())
            sql = self._spare.pop()
            lease = Lease(sql)
            try:
                await to_the_end(sql.run("BEGIN"))
                yield Tables(lease, self._vault)
            finally:
                lease.end()
                await to_the_end(self._give_back(sql))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit and tell the listeners when the block ends; undo everything if it raises.

        The caller may be cancelled at any point. Then either nothing of it is stored, or (cancelled while it
        commits) all of it is, and the listeners are told, before the cancellation goes on. Either way nobody else
        begins before it has ended.

        Raises:
            Unavailable: ``disk.full`` or ``database.busy``; nothing was stored.
            StorageBroken: nothing was acknowledged.
        """
        if self._owner is not None and self._owner is asyncio.current_task():
            raise RuntimeError("a transaction inside a transaction would wait for itself")
        async with self._turn:
            self._owner = asyncio.current_task()
            lease: Lease | None = None
            try:
                lease = Lease(await to_the_end(self._begin()))
                tx = Transaction(lease, self._vault, routes=self._routes, now=self._clock.now())
                yield tx
                lease.end()
                lease.verify()
                await to_the_end(self._commit(tx))
            except BaseException:
                if lease is not None:
                    lease.end()
                await to_the_end(self._roll_back())
                raise
            finally:
                self._owner = None

    async def broken(self) -> StorageBroken:
        """Return why nothing can be stored any more, once that is so. The agent must end then, and start anew."""
        return await asyncio.shield(self._broken)

    async def back_up(self) -> Path:
        """Replace the backup beside the database by a whole, consistent copy of now; return its path."""
        target = backup_of(self._path)
        fresh = target.with_name(target.name + ".new")
        await asyncio.to_thread(_empty_file, fresh)
        async with self._snapshots:
            sql = await self._connect(prepare_copier)
            try:
                await sql.run("VACUUM INTO ?", (str(fresh),))
            finally:
                await to_the_end(self._disconnect(sql))
        await asyncio.to_thread(_replace, fresh, target)
        return target

    async def scrub(self) -> bool:
        """Leave nothing in the file, its log and its backup of what was overwritten before now.

        Takes as long as copying all of it, and as much space. Return false if another program reads the file, which
        keeps the log as it is; try again then.

        Raises:
            Unavailable: ``disk.full`` or ``database.busy``.
        """
        async with self._turn:
            is_clean = await to_the_end(self._vacuum())
        if await asyncio.to_thread(backup_of(self._path).exists):
            await self.back_up()
        return is_clean

    # Opening and closing.

    async def _start(self, migrations: Path) -> None:
        try:
            _make_private(self._path)
            self._writer = await self._connect(prepare_writer)
            await check(self._writer)
            await migrate(self._writer, path=self._path, folder=migrations)
            self._read = Tables(await self._connect(prepare_reader), self._vault)
        except StorageBroken as error:
            if error.code != "database.damaged":
                raise
            raise Misconfigured(error.code, error.message, restore_hint(self._path)) from error

    async def _connect(self, prepare: Callable[[Sql], Awaitable[None]]) -> Sql:
        sql = _Watched(await self._opener(self._path), on_broken=self._note_broken)
        self._opened.append(sql)
        try:
            await prepare(sql)
        except BaseException:
            await self._disconnect(sql)
            raise
        return sql

    async def _disconnect(self, sql: Sql) -> None:
        self._opened.remove(sql)
        await sql.close()

    async def _close(self) -> None:
        # The last one out checkpoints, and only the writer may.
        for sql in sorted(self._opened, key=lambda sql: sql is self._writer):
            try:
                await sql.close()
            except Exception:
                log.exception("database.not-closed")

    async def _open_spare(self) -> None:
        self._spare.append(await self._connect(prepare_reader))

    async def _give_back(self, sql: Sql) -> None:
        try:
            await sql.roll_back()
        except Exception:
            log.exception("database.snapshot-not-ended")
            await self._disconnect(sql)
        else:
            self._spare.append(sql)

    # The writer. All of these run to their end whatever happens to the caller.

    async def _begin(self) -> Sql:
        writer = await self._connected_writer()
        await writer.run("BEGIN IMMEDIATE")
        return writer

    async def _connected_writer(self) -> Sql:
        if self._writer is None:
            self._writer = await self._connect(prepare_writer)
        return self._writer

    async def _vacuum(self) -> bool:
        writer = await self._connected_writer()
        await writer.run("VACUUM")
        # The first column tells whether a reader was in the way (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
        checkpoint = await writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
        return checkpoint.first is not None and checkpoint.first[0] == 0

    async def _commit(self, tx: Transaction) -> None:
        assert self._writer is not None
        await self._writer.run("COMMIT")
        if not tx.emitted:
            return
        for listener in self.listeners:
            try:
                listener(tx.emitted)
            except Exception:
                log.exception("database.listener-failed")

    async def _roll_back(self) -> None:
        if self._writer is None:
            return
        try:
            await self._writer.roll_back()
        except Exception:
            # Closing ends the transaction for certain. The next one gets a new connection.
            log.exception("database.rollback-failed")
            writer, self._writer = self._writer, None
            await self._disconnect(writer)

    def _note_broken(self, error: StorageBroken) -> None:
        if not self._broken.done():
            log.critical("database.broken", reason=str(error))
            self._broken.set_result(error)


class _Watched:
    """A connection that tells when the file or the disk cannot be trusted any more."""

    def __init__(self, sql: Sql, *, on_broken: Callable[[StorageBroken], None]) -> None:
        self._sql = sql
        self._on_broken = on_broken

    async def run(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        """See `Sql.run`."""
        with self._watching():
            return await self._sql.run(statement, parameters)

    async def run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> int:
        """See `Sql.run_many`."""
        with self._watching():
            return await self._sql.run_many(statement, rows)

    async def script(self, text: str) -> None:
        """See `Sql.script`."""
        with self._watching():
            await self._sql.script(text)

    async def roll_back(self) -> None:
        """See `Sql.roll_back`."""
        with self._watching():
            await self._sql.roll_back()

    async def close(self) -> None:
        """See `Sql.close`."""
        await self._sql.close()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except StorageBroken as error:
            self._on_broken(error)
            raise


def backup_of(path: Path) -> Path:
    """Return where the backup of the database at `path` lies."""
    return path.with_name(path.name + ".backup")


def restore_hint(path: Path) -> str:
    """Return what to type when the database at `path` is damaged: one line of shell that also root may type.

    Which files lie beside the database is not known yet (SQLite removes some when it is closed), so the line looks
    for them when it runs. Nothing is deleted. The backup keeps its owner and its mode.
    """
    aside = shlex.quote(f"{path}.damaged")
    found = f"find {shlex.quote(str(path.parent))} -maxdepth 1 '(' -name {path.name} -o -name '{path.name}-*' ')'"
    move = f"mkdir -p {aside} && {found} -exec mv --backup=numbered -t {aside} {{}} +"
    if backup_of(path).exists():
        return f"Put the last backup back: {move} && cp -p {shlex.quote(str(backup_of(path)))} {shlex.quote(str(path))}"
    return f"There is no backup. Begin anew, then add your keys and push your apps again: {move}"


def _make_private(path: Path) -> None:
    # SQLite gives the files beside it (-wal, -shm) the same permissions.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _empty_file(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _replace(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`, such that a power cut leaves the one or the other."""
    _sync(fresh)
    os.replace(fresh, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
