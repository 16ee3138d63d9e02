"""One thing that somebody asks for: whether he may, and the record that he did. There is no second place for either.

Commands and git's services come through here alike. Each says by its ``permission`` what it takes; what says nothing
is refused. `authorise` is the one function that lets somebody do something to an app, so that roles, once there are
some, need to change nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal, Protocol, get_args

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from agent.errors import Unavailable, UserError
from agent.ports.session import User
from agent.state.apps import App
from agent.state.database import Database, Transaction
from proto.names import AppId
from proto.wire import Exit

log = structlog.get_logger(__name__)

Permission = Literal["read", "change", "admin"]
"""``read``: looks. ``change``: changes apps. ``admin``: changes the server, or who may use it."""

DENIED = "command.denied"


class Asked(Protocol):
    """What can be asked for: a class of `Command`, or a `Service` of git."""

    @property
    def name(self) -> str:
        """What it is called in messages and records."""
        ...

    @property
    def permission(self) -> Permission:
        """What it takes to be allowed."""
        ...


class Request:
    """One thing that is asked for by one user. Made by `asking`, which closes it."""

    def __init__(self, database: Database, *, user: User, asked: Asked, is_always_kept: bool = False) -> None:
        """`is_always_kept`: stored also if it only looks."""
        self._database = database
        self._user = user
        self._asked = asked
        self._is_kept = is_always_kept or asked.permission != "read"
        self._is_recorded = False
        self._app: AppId | None = None
        self.status: int = Exit.BUG
        """How it ended, as an exit status; our mistake until somebody knows better."""

    def authorise(self, app: App | None) -> None:
        """Return if the user may have what is asked for of `app`, `None` if it is about none or about a new one.

        To be asked again whenever it turns out that another app is meant.

        Raises:
            UserError: ``command.denied``. It is put on record whatever was asked for.
        """
        self._is_about(app.id if app else None)
        try:
            authorise(self._user, self._asked, app)
        except UserError:
            self._is_kept = True
            raise

    async def record(self, tx: Transaction, *, app: AppId | None, status: int) -> None:
        """Put it on record together with what it does, so that neither is there without the other."""
        self._is_about(app)
        self._is_recorded = True
        await tx.invocations.add(
            at=tx.now,
            user=self._user.name,
            fingerprint=self._user.fingerprint,
            command=self._asked.name,
            app=app,
            status=status,
        )

    def _is_about(self, app: AppId | None) -> None:
        self._app = app
        if app is not None:
            bind_contextvars(app=app)
        else:
            unbind_contextvars("app")

    async def close(self) -> None:
        """Log how it ended, and put it on record if nobody has. Names only: values may be secret."""
        # The line waits for the loop's next turn: who asked has the answer before it is written.
        asyncio.get_running_loop().call_soon(
            partial(
                log.info,
                "command.ended",
                command=self._asked.name,
                app=self._app,
                user=self._user.name,
                status=int(self.status),
            )
        )
        if self._is_recorded or not self._is_kept:
            return
        try:
            async with self._database.transaction() as tx:
                await self.record(tx, app=self._app, status=int(self.status))
        except Unavailable as error:
            # What was asked for is stored, or was refused for the same reason; its answer stands.
            log.error("command.not-recorded", command=self._asked.name, reason=error.message)


@asynccontextmanager
async def asking(
    database: Database, *, user: User, asked: Asked, is_always_kept: bool = False
) -> AsyncIterator[Request]:
    """Yield the request for the length of what it asks for; whatever ends the block is its status, and on record.

    What is asked for, and of which app, is on each line that is logged from then on in the caller's `piece_of_work`.
    """
    bind_contextvars(command=asked.name)
    request = Request(database, user=user, asked=asked, is_always_kept=is_always_kept)
    try:
        yield request
    except UserError as error:
        request.status = error.status
        raise
    except ConnectionError:
        request.status = Exit.FAILED
        raise
    except asyncio.CancelledError:
        request.status = Exit.UNAVAILABLE
        raise
    finally:
        await request.close()


def authorise(user: User, asked: Asked, app: App | None) -> None:
    """Return if `user` may have what is asked for of `app`.

    Every key may do everything so far; whoever has no fingerprint and is not root on this machine has no key.

    Raises:
        UserError: ``command.denied``.
    """
    if is_declared(asked) and (user.is_local or user.fingerprint):
        return
    raise UserError(DENIED, f"You may not use {asked.name}.", "Ask who runs this server.")


def is_declared(asked: object) -> bool:
    """Tell whether something says its name and what it takes to be allowed. What does not is for nobody."""
    return bool(getattr(asked, "name", "")) and getattr(asked, "permission", "") in get_args(Permission)
