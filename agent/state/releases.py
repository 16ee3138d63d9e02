"""Releases: immutable, numbered results of deploys."""

from __future__ import annotations

import msgspec

from agent.state import plans
from agent.state.plans import Plan
from agent.state.sql import Sql
from proto.names import AppId, DeployId

_COLUMNS = "app, version, deploy, image, plan, commit_id, by, why, created_at, live_at, is_image_kept"


class Release(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``releases``. Its config is in ``configs`` under its version."""

    app: AppId
    version: int
    deploy: DeployId
    image: str
    """``sha256:…``."""
    plan: Plan
    commit_id: str | None
    by: str
    why: str
    created_at: float
    live_at: float | None
    """When it went live first; `None`: it never did."""
    is_image_kept: bool
    """Whether a rollback to it is still possible."""


class Releases:
    """Rows of ``releases``. Nothing but ``live_at`` and ``is_image_kept`` ever changes."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, release: Release) -> None:
        """Add a release."""
        await self._sql.run(
            f"INSERT INTO releases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                release.app,
                release.version,
                release.deploy,
                release.image,
                plans.encode(release.plan),
                release.commit_id,
                release.by,
                release.why,
                release.created_at,
                release.live_at,
                release.is_image_kept,
            ),
        )

    async def get(self, app: AppId, version: int) -> Release | None:
        """Return one release, or `None`."""
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM releases WHERE app = ? AND version = ?", (app, version))
        return _release(rows.rows[0]) if rows.rows else None

    async def of_app(self, app: AppId, *, limit: int = 1000) -> list[Release]:
        """Return the app's releases, newest first."""
        rows = await self._sql.run(
            f"SELECT {_COLUMNS} FROM releases WHERE app = ? ORDER BY version DESC LIMIT ?", (app, limit)
        )
        return [_release(row) for row in rows.rows]

    async def need(self, image: str) -> bool:
        """Return whether a rollback to a release of any app may need this image."""
        rows = await self._sql.run("SELECT 1 FROM releases WHERE image = ? AND is_image_kept LIMIT 1", (image,))
        return bool(rows.rows)

    async def set_live(self, app: AppId, version: int, *, at: float) -> None:
        """Note that the release serves since `at`. A later call changes nothing."""
        await self._sql.run(
            "UPDATE releases SET live_at = ? WHERE app = ? AND version = ? AND live_at IS NULL", (at, app, version)
        )

    async def forget_image(self, app: AppId, version: int) -> None:
        """Note that the image was collected."""
        await self._sql.run("UPDATE releases SET is_image_kept = 0 WHERE app = ? AND version = ?", (app, version))


def _release(row: tuple[object, ...]) -> Release:
    plan = row[4]
    assert isinstance(plan, bytes)
    return msgspec.convert((*row[:4], plans.decode(plan), *row[5:]), Release, strict=False)
