"""Pushes of releases' images to a registry.

due -> pushed | failed | dropped (its deploy ended first)
"""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.state.sql import Sql
from proto.names import AppId, DeployId

Status = Literal["due", "pushed", "failed", "dropped"]

_COLUMNS = "deploy, app, release, image, names, is_awaited, status, reason, ended_at"


class Push(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``pushes``."""

    deploy: DeployId
    app: AppId
    release: int
    image: str
    """``sha256:…``."""
    names: tuple[str, ...]
    """What it is to be called there, the numbered name first; none: nobody said where."""
    is_awaited: bool
    """Whether the deploy waits for it, and fails with it."""
    status: Status
    reason: str | None
    ended_at: float | None


class Pushes:
    """Rows of ``pushes``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(
        self, deploy: DeployId, *, app: AppId, release: int, image: str, names: tuple[str, ...], is_awaited: bool
    ) -> None:
        """Intend to push an image."""
        await self._sql.run(
            "INSERT INTO pushes (deploy, app, release, image, names, is_awaited, status)"
            " VALUES (?, ?, ?, ?, ?, ?, 'due')",
            (deploy, app, release, image, msgspec.json.encode(names).decode(), is_awaited),
        )

    async def get(self, deploy: DeployId) -> Push | None:
        """Return the push of a deploy, or `None` if its image goes nowhere."""
        return await self._one("WHERE deploy = ?", deploy)

    async def newest(self, app: AppId) -> Push | None:
        """Return the push of the app's newest release that has one, or `None`."""
        return await self._one("WHERE app = ? ORDER BY release DESC LIMIT 1", app)

    async def move(self, deploy: DeployId, *, new: Status, reason: str | None = None, at: float) -> bool:
        """Note how a push ended. Return false, changing nothing, if that was noted before."""
        rows = await self._sql.run(
            "UPDATE pushes SET status = ?, reason = ?, ended_at = ? WHERE deploy = ? AND status = 'due'",
            (new, reason, at, deploy),
        )
        return rows.changed == 1

    async def _one(self, where: str, value: str) -> Push | None:
        row = (await self._sql.run(f"SELECT {_COLUMNS} FROM pushes {where}", (value,))).first
        if row is None:
            return None
        names = msgspec.json.decode(str(row[4]))
        return msgspec.convert((*row[:4], names, *row[5:]), Push, strict=False)
