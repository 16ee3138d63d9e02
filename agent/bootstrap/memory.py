"""The database and its key file, opened; and the little that is done with them while no agent runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.bootstrap.handlers import HANDLERS
from agent.bus.subscriptions import routes_for
from agent.commands.keys import read_public_key
from agent.errors import Unavailable, UserError
from agent.lifecycle import keys
from agent.settings import Settings
from agent.state.database import Database
from agent.system import SystemClock
from agent.vault import Vault
from proto.names import Fingerprint


async def add_key(settings: Settings, *, name: str, public: str) -> Fingerprint:
    """Let a public key sign in while no agent runs, and return its fingerprint.

    Raises:
        UserError: ``agent.running``; or the key or its name cannot be had.
    """
    line, fingerprint = read_public_key(public)
    try:
        async with memory(settings, clock=SystemClock()) as (database, _):
            async with database.transaction() as tx:
                await keys.add(tx, name=name, public=line, fingerprint=fingerprint)
    except Unavailable as error:
        if error.code != "database.in-use":
            raise
        raise UserError(
            "agent.running", "The agent runs, and only it may write.", f"Ask it: pushboat ssh-keys:add {name} < key.pub"
        ) from error
    return fingerprint


@contextlib.asynccontextmanager
async def memory(settings: Settings, *, clock: SystemClock) -> AsyncIterator[tuple[Database, Vault]]:
    """Open the database and its key file, made where this is the first start."""
    folder = settings.folder
    await asyncio.to_thread(_make_private, folder)
    vault = Vault.open(folder / "key", may_create=not (folder / "pushboat.db").exists())
    path, routes = folder / "pushboat.db", routes_for(*HANDLERS)
    async with Database.open(path, routes=routes, clock=clock, vault=vault) as database:
        yield database, vault


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
