"""Brings a database file to the shape that this version knows: pragmas, a look for damage, numbered migrations.

``migrations/NNNN_what.sql`` run in order, once, forward only, each in one transaction with the number that says so
(``PRAGMA user_version``). So a crash leaves the schema before or after a migration, never inside.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from agent.errors import Misconfigured
from agent.state.sql import Sql, StorageBroken

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

BUSY_SECONDS = 5
"""How long SQLite waits for another program's lock (a person with ``sqlite3``, a backup) before it refuses."""

_EVERYWHERE = f"""
PRAGMA busy_timeout = {BUSY_SECONDS * 1000};
PRAGMA foreign_keys = ON;
PRAGMA trusted_schema = OFF;
PRAGMA temp_store = MEMORY;
"""

# What is deleted is overwritten in the file, whatever SQLite was compiled to do: no copy holds more than the tables do.
_WRITER = """
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864;
PRAGMA secure_delete = ON;
"""

# SQLite 3.7.0 to 3.51.2 can lose commits when two connections of one WAL file checkpoint (the "WAL-reset bug",
# https://www.sqlite.org/wal.html#walresetbug; Debian 12 has 3.40.1). Readers never do.
_READER = """
PRAGMA query_only = ON;
PRAGMA wal_autocheckpoint = 0;
"""


async def prepare_writer(sql: Sql) -> None:
    """Set up the one connection that writes. Acknowledged commits survive a power cut (``synchronous=FULL``).

    Raises:
        Misconfigured: ``database.no-wal``, the file system cannot do what SQLite needs.
    """
    await sql.script(_EVERYWHERE + _WRITER)
    mode = await sql.run("PRAGMA journal_mode = WAL")
    if mode.first != ("wal",):
        raise Misconfigured(
            "database.no-wal",
            "The file system with Pushboat's data has no shared memory, which its database needs.",
            "Move the data folder to a local disk (https://www.sqlite.org/wal.html).",
        )


async def prepare_reader(sql: Sql) -> None:
    """Set up a connection that cannot write."""
    await sql.script(_EVERYWHERE + _READER)


async def prepare_copier(sql: Sql) -> None:
    """Set up a connection that copies the database to another file, and does not touch this one."""
    await sql.script(_EVERYWHERE + "PRAGMA wal_autocheckpoint = 0;")


async def check(sql: Sql) -> None:
    """Look through the whole file for damage. Takes as long as reading it.

    Raises:
        StorageBroken: ``database.damaged``.
    """
    found = await sql.run("PRAGMA quick_check(1)")
    if found.first != ("ok",):
        raise StorageBroken("database.damaged", f"Pushboat's database is damaged ({found.first}).")


async def migrate(sql: Sql, *, path: Path, folder: Path = MIGRATIONS) -> None:
    """Run the migrations in `folder` that the file at `path` has not seen. Repeating is harmless.

    Raises:
        Misconfigured: ``database.newer``, a newer Pushboat has changed the schema.
    """
    scripts = _scripts(folder)
    version = await version_of(sql)
    if version > len(scripts):
        raise Misconfigured(
            "database.newer",
            f"The database {path} has schema version {version}; this Pushboat knows versions up to {len(scripts)}.",
            "Install the newer Pushboat again. There is no way back to an older schema.",
        )
    # Rebuilding a table that others refer to needs foreign keys off, which is impossible inside a transaction
    # (https://www.sqlite.org/lang_altertable.html, "Making Other Kinds Of Table Schema Changes").
    await sql.run("PRAGMA foreign_keys = OFF")
    for number in range(version + 1, len(scripts) + 1):
        name, text = scripts[number - 1]
        await _apply(sql, number=number, name=name, text=text)
    await sql.run("PRAGMA foreign_keys = ON")


def newest_version() -> int:
    """Return the schema version that this Pushboat brings a database to."""
    return len(_scripts(MIGRATIONS))


async def _apply(sql: Sql, *, number: int, name: str, text: str) -> None:
    try:
        await sql.script(f"BEGIN IMMEDIATE;\n{text}")
        broken = await sql.run("PRAGMA foreign_key_check")
        if broken.rows:
            raise RuntimeError(f"{name} leaves rows that refer to nothing: {broken.rows[:3]}")
        await sql.run(f"PRAGMA user_version = {number}")
        await sql.run("COMMIT")
    except BaseException:
        await sql.roll_back()
        raise
    log.info("database.migrated", version=number, migration=name)


async def version_of(sql: Sql) -> int:
    """Return the number of the last migration that a database has seen; 0 for none."""
    found = await sql.run("PRAGMA user_version")
    assert found.first is not None
    return int(found.first[0])


def _scripts(folder: Path) -> list[tuple[str, str]]:
    scripts = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    numbers = [int(script.name[:4]) for script in scripts]
    if numbers != list(range(1, len(scripts) + 1)):
        raise RuntimeError(f"migrations must be numbered 0001, 0002, … without gaps or doubles, not {numbers}")
    return [(script.stem, script.read_text()) for script in scripts]
