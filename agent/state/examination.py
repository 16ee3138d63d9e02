"""What is wrong with a stored database: damage to the file, rows that contradict each other, values that do not open.

Reads all of it and changes nothing, so that it may be asked beside a running agent.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.state.schema import newest_version, prepare_reader, version_of
from agent.state.sql import Sql, ThreadSql
from agent.state.tables import Tables
from agent.vault import Vault

MAX_FINDINGS = 20
"""Of each kind; a damaged file has thousands, and the first ones tell enough."""

_CONTRADICTIONS = (
    (
        "app {} has a live release that is not stored",
        "SELECT name FROM apps WHERE destroyed_at IS NULL AND live_release IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM releases WHERE app = apps.id AND version = apps.live_release)",
    ),
    (
        "app {} would give a release a number that one has",
        "SELECT name FROM apps WHERE next_release <= (SELECT max(version) FROM releases WHERE app = apps.id)",
    ),
    (
        "a release of app {} has no config of its own",
        "SELECT DISTINCT name FROM apps JOIN releases ON releases.app = apps.id WHERE destroyed_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM configs WHERE app = apps.id AND release = releases.version)",
    ),
    (
        "app {} has replicas of a release that is not stored",
        "SELECT DISTINCT name FROM apps JOIN replicas ON replicas.app = apps.id WHERE NOT EXISTS"
        " (SELECT 1 FROM releases WHERE app = apps.id AND version = replicas.release)",
    ),
    (
        "app {} has an ended deploy without an outcome, or one with an outcome that goes on",
        "SELECT DISTINCT name FROM apps JOIN deploys ON deploys.app = apps.id"
        " WHERE (ended_at IS NULL) = (status IN ('live', 'failed', 'cancelled', 'superseded'))",
    ),
    (
        "handler {} is owed an event that is not stored",
        "SELECT DISTINCT handler FROM deliveries WHERE event_id NOT IN (SELECT id FROM events)",
    ),
)


class Examined:
    """An open database, to be asked what is wrong with it."""

    def __init__(self, sql: Sql, vault: Vault) -> None:
        self._sql = sql
        self.tables = Tables(sql, vault)
        """All that is stored, for whoever holds it against something else."""

    async def is_of_this_version(self) -> bool:
        """Tell whether the tables are those that this Pushboat knows; it can say little of others."""
        return await version_of(self._sql) == newest_version()

    async def damage(self) -> list[str]:
        """Return what is wrong with the file and the references in it. Takes as long as reading it."""
        found = await self._sql.run(f"PRAGMA integrity_check({MAX_FINDINGS})")
        wrong = [str(row[0]) for row in found.rows if row[0] != "ok"]
        dangling = await self._sql.run("PRAGMA foreign_key_check")
        # A row is: table, rowid (none without one), the table that it refers to, which of its references.
        wrong += [f"a row of {row[0]} refers to none of {row[2]}" for row in dangling.rows[:MAX_FINDINGS]]
        return wrong

    async def contradictions(self) -> list[str]:
        """Return which rows contradict each other."""
        return [
            sentence.format(row[0])
            for sentence, query in _CONTRADICTIONS
            for row in (await self._sql.run(f"{query} LIMIT {MAX_FINDINGS}")).rows
        ]

    async def sealed(self) -> tuple[int, list[str]]:
        """Return how many sealed values there are, and where those belong that do not open with the key."""
        tables = (self.tables.configs, self.tables.properties, self.tables.logins, self.tables.deploy_keys)
        found = [await table.unopened() for table in tables]
        return sum(count for count, _ in found), [place for _, places in found for place in places]


@contextlib.asynccontextmanager
async def examined(path: Path, vault: Vault) -> AsyncIterator[Examined]:
    """Open the database at `path`, which has to exist, for reading alone.

    Raises:
        StorageBroken: it is no database, or cannot be read.
        Unavailable: another program holds it.
    """
    sql = await ThreadSql.open(path)
    try:
        await prepare_reader(sql)
        # One snapshot for all that is asked, whatever an agent writes meanwhile.
        await sql.run("BEGIN")
        yield Examined(sql, vault)
    finally:
        await sql.roll_back()
        await sql.close()
