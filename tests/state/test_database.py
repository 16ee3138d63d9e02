"""Opening, locking, migrating, reading and backing up the file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import Misconfigured, Unavailable
from agent.state import lock
from agent.state.database import Database
from agent.state.schema import MIGRATIONS
from agent.state.sql import InlineSql, ThreadSql
from agent.vault import Vault
from proto.names import AppId, DeployId
from tests.fakes.world import FakeClock
from tests.state.conftest import BLOG, ROUTES, SHOP, Open, created


async def fill(database: Database, *names: str) -> None:
    async with database.transaction() as tx:
        for name in names:
            await tx.emit(created(name))


async def test_what_was_committed_is_there_after_a_restart(open_database: Open) -> None:
    async with open_database() as database:
        await fill(database, "one")
    async with open_database() as database:
        assert len(await database.read.outbox.events()) == 1


async def test_the_files_are_the_owners_alone(open_database: Open, path: Path) -> None:
    async with open_database() as database:
        await fill(database, "one")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("state.db", "state.db-wal", "state.db-shm", "state.db.lock"), 0o600)


async def test_the_writer_syncs_and_readers_neither_write_nor_checkpoint(open_database: Open, path: Path) -> None:
    opened = []

    async def remember(path: Path) -> object:
        opened.append(await InlineSql.open(path))
        return opened[-1]

    async with open_database(opener=remember) as database:
        async with database.snapshot():
            writer, *readers = opened
        assert len(readers) == 2
        for sql, pragma, value in [
            (writer, "journal_mode", "wal"),
            (writer, "synchronous", 2),
            (writer, "foreign_keys", 1),
            (writer, "secure_delete", 1),
            (writer, "wal_autocheckpoint", 1000),
            *[(reader, "query_only", 1) for reader in readers],
            *[(reader, "wal_autocheckpoint", 0) for reader in readers],
        ]:
            assert (await sql.run(f"PRAGMA {pragma}")).first == (value,), pragma
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await database.read.outbox.done([("greeter.greet", BLOG, 1)])


async def test_every_table_is_strict(database: Database, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file:
        tables = file.execute("SELECT name, strict FROM pragma_table_list WHERE name NOT LIKE 'sqlite%'").fetchall()
    assert len(tables) > 10
    assert [name for name, is_strict in tables if not is_strict] == []


async def test_a_read_after_a_commit_sees_it(database: Database) -> None:
    for number in range(1, 200):
        await fill(database, str(number))
        assert len(await database.read.outbox.events(limit=1_000)) == number


async def test_a_snapshot_stays_what_it_was_while_others_write(database: Database) -> None:
    await fill(database, "one")
    async with database.snapshot() as before:
        assert len(await before.outbox.events()) == 1
        await fill(database, "two")
        async with database.snapshot() as after:
            assert len(await after.outbox.events()) == 2
        assert len(await before.outbox.events()) == 1
    async with database.snapshot() as now:
        assert len(await now.outbox.events()) == 2


async def test_more_snapshots_than_connections_take_turns(database: Database) -> None:
    await fill(database, "one")

    async def look() -> int:
        async with database.snapshot() as tables:
            await asyncio.sleep(0)
            return len(await tables.outbox.events())

    assert await asyncio.gather(*(look() for _ in range(20))) == [1] * 20


async def test_a_cancelled_snapshot_gives_its_connection_back(database: Database) -> None:
    async def linger() -> None:
        async with database.snapshot() as tables:
            await tables.outbox.events()
            await asyncio.Event().wait()

    for steps in range(12):
        task = asyncio.create_task(linger())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
    await fill(database, "one")
    async with database.snapshot() as tables:
        assert len(await tables.outbox.events()) == 1


async def test_a_second_process_waits_and_is_then_told_who_holds_the_data(
    open_database: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT", 0.2)
    async with open_database():
        with pytest.raises(Unavailable) as refused:
            async with open_database():
                raise AssertionError("two processes have the database open")
    assert refused.value.code == "database.in-use"
    assert "pid" in refused.value.message


async def test_the_lock_goes_with_the_process_that_held_it(open_database: Open, path: Path) -> None:
    program = (
        "import fcntl, os, sys\n"
        "held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(held, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, f"{path}.lock"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        await holder.stdout.readline()
        opening = asyncio.create_task(_open_and_close(open_database))
        await asyncio.sleep(0)
        assert not opening.done()
    finally:
        holder.kill()
        await holder.wait()
    await opening


async def _open_and_close(open_database: Open) -> None:
    async with open_database():
        pass


async def test_a_newer_schema_is_refused_by_its_number(open_database: Open, path: Path) -> None:
    async with open_database():
        pass
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 900")
    with pytest.raises(Misconfigured, match="900") as refused:
        await _open_and_close(open_database)
    assert refused.value.code == "database.newer"


def spoil(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "not a database":
        data[:100] = b"x" * 100
    else:
        data[4096 * 5 : 4096 * 9] = bytes(4096 * 4)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["not a database", "a page of zeros"])
async def test_a_damaged_file_is_refused_with_the_command_that_restores_it(
    open_database: Open, path: Path, damage: str
) -> None:
    async with open_database() as database:
        await fill(database, *[f"app {number}" * 50 for number in range(50)])
        await database.back_up()
        await fill(database, "after the backup")
    spoil(path, damage)
    await type_what_is_printed(open_database)
    async with open_database() as database:
        assert len(await database.read.outbox.events()) == 50


@pytest.mark.parametrize("beside", [(), ("-wal",), ("-wal", "-shm")], ids=lambda names: "".join(names) or "alone")
async def test_the_command_that_restores_is_right_whatever_lies_beside_the_file(
    tmp_path: Path, clock: FakeClock, vault: Vault, beside: tuple[str, ...]
) -> None:
    path = tmp_path / "a folder 'of' $mine" / "state.db"
    path.parent.mkdir()

    def open_it() -> contextlib.AbstractAsyncContextManager[Database]:
        return Database.open(path, routes=ROUTES, clock=clock, vault=vault)

    async with open_it() as database:
        await fill(database, "one")
    for _ in range(2):  # The second time what the first one set aside is in the way.
        spoil(path, "not a database")
        for name in beside:
            path.with_name(path.name + name).write_bytes(b"left")
        await type_what_is_printed(open_it)
        async with open_it() as database:
            assert await database.read.outbox.events() == []
            await database.back_up()
    kept = {file.name for file in path.with_name("state.db.damaged").iterdir()}
    assert {"state.db", "state.db.~1~"} <= kept, "the first one is overwritten"


async def type_what_is_printed(open_it: Open) -> None:
    """Be refused for damage, and type the command that is said to mend it, as a person would."""
    with pytest.raises(Misconfigured) as refused:
        await _open_and_close(open_it)
    assert refused.value.code == "database.damaged"
    _, _, command = refused.value.hint.partition(": ")
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), command


async def test_a_backup_is_whole_private_and_replaced_at_once(database: Database, path: Path) -> None:
    await fill(database, "one")
    await database.back_up()
    await fill(database, "two")
    backup = await database.back_up()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT count(*) FROM events").fetchone() == (2,)
        assert copy.execute("PRAGMA user_version").fetchone()[0] > 0
    assert [file.name for file in path.parent.iterdir() if file.name.endswith(".new")] == []


def migrations(tmp_path: Path, *scripts: str) -> Path:
    """Return a folder with these migrations."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for number, script in enumerate(scripts, 1):
        (folder / f"{number:04}_step.sql").write_text(script)
    return folder


async def test_migrations_run_once_in_order(open_database: Open, path: Path, tmp_path: Path) -> None:
    folder = migrations(tmp_path, "CREATE TABLE one (a TEXT) STRICT;", "ALTER TABLE one ADD COLUMN b TEXT;")
    async with open_database(migrations=folder):
        pass
    (folder / "0003_more.sql").write_text("INSERT INTO one VALUES ('x', 'y');")
    for _ in range(2):
        async with open_database(migrations=folder):
            pass
    with contextlib.closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT * FROM one").fetchall() == [("x", "y")]


async def test_deploys_of_before_there_were_tasks_are_all_there_afterwards(
    open_database: Open, path: Path, tmp_path: Path
) -> None:
    names = ("0001_outbox.sql", "0002_apps.sql")
    async with open_database(migrations=migrations(tmp_path, *((MIGRATIONS / name).read_text() for name in names))):
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("INSERT INTO apps (id, name, created_at, created_by) VALUES ('a1', 'blog', 1, 'ada')")
        for number, status in ((3, "live"), (9, "starting")):
            values = (number, f"d{number}", "a1", "push", status, "ada", "push", 1.0)
            file.execute(
                "INSERT INTO deploys (number, id, app, kind, status, by, why, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        file.execute(
            "INSERT INTO releases (app, version, deploy, image, plan, by, why, created_at)"
            " VALUES ('a1', 1, 'd3', 'sha256:0', x'7b7d', 'ada', 'push', 1)"
        )
    async with open_database() as database:
        found = await database.read.deploys.of_app(AppId("a1"))
        assert [(deploy.id, deploy.number, deploy.status) for deploy in found] == [
            ("d9", 9, "starting"),
            ("d3", 3, "live"),
        ]
        async with database.transaction() as tx:
            await tx.deploys.add(DeployId("d10"), app=AppId("a1"), kind="push", by="ada", why="push", at=2.0)
            assert await tx.deploys.move(DeployId("d10"), old=("accepted",), new="releasing")
        newest = await database.read.deploys.newest(AppId("a1"))
        assert newest is not None and (newest.number, newest.status) == (10, "releasing")


async def test_a_migration_that_fails_leaves_nothing_of_itself(open_database: Open, path: Path, tmp_path: Path) -> None:
    folder = migrations(tmp_path, "CREATE TABLE one (a TEXT) STRICT;", "CREATE TABLE two (a TEXT) STRICT; NONSENSE;")
    with pytest.raises(sqlite3.OperationalError):
        async with open_database(migrations=folder):
            raise AssertionError("opened with half a schema")
    with contextlib.closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
        assert file.execute("SELECT name FROM sqlite_schema").fetchall() == [("one",)]


async def test_a_migration_may_rebuild_a_table_and_may_not_leave_loose_ends(
    open_database: Open, path: Path, tmp_path: Path
) -> None:
    folder = migrations(
        tmp_path,
        "CREATE TABLE a (id TEXT PRIMARY KEY) STRICT; CREATE TABLE b (a TEXT REFERENCES a (id)) STRICT;"
        "INSERT INTO a VALUES ('1'); INSERT INTO b VALUES ('1');",
        "CREATE TABLE a2 (id TEXT PRIMARY KEY, x TEXT) STRICT; INSERT INTO a2 SELECT id, '' FROM a;"
        "DROP TABLE a; ALTER TABLE a2 RENAME TO a;",
    )
    async with open_database(migrations=folder):
        pass
    (folder / "0003_loose.sql").write_text("DELETE FROM a;")
    with pytest.raises(RuntimeError, match="0003_loose"):
        async with open_database(migrations=folder):
            raise AssertionError("opened with rows that refer to nothing")


async def test_migrations_without_a_number_between_are_refused(open_database: Open, tmp_path: Path) -> None:
    folder = migrations(tmp_path, "CREATE TABLE one (a TEXT) STRICT;")
    (folder / "0003_gap.sql").write_text("CREATE TABLE three (a TEXT) STRICT;")
    with pytest.raises(RuntimeError, match="without gaps"):
        async with open_database(migrations=folder):
            raise AssertionError("opened")


async def test_another_programs_lock_is_told_in_words(open_database: Open, path: Path) -> None:
    async with open_database() as database:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            async with database.transaction() as tx:
                await tx.outbox._sql.run("PRAGMA busy_timeout = 1")
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as refused:
                await fill(database, "one")
            assert refused.value.code == "database.busy"
            other.execute("ROLLBACK")
        await fill(database, "one")
        assert len(await database.read.outbox.events()) == 1


async def test_a_statement_answers_with_rows_changes_and_the_new_id(path: Path) -> None:
    for opener in (ThreadSql.open, InlineSql.open):
        sql = await opener(path)
        try:
            await sql.script("DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE) STRICT;")
            assert await sql.run("INSERT INTO t (a) VALUES (?)", ("x",)) == ([], 1, 1)
            assert await sql.run("INSERT INTO t (a) VALUES ('x') ON CONFLICT DO NOTHING") == ([], 0, None)
            assert await sql.run("INSERT INTO t (a) VALUES ('y') RETURNING a") == ([("y",)], 1, 2)
            assert await sql.run("SELECT a FROM t ORDER BY a") == ([("x",), ("y",)], 0, None)
            assert await sql.run_many("DELETE FROM t WHERE a = ?", [("x",), ("y",), ("z",)]) == 2
            assert (await sql.run("SELECT a FROM t")).first is None
        finally:
            await sql.close()


async def test_events_are_found_by_app_and_place_and_trimmed_by_age(database: Database) -> None:
    async with database.transaction() as tx:
        for number in range(6):
            await tx.emit(created(str(number), app=(BLOG, SHOP)[number % 2]))
    outbox = database.read.outbox

    async def ids(**choice: object) -> list[int]:
        return [event.id for event in await outbox.events(**choice)]  # type: ignore[arg-type]

    assert await ids() == [1, 2, 3, 4, 5, 6]
    assert await ids(limit=2) == [5, 6]
    assert await ids(after=1, limit=2) == [2, 3]
    assert await ids(before=5, limit=2) == [3, 4]
    assert await ids(app=SHOP) == [2, 4, 6]
    assert (await outbox.event(7)) is None
    stored = await outbox.event(1)
    assert stored is not None
    assert (stored.app, stored.type) == (BLOG, "app.created")

    async with database.transaction() as tx:
        await tx.outbox.done([(handler, BLOG, 3) for handler in ("greeter.greet", "builder.prepare")])
        assert await tx.outbox.trim(before=stored.at) == 0
        assert await tx.outbox.trim(before=stored.at + 1) == 2
    assert await ids() == [2, 4, 5, 6]


async def test_many_snapshots_at_once_each_get_a_connection(tmp_path: Path, clock: FakeClock, vault: Vault) -> None:
    async with Database.open(tmp_path / "state.db", routes={}, clock=clock, vault=vault) as database:

        async def read() -> int:
            async with database.snapshot() as tables:
                await asyncio.sleep(0)
                return len(await tables.apps.all())

        for _ in range(20):
            assert await asyncio.gather(*(read() for _ in range(12))) == [0] * 12
