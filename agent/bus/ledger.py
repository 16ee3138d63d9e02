"""Writes down, in groups, what became of deliveries.

Each delivery needs two commits: one that counts the attempt before the handler runs, one that forgets the delivery
after. A commit costs a sync of the disk, so all lanes share them: what gathers while one transaction commits goes
into the next. If writing fails (a full disk), everybody waits: nothing starts that could not be counted, nothing is
forgotten, and the next try comes after a pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import msgspec
import structlog

from agent.bus.timers import Timers, pause
from agent.errors import Unavailable
from agent.state.database import Database, Transaction
from proto.events import HandlerGaveUp
from proto.names import AppId

log = structlog.get_logger(__name__)


class Burial(msgspec.Struct, frozen=True):
    """A delivery that will not be tried again, and the event that says so, if it is to be said."""

    handler: str
    app: AppId
    event_id: int
    reason: str
    announcement: HandlerGaveUp | None


class _Batch:
    """What goes into one transaction."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float, str, AppId, int]] = []
        self.done: list[tuple[str, AppId, int]] = []
        self.burials: list[Burial] = []
        self.waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self.marks or self.done or self.burials)

    def extend(self, later: _Batch) -> None:
        self.marks += later.marks
        self.done += later.done
        self.burials += later.burials
        self.waiters += later.waiters


class Ledger:
    """The one writer of the bus's bookkeeping."""

    def __init__(
        self,
        database: Database,
        *,
        timers: Timers,
        spawn: Callable[[Coroutine[object, object, None]], None],
        on_stuck: Callable[[], None],
    ) -> None:
        """`spawn` starts a task and owns it; `on_stuck` is called when somebody has to wait for the next try."""
        self._database = database
        self._timers = timers
        self._spawn = spawn
        self._on_stuck = on_stuck
        self._batch = _Batch()
        self._is_writing = False
        self._failures = 0

    @property
    def stuck(self) -> int:
        """How many wait for a next try of writing; 0 while writing goes well."""
        if not self._failures or self._is_writing:
            return 0
        return sum(not waiter.done() for waiter in self._batch.waiters)

    async def mark(self, handler: str, app: AppId, event_id: int, *, attempts: int, due_at: float) -> None:
        """Return once it is stored how often a delivery was begun, and when it is due (Unix seconds)."""
        self._batch.marks.append((attempts, due_at, handler, app, event_id))
        await self._written()

    async def done(self, handler: str, app: AppId, *, up_to: int) -> None:
        """Return once a lane owes nothing up to and including event `up_to`."""
        self._batch.done.append((handler, app, up_to))
        await self._written()

    async def bury(self, burial: Burial) -> None:
        """Return once a delivery is given up, and that is announced."""
        self._batch.burials.append(burial)
        await self._written()

    def mark_soon(self, handler: str, app: AppId, event_id: int, *, attempts: int, due_at: float) -> None:
        """As `mark`, without waiting: with the next transaction, or with `finish`."""
        self._batch.marks.append((attempts, due_at, handler, app, event_id))

    async def finish(self) -> None:
        """Write what is left, in one try. What cannot be written is done again after the next start."""
        batch, self._batch = self._batch, _Batch()
        if batch:
            try:
                await self._write(batch)
            except Exception:
                log.exception("bus.not-written-at-the-end")
                self._batch = batch

    async def _written(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._batch.waiters.append(waiter)
        if self._failures and not self._is_writing:
            self._on_stuck()
        elif not self._is_writing:
            self._start()
        await waiter

    def _start(self) -> None:
        self._is_writing = True
        self._spawn(self._run())

    async def _run(self) -> None:
        batch = _Batch()
        try:
            while self._batch:
                batch, self._batch = self._batch, _Batch()
                await self._write(batch)
                self._failures = 0
                for waiter in batch.waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        except BaseException as error:
            batch.extend(self._batch)
            self._batch = batch
            self._is_writing = False
            if not isinstance(error, Exception):
                raise
            self._failures += 1
            log.error(
                "bus.not-written",
                reason=str(error),
                seconds=pause(self._failures),
                waiting=len(batch.waiters),
                exc_info=not isinstance(error, Unavailable),
            )
            self._timers.after(pause(self._failures), self._start)
            self._on_stuck()
        else:
            self._is_writing = False

    async def _write(self, batch: _Batch) -> None:
        async with self._database.transaction() as tx:
            if batch.marks:
                await tx.outbox.mark(batch.marks)
            if batch.done:
                await tx.outbox.done(batch.done)
            for burial in batch.burials:
                await self._bury(tx, burial)

    @staticmethod
    async def _bury(tx: Transaction, burial: Burial) -> None:
        is_news = await tx.outbox.bury(burial.handler, burial.app, burial.event_id, reason=burial.reason)
        if is_news and burial.announcement is not None:
            await tx.emit(burial.announcement, cause=burial.event_id)
