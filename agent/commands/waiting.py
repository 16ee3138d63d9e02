"""Waiting for what others do about a change: woken by commits, never by a clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from agent.commands.command import Context
from agent.ports.session import Terminal
from agent.state.database import Database
from proto.events import Event
from proto.names import AppId

T = TypeVar("T")


class Wakeups:
    """Tells that something was committed about an app, and what."""

    def __init__(self, app: AppId) -> None:
        self._app = app
        self._event = asyncio.Event()
        self.events: list[Event] = []
        """What has happened since somebody began to listen, the newest last."""

    def notice(self, events: Sequence[tuple[int, Event]]) -> None:
        """Take note of a commit. A listener of the database."""
        ours = [event for _, event in events if event.app == self._app]
        if ours:
            self.events += ours
            self._event.set()

    async def next(self) -> None:
        """Return once something has been committed about the app since the last call."""
        await self._event.wait()
        self._event.clear()


async def unless_gone(terminal: Terminal, work: Awaitable[int]) -> int:
    """Return what `work` returns, or 1 as soon as the other end has left; `work` is cancelled then."""
    try:
        return await while_there(terminal, work)
    except ConnectionAbortedError:
        return 1


async def while_there(terminal: Terminal, work: Awaitable[T]) -> T:
    """Return what `work` returns.

    Raises:
        ConnectionAbortedError: the other end left first; `work` was cancelled and has ended.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(terminal.gone())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        raise ConnectionAbortedError
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait((task, gone))


@contextlib.contextmanager
def listening(database: Database, *, app: AppId) -> Iterator[Wakeups]:
    """Listen to what is committed about an app, for the block."""
    wakeups = Wakeups(app)
    database.listeners.append(wakeups.notice)
    try:
        yield wakeups
    finally:
        database.listeners.remove(wakeups.notice)


async def wait_until(ctx: Context, *, app: AppId, condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Return true once `condition` holds, which is asked again after each commit about the app.

    Return false after `seconds`, or when the one who asked has left.
    """
    with listening(ctx.database, app=app) as wakeups:

        async def holds() -> int:
            while not await condition():
                await wakeups.next()
            return 0

        try:
            async with asyncio.timeout(seconds):
                return await unless_gone(ctx.session, holds()) == 0
        except TimeoutError:
            return False
