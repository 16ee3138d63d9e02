"""Logins and deploy keys: unreadable in any copy of the files, and bound to the host or app that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import Misconfigured
from agent.lifecycle import apps, remotes
from agent.ports.remotes import Login
from agent.state.database import Database
from agent.state.examination import examined
from agent.vault import Vault
from proto.names import AppName
from tests.fakes.world import SeededIds
from tests.state.conftest import BLOG, SHOP, Open

CANARY = "canary-2c9e61"
SEED = bytes(range(32))


async def told(database: Database) -> str:
    """Store a login and two keys; return the private half of the blog's."""
    async with database.transaction() as tx:
        for app, name in ((BLOG, "blog"), (SHOP, "shop")):
            await apps.create(tx, app=app, name=AppName(name), by="ada")
            row = await tx.apps.get(app)
            assert row is not None
            await remotes.create_key(tx, app=row, seed=SEED, may_replace=False)
        await remotes.set_login(tx, host="git.example.com", login=Login("ann", CANARY))
    return await database.read.deploy_keys.private(BLOG)


async def test_passwords_and_keys_are_in_no_copy_of_the_files(database: Database, path: Path) -> None:
    private = await told(database)
    await database.back_up()
    secrets = (CANARY, *private.splitlines()[1:-1])
    files = [file for file in path.parent.iterdir() if file.is_file()]
    assert [file for file in files for secret in secrets if secret.encode() in file.read_bytes()] == []
    assert (await database.read.logins.all())["git.example.com"] == Login("ann", CANARY)
    # Nor where something is printed by mistake.
    assert CANARY not in repr(await database.read.logins.all())
    assert private.splitlines()[1] not in repr(await remotes.access(database.read, app=BLOG))


async def test_a_sealed_value_that_is_moved_to_another_row_does_not_open(database: Database) -> None:
    await told(database)
    async with database.transaction() as tx:
        await tx.logins._sql.run("UPDATE logins SET host = 'evil.example.com'")
        await tx.logins._sql.run(
            "UPDATE deploy_keys SET sealed = (SELECT sealed FROM deploy_keys WHERE app = ?) WHERE app = ?", (BLOG, SHOP)
        )
    with pytest.raises(Misconfigured):
        await database.read.logins.all()
    with pytest.raises(Misconfigured):
        await database.read.deploy_keys.private(SHOP)
    assert await database.read.deploy_keys.private(BLOG)


async def test_a_check_finds_what_the_key_file_does_not_open(open_database: Open, path: Path, vault: Vault) -> None:
    async with open_database() as database:
        await told(database)
    async with examined(path, vault) as found:
        assert await found.sealed() == (3, [])
    async with examined(path, Vault(bytes(32), token=SeededIds().token)) as found:
        places = ["login:git.example.com", f"app:{BLOG}/deploy-key", f"app:{SHOP}/deploy-key"]
        assert await found.sealed() == (3, places)
