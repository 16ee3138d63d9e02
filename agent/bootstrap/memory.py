"""The database and its key file, opened; and the little that is done with them while no agent runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.bootstrap.handlers import HANDLERS
from agent.bootstrap.owner import check_owner
from agent.bus.subscriptions import routes_for
from agent.commands.keys import read_public_key
from agent.errors import Misconfigured, Unavailable, UserError
from agent.lifecycle import keys, properties
from agent.ports.session import LOCAL_NAME
from agent.ports.world import Ids
from agent.settings import Settings
from agent.state.database import Database, Tables
from agent.system import RandomIds, SystemClock
from agent.vault import Vault
from proto.names import Fingerprint
from proto.wire import Exit

KEY_CHECK = b"pushboat key check v1"
"""What the key makes a fingerprint of, to be known again by it. It tells nothing of the key (HMAC)."""


async def add_key(settings: Settings, *, name: str, public: str) -> Fingerprint:
    """Let a public key sign in while no agent runs, and return its fingerprint.

    Raises:
        UserError: ``agent.running``; or the key or its name cannot be had.
    """
    line, fingerprint = read_public_key(public)
    try:
        async with memory(settings, clock=SystemClock(), ids=RandomIds()) as (database, _):
            async with database.transaction() as tx:
                await keys.add(tx, name=name, public=line, fingerprint=fingerprint)
                # No session and no key: whoever may write this folder is root, or as good as that.
                await tx.invocations.add(
                    at=tx.now, user=LOCAL_NAME, fingerprint="", command="ssh-keys:add", app=None, status=Exit.OK
                )
    except Unavailable as error:
        if error.code != "database.in-use":
            raise
        raise UserError(
            "agent.running", "The agent runs, and only it may write.", f"Ask it: pushboat ssh-keys:add {name} < key.pub"
        ) from error
    return fingerprint


@contextlib.asynccontextmanager
async def memory(settings: Settings, *, clock: SystemClock, ids: Ids) -> AsyncIterator[tuple[Database, Vault]]:
    """Open the database and its key file, made where this is the first start.

    Raises:
        Misconfigured: they do not belong together, or one of them is not as it should be, or not ours.
        Unavailable: another agent has them open.
    """
    folder = settings.folder
    await asyncio.to_thread(_make_private, folder)
    vault = Vault.open(folder / "key", may_create=not (folder / "pushboat.db").exists(), token=ids.token)
    path, routes = folder / "pushboat.db", routes_for(*HANDLERS)
    async with Database.open(path, routes=routes, clock=clock, vault=vault) as database:
        if not await belongs_together(database.read, vault, file=folder / "key"):
            async with database.transaction() as tx:
                await tx.server.set("key.check", vault.fingerprint(KEY_CHECK))
        await properties.seal_stored(database)
        yield database, vault


def key_of(settings: Settings) -> Vault:
    """Return the vault whose key lies beside a database that is there.

    Raises:
        Misconfigured: the file is missing, readable by others, or not a key.
    """
    return Vault.open(settings.folder / "key", may_create=False, token=RandomIds().token)


async def belongs_together(read: Tables, vault: Vault, *, file: Path) -> bool:
    """Return true if the database belongs to this key; false if it was never told which key it belongs to.

    Raises:
        Misconfigured: ``key.wrong``. With another key no config would open, and every container would look outdated.
    """
    known = await read.server.get("key.check")
    if known is None:
        await read.configs.verify()
    elif known != vault.fingerprint(KEY_CHECK):
        raise Misconfigured(
            "key.wrong",
            f"The key file {file} is not the one that this database was sealed with.",
            "Put the key file that belongs to the database back.",
        )
    return known is not None


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_owner(folder)
        folder.chmod(0o700)
    except OSError as error:
        raise Misconfigured(
            "settings.invalid",
            f"data.folder {str(folder)!r} cannot be used: {error.strerror}.",
            "Name a folder that is the agent's alone, or may be made by it.",
        ) from error
