"""Pulls: which names of images the engine has because a deploy got them.

Noted before a pull begins and forgotten once the name is gone, so that a name which an agent that died has left behind
can be told from one that somebody else gave.
"""

from __future__ import annotations

from agent.state.sql import Sql
from proto.names import AppId, DeployId


class Pulls:
    """Rows of ``pulls``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, deploy: DeployId, *, app: AppId, reference: str) -> None:
        """Note that the engine has no image called `reference`, which `deploy` is about to get. May be repeated."""
        await self._sql.run(
            "INSERT INTO pulls (deploy, app, reference) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (deploy, app, reference),
        )

    async def is_noted(self, deploy: DeployId) -> bool:
        """Tell whether what the engine has by the name that `deploy` wants may have come by that deploy alone."""
        rows = await self._sql.run("SELECT 1 FROM pulls WHERE deploy = ?", (deploy,))
        return bool(rows.rows)

    async def of_app(self, app: AppId) -> dict[DeployId, str]:
        """Return the names that deploys of the app have to take away again."""
        rows = await self._sql.run("SELECT deploy, reference FROM pulls WHERE app = ? ORDER BY deploy", (app,))
        return {DeployId(str(deploy)): str(reference) for deploy, reference in rows.rows}

    async def forget(self, deploy: DeployId) -> None:
        """Note that the name is gone, or was never there. Repeating is harmless."""
        await self._sql.run("DELETE FROM pulls WHERE deploy = ?", (deploy,))
