"""Public keys that may sign in, and the record of what was asked with them."""

from __future__ import annotations

import msgspec

from agent.state.sql import Sql
from proto.names import Fingerprint


class Key(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``keys``."""

    fingerprint: Fingerprint
    name: str
    public: str
    """One line in OpenSSH's format: type, base64, no comment."""
    added_at: float


class Keys:
    """Rows of ``keys``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, key: Key) -> None:
        """Add a key. Fails (a bug) if fingerprint or name is taken: look first, in the same transaction."""
        await self._sql.run(
            "INSERT INTO keys (fingerprint, name, public, added_at) VALUES (?, ?, ?, ?)",
            (key.fingerprint, key.name, key.public, key.added_at),
        )

    async def get(self, fingerprint: str) -> Key | None:
        """Return the key of that fingerprint, or `None`."""
        rows = await self._sql.run(
            "SELECT fingerprint, name, public, added_at FROM keys WHERE fingerprint = ?", (fingerprint,)
        )
        return _key(rows.rows[0]) if rows.rows else None

    async def by_name(self, name: str) -> Key | None:
        """Return the key of that name, or `None`."""
        rows = await self._sql.run("SELECT fingerprint, name, public, added_at FROM keys WHERE name = ?", (name,))
        return _key(rows.rows[0]) if rows.rows else None

    async def all(self) -> list[Key]:
        """Return every key, by name."""
        rows = await self._sql.run("SELECT fingerprint, name, public, added_at FROM keys ORDER BY name")
        return [_key(row) for row in rows.rows]

    async def remove(self, fingerprint: str) -> bool:
        """Remove a key. Return false if there was none."""
        rows = await self._sql.run("DELETE FROM keys WHERE fingerprint = ?", (fingerprint,))
        return rows.changed == 1


class Invocation(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``invocations``."""

    at: float
    user: str
    fingerprint: str
    command: str
    app: str | None
    status: int


class Invocations:
    """Rows of ``invocations``: who asked for what, and how it ended. Names only, never values."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, *, at: float, user: str, fingerprint: str, command: str, app: str | None, status: int) -> None:
        """Record one command."""
        await self._sql.run(
            "INSERT INTO invocations (at, user, fingerprint, command, app, status) VALUES (?, ?, ?, ?, ?, ?)",
            (at, user, fingerprint, command, app, status),
        )

    async def trim(self, *, before: float, limit: int = 1_000) -> int:
        """Forget up to `limit` records older than `before` (Unix seconds), the oldest first; return how many."""
        gone = await self._sql.run(
            """
            DELETE FROM invocations
            WHERE id IN (SELECT id FROM invocations ORDER BY id LIMIT ?)
              AND at < ?
            """,
            (limit, before),
        )
        return gone.changed

    async def newest(self, limit: int) -> list[Invocation]:
        """Return the newest records, the newest first."""
        rows = await self._sql.run(
            "SELECT at, user, fingerprint, command, app, status FROM invocations ORDER BY id DESC LIMIT ?", (limit,)
        )
        return [msgspec.convert(row, Invocation) for row in rows.rows]


def _key(row: tuple[object, ...]) -> Key:
    return msgspec.convert(row, Key)
