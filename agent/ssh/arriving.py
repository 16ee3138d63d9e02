"""Pushes under way, noted so that each is done or not done, whoever dies in it.

Git moves refs before we can record the deploy that follows. Where something breaks off in between, the client was
told nothing, and a branch would stand at a commit that nobody deployed. So what git is asked for is noted first, goes
with the commit that records the deploy, and is undone by whoever finds it left: the push itself when it fails, or the
next start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from agent.errors import Unavailable
from agent.git.command_list import RefUpdate
from agent.git.putting_back import put_back
from agent.state.database import Database, Transaction
from proto.names import AppId

log = structlog.get_logger(__name__)


class Repositories(Protocol):
    """Where repositories lie."""

    def path(self, app: AppId) -> Path:
        """Return the folder of the app's repository."""
        ...


class Arrival:
    """One push to an app that there is."""

    def __init__(self, database: Database, repos: Repositories, app: AppId) -> None:
        self._database = database
        self._repos = repos
        self._app = app
        self._updates: Sequence[RefUpdate] = ()

    async def mend(self) -> None:
        """Undo the push before this one, if it broke off and could not be undone then.

        Raises:
            Unavailable: it cannot be undone now either, and noting this one would forget it.
        """
        text = await self._database.read.arrivals.of(self._app)
        if text is not None and not await _undo(self._database, self._repos, self._app, text):
            raise Unavailable(
                "push.not-undone",
                "The push before this one broke off, and cannot be undone yet.",
                "Push again in a minute. If it stays so, ask whoever runs this server to run doctor: is the disk full?",
            )

    async def begin(self, updates: Sequence[RefUpdate]) -> None:
        """Note what git is about to be asked for."""
        async with self._database.transaction() as tx:
            await tx.arrivals.add(self._app, updates=msgspec.json.encode(updates).decode())
        self._updates = updates

    async def recorded(self, tx: Transaction) -> None:
        """Let go of the note together with what `tx` records."""
        await tx.arrivals.forget(self._app)

    async def end(self, *, is_settled: bool) -> None:
        """Forget the push; undo it first unless it was settled. Harmless if it had not begun or was recorded."""
        if not self._updates or (not is_settled and not await put_back(self._repos.path(self._app), self._updates)):
            return
        self._updates = ()
        if await self._database.read.arrivals.of(self._app) is not None:
            async with self._database.transaction() as tx:
                await tx.arrivals.forget(self._app)


async def undo_broken_off(database: Database, repos: Repositories) -> None:
    """Put the refs of pushes back that broke off with the last agent. While nothing is pushed yet, so at the start."""
    for app, text in (await database.read.arrivals.all()).items():
        await _undo(database, repos, app, text)


async def _undo(database: Database, repos: Repositories, app: AppId, text: str) -> bool:
    """Put the refs of a noted push back, and forget the note; tell whether that was done."""
    updates = msgspec.json.decode(text, type=tuple[RefUpdate, ...])
    if not await put_back(repos.path(app), updates):
        return False
    async with database.transaction() as tx:
        await tx.arrivals.forget(app)
    log.warning("push.broken-off", app=app, refs=[update.ref for update in updates])
    return True
