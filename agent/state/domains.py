"""Domains: which app answers to which host name."""

from __future__ import annotations

from agent.state.sql import Sql
from proto.names import AppId


class Domains:
    """Rows of ``domains`` and ``global_domains``. Names are in the form that ``proto.names.domain_name`` returns."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def of_app(self, app: AppId) -> list[str]:
        """Return the app's own domains in the order they were added (not those under global ones)."""
        rows = await self._sql.run("SELECT domain FROM domains WHERE app = ? ORDER BY added_at, domain", (app,))
        return [str(domain) for (domain,) in rows.rows]

    async def all(self) -> dict[AppId, list[str]]:
        """Return every app's own domains."""
        rows = await self._sql.run("SELECT app, domain FROM domains ORDER BY app, added_at, domain")
        found: dict[AppId, list[str]] = {}
        for app, domain in rows.rows:
            found.setdefault(AppId(str(app)), []).append(str(domain))
        return found

    async def owner(self, domain: str) -> AppId | None:
        """Return the app that has just this domain as its own, or `None`."""
        rows = await self._sql.run("SELECT app FROM domains WHERE domain = ?", (domain,))
        return AppId(str(rows.rows[0][0])) if rows.rows else None

    async def add(self, app: AppId, domain: str, *, at: float) -> None:
        """Give the app a domain. Fails (a bug) if it has an owner: look first, in the same transaction."""
        await self._sql.run("INSERT INTO domains (domain, app, added_at) VALUES (?, ?, ?)", (domain, app, at))

    async def remove(self, app: AppId, domain: str) -> bool:
        """Take the domain from the app. Return false if it was not the app's."""
        rows = await self._sql.run("DELETE FROM domains WHERE domain = ? AND app = ?", (domain, app))
        return rows.changed == 1

    async def global_ones(self) -> list[str]:
        """Return the domains under which every app gets a name, in the order they were added."""
        rows = await self._sql.run("SELECT domain FROM global_domains ORDER BY added_at, domain")
        return [str(domain) for (domain,) in rows.rows]

    async def add_global(self, domain: str, *, at: float) -> bool:
        """Add a global domain. Return false if it is one already."""
        rows = await self._sql.run(
            "INSERT INTO global_domains (domain, added_at) VALUES (?, ?) ON CONFLICT DO NOTHING", (domain, at)
        )
        return rows.changed == 1

    async def remove_global(self, domain: str) -> bool:
        """Remove a global domain. Return false if it was none."""
        rows = await self._sql.run("DELETE FROM global_domains WHERE domain = ?", (domain,))
        return rows.changed == 1
