"""Arrivals: pushes that git is being given, with what they ask of it.

Noted before git gets a byte of a push, and forgotten with the commit that records its deploy. One that is still there
when the agent starts broke off, and git may have moved refs for it that nobody knows of.
"""

from __future__ import annotations

from agent.state.sql import Sql
from proto.names import AppId


class Arrivals:
    """Rows of ``arrivals``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, app: AppId, *, updates: str) -> None:
        """Note the push that the app is about to get; the one before it has ended."""
        await self._sql.run(
            "INSERT INTO arrivals (app, updates) VALUES (?, ?)"
            " ON CONFLICT (app) DO UPDATE SET updates = excluded.updates",
            (app, updates),
        )

    async def of(self, app: AppId) -> str | None:
        """Return what the app's push under way asks for, or `None`."""
        rows = await self._sql.run("SELECT updates FROM arrivals WHERE app = ?", (app,))
        return str(rows.rows[0][0]) if rows.rows else None

    async def all(self) -> dict[AppId, str]:
        """Return what pushes under way ask for, by app."""
        rows = await self._sql.run("SELECT app, updates FROM arrivals ORDER BY app")
        return {AppId(str(app)): str(updates) for app, updates in rows.rows}

    async def forget(self, app: AppId) -> None:
        """Note that the app's push is recorded, or was undone. Repeating is harmless."""
        await self._sql.run("DELETE FROM arrivals WHERE app = ?", (app,))
