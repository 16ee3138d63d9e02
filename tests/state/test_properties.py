"""Properties: the app's own before the server's; secret ones unreadable in any copy of the files."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.errors import Misconfigured
from agent.lifecycle import properties
from agent.lifecycle.properties import seal_stored, set_property
from agent.state.database import Database, backup_of
from agent.state.schema import MIGRATIONS
from proto.names import SERVER, AppId
from tests.state.conftest import BLOG, SHOP, Open

BUILD_ARGS = "builder-dockerfile.build-args"
CANARY = "canary-7b1f0c"
PLAIN_MIGRATIONS = 2
"""The schema in which build arguments were stored in plain."""


def files_with(folder: Path, text: str) -> list[str]:
    """Return the files in `folder` whose bytes hold `text`."""
    return [path.name for path in sorted(folder.iterdir()) if path.is_file() and text.encode() in path.read_bytes()]


async def put(database: Database, app: AppId, name: str, value: str | None) -> None:
    async with database.transaction() as tx:
        await set_property(tx, app=app, name=name, value=value)


async def test_the_apps_own_value_comes_before_the_servers(database: Database) -> None:
    read = database.read.properties
    for name in ("proxy.balance", BUILD_ARGS):
        await put(database, SERVER, name, "server's")
        assert (await read.effective(BLOG, name), await read.get(BLOG, name)) == ("server's", None)
        await put(database, BLOG, name, "own")
        assert (await read.effective(BLOG, name), await read.get(BLOG, name)) == ("own", "own")
        assert await read.effective(SHOP, name) == "server's"
        await put(database, BLOG, name, None)
        assert await read.effective(BLOG, name) == "server's"


async def test_a_secret_property_is_in_no_copy_of_the_files(database: Database, path: Path) -> None:
    await put(database, BLOG, BUILD_ARGS, f'{{"TOKEN":"{CANARY}"}}')
    await database.back_up()
    assert await database.read.properties.get(BLOG, BUILD_ARGS) == f'{{"TOKEN":"{CANARY}"}}'
    assert files_with(path.parent, CANARY) == []
    assert files_with(path.parent, BUILD_ARGS) != [], "the row itself is there"
    assert CANARY not in str([event.body for event in await database.read.outbox.events()])


async def test_a_secret_property_comes_by_its_name_alone(database: Database) -> None:
    await put(database, BLOG, BUILD_ARGS, "{}")
    await put(database, BLOG, "proxy.balance", "leastconn")
    assert await database.read.properties.of_app(BLOG) == {"proxy.balance": "leastconn"}
    assert await database.read.properties.all() == {BLOG: {"proxy.balance": "leastconn"}}


@pytest.mark.parametrize("change", ["app = 'ashop'", "name = 'git.deploy-branch'"])
async def test_a_sealed_property_opens_in_its_own_place_only(open_database: Open, path: Path, change: str) -> None:
    async with open_database() as database:
        await put(database, BLOG, BUILD_ARGS, "{}")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"UPDATE properties SET {change}")
        [(app, name)] = other.execute("SELECT app, name FROM properties").fetchall()
    async with open_database() as database:
        with pytest.raises(Misconfigured) as refused:
            await database.read.properties.get(app, name)
    assert refused.value.code == "key.wrong"


async def left_by_an_older_one(open_database: Open, path: Path, tmp_path: Path) -> None:
    """Make a database as an older Pushboat did: build arguments in plain, some of them changed and some unset."""
    folder = tmp_path / "older"
    folder.mkdir()
    for script in sorted(MIGRATIONS.iterdir())[:PLAIN_MIGRATIONS]:
        shutil.copy(script, folder)
    async with open_database(migrations=folder) as database:
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.execute("PRAGMA secure_delete = OFF")  # Debian's SQLite is compiled with it, others are not.
        rows = [(f"a{number}", f'{{"TOKEN":"{CANARY}-{number}"}}') for number in range(200)]
        older.executemany(f"INSERT INTO properties VALUES (?, '{BUILD_ARGS}', ?)", rows)
        older.execute("INSERT INTO properties VALUES ('ablog', 'proxy.balance', 'leastconn')")
        older.execute("DELETE FROM properties WHERE app > 'a15' AND app < 'a50'")
    async with open_database(migrations=folder) as database:
        await database.back_up()
    assert files_with(path.parent, CANARY) == [path.name, backup_of(path).name]


async def test_what_an_older_one_stored_in_plain_is_sealed_and_leaves_no_trace(
    open_database: Open, path: Path, tmp_path: Path
) -> None:
    await left_by_an_older_one(open_database, path, tmp_path)
    async with open_database() as database:
        await seal_stored(database)
        assert files_with(path.parent, CANARY) == [], "while it runs, the log included"
        read = database.read.properties
        assert await read.get(AppId("a7"), BUILD_ARGS) == f'{{"TOKEN":"{CANARY}-7"}}'
        assert await read.get(BLOG, "proxy.balance") == "leastconn"
        async with database.transaction() as tx:
            assert await tx.properties.seal([BUILD_ARGS]) == 0
        assert await database.read.server.get("files.unclean") is None
    assert files_with(path.parent, CANARY) == []


async def test_a_start_that_dies_between_sealing_and_cleaning_is_made_good_by_the_next(
    open_database: Open, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_by_an_older_one(open_database, path, tmp_path)

    async def die(database: Database) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Database, "scrub", die)
        with pytest.raises(KeyboardInterrupt):
            async with open_database() as database:
                await seal_stored(database)
    async with open_database() as database:
        await seal_stored(database)
        assert files_with(path.parent, CANARY) == []
        assert await database.read.properties.get(AppId("a7"), BUILD_ARGS) == f'{{"TOKEN":"{CANARY}-7"}}'


async def test_a_program_that_reads_the_file_delays_the_cleaning_to_the_next_start(
    open_database: Open, path: Path, tmp_path: Path
) -> None:
    await left_by_an_older_one(open_database, path, tmp_path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM properties").fetchall()
        async with open_database() as database:
            async with database.transaction() as tx:
                await tx.properties._sql.run("PRAGMA busy_timeout = 1")
            await seal_stored(database)
            assert await database.read.server.get("files.unclean") == "true"
            assert await database.read.properties.get(AppId("a7"), BUILD_ARGS) == f'{{"TOKEN":"{CANARY}-7"}}'
    async with open_database() as database:
        await seal_stored(database)
    assert files_with(path.parent, CANARY) == []


def test_build_arguments_build_secrets_and_logins_are_secret() -> None:
    secret = {name for name, known in properties.PROPERTIES.items() if known.is_secret}
    assert secret == {BUILD_ARGS, properties.BUILD_SECRETS, properties.REGISTRY_LOGINS}
    assert all(properties.PROPERTIES[name].is_hidden for name in secret)


async def test_process_types_that_are_to_be_stopped_first_stay_so(
    open_database: Open, path: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    (since,) = MIGRATIONS.glob("*_strategies.sql")
    for script in sorted(MIGRATIONS.glob("*.sql")):
        if script.name < since.name:
            shutil.copy(script, older)
    async with open_database(migrations=older):
        pass
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        rows = [(BLOG, "worker,clock,worker"), (SHOP, "_all_"), (SERVER, "cron")]
        file.executemany("INSERT INTO properties (app, name, value) VALUES (?, 'ps.stop-first', ?)", rows)
    async with open_database() as database:
        assert await database.read.properties.all() == {
            BLOG: {"ps.strategy.clock": "stop-first", "ps.strategy.worker": "stop-first"},
            SHOP: {"ps.strategy": "stop-first"},
            SERVER: {"ps.strategy.cron": "stop-first"},
        }
