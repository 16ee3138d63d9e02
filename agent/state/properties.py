"""What users set with ``<noun>:set``. The app ``SERVER`` is the server.

Most values are plain text. Secret ones (build arguments) are sealed with the key file, as config is, each bound to its
app and its name. Those come by name alone, so that no list or report has one by accident.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from agent.state.sql import Row, Sql
from agent.vault import Vault
from proto.names import SERVER, AppId


class Layers(msgspec.Struct, frozen=True):
    """What is set for an app, and beneath it what is set for the server. Values by name, secret ones left out."""

    own: dict[str, str]
    server: dict[str, str]

    def effective(self, name: str) -> str | None:
        """Return the app's own value, else the server's, else `None`."""
        return self.own.get(name, self.server.get(name))


class Properties:
    """Rows of ``properties``."""

    def __init__(self, sql: Sql, vault: Vault) -> None:
        self._sql = sql
        self._vault = vault

    async def get(self, app: AppId, name: str) -> str | None:
        """Return the property as set for just this app (or the server), or `None`."""
        rows = await self._sql.run(
            "SELECT app, name, value, sealed FROM properties WHERE app = ? AND name = ?", (app, name)
        )
        return self._opened(rows.first)

    async def effective(self, app: AppId, name: str) -> str | None:
        """Return the app's own value, else the server's, else `None`."""
        rows = await self._sql.run(
            "SELECT app, name, value, sealed FROM properties WHERE app IN (?, '') AND name = ?"
            " ORDER BY app DESC LIMIT 1",
            (app, name),
        )
        return self._opened(rows.first)

    async def of_app(self, app: AppId) -> dict[str, str]:
        """Return all properties set for just this app (or the server), but secret ones."""
        rows = await self._sql.run(
            "SELECT name, value FROM properties WHERE app = ? AND sealed IS NULL ORDER BY name", (app,)
        )
        return {str(name): str(value) for name, value in rows.rows}

    async def layers(self, app: AppId) -> Layers:
        """Return what `of_app` tells of the app and of the server, of one moment; of the server alone for `SERVER`."""
        rows = await self._sql.run(
            "SELECT app, name, value FROM properties WHERE app IN (?, '') AND sealed IS NULL ORDER BY name", (app,)
        )
        layers = Layers({}, {})
        for owner, name, value in rows.rows:
            (layers.server if owner == SERVER else layers.own)[str(name)] = str(value)
        return layers

    async def all(self) -> dict[AppId, dict[str, str]]:
        """Return every property of every app, and of the server, but secret ones."""
        rows = await self._sql.run("SELECT app, name, value FROM properties WHERE sealed IS NULL")
        found: dict[AppId, dict[str, str]] = {}
        for app, name, value in rows.rows:
            found.setdefault(AppId(str(app)), {})[str(name)] = str(value)
        return found

    async def set(self, app: AppId, name: str, value: str, *, is_secret: bool = False) -> None:
        """Set a property; a secret one is stored sealed."""
        sealed = self._vault.seal(value.encode(), context=_context(app, name)) if is_secret else None
        await self._sql.run(
            "INSERT INTO properties (app, name, value, sealed) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (app, name) DO UPDATE SET value = excluded.value, sealed = excluded.sealed",
            (app, name, "" if is_secret else value, sealed),
        )

    async def unset(self, app: AppId, name: str) -> None:
        """Unset a property. Repeating is harmless."""
        await self._sql.run("DELETE FROM properties WHERE app = ? AND name = ?", (app, name))

    async def seal(self, names: Collection[str]) -> int:
        """Seal what is stored in plain under one of `names`; return how many values that were."""
        marks = ", ".join("?" * len(names))
        plain = await self._sql.run(
            f"SELECT app, name, value FROM properties WHERE sealed IS NULL AND name IN ({marks})", tuple(names)
        )
        for app, name, value in plain.rows:
            await self.set(AppId(app), name, value, is_secret=True)
        return len(plain.rows)

    async def unopened(self) -> tuple[int, list[str]]:
        """Return how many secret properties there are, and where those belong that do not open with the key at hand."""
        rows = await self._sql.run("SELECT app, name, sealed FROM properties WHERE sealed IS NOT NULL")
        stored = [(_context(app, name), sealed) for app, name, sealed in rows.rows]
        return len(stored), self._vault.unopened(stored)

    def _opened(self, row: Row | None) -> str | None:
        if row is None:
            return None
        app, name, value, sealed = row
        return str(value) if sealed is None else self._vault.unseal(sealed, context=_context(app, name)).decode()


def _context(app: str, name: str) -> str:
    return f"app:{app}/property:{name}"
