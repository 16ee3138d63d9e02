"""Deploys: attempts to make a commit, an image or a config change live, each with one outcome."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.state import plans
from agent.state.plans import Plan
from agent.state.sql import Sql
from proto.names import AppId, DeployId

Kind = Literal["push", "rebuild", "image", "config", "restart", "rollback"]
OF_SOURCE: tuple[Kind, ...] = ("push", "rebuild", "image")
"""Those that bring something new, a commit or an image; the others bring what is there already."""

Status = Literal[
    "accepted",
    "building",
    "built",
    "releasing",
    "starting",
    "switching",
    "live",
    "failed",
    "cancelled",
    "superseded",
]

BEFORE_SWITCH: tuple[Status, ...] = ("accepted", "building", "built", "releasing", "starting")
"""While a deploy is in one of these it can be cancelled or superseded."""

_COLUMNS = (
    "id, app, kind, status, commit_id, image, plan, from_release, is_code_only, release, by, why, stage, reason,"
    " created_at, switching_at, ended_at, number"
)


class Deploy(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``deploys``."""

    id: DeployId
    app: AppId
    kind: Kind
    status: Status
    commit_id: str | None
    image: str | None
    """What to get (kind ``image``) while accepted; ``sha256:…`` once built."""
    plan: Plan | None
    from_release: int | None
    is_code_only: bool
    release: int | None
    by: str
    why: str
    stage: str | None
    reason: str | None
    created_at: float
    switching_at: float | None
    ended_at: float | None
    number: int
    """Order of acceptance, over all apps."""

    @property
    def is_over(self) -> bool:
        """Whether it has its outcome."""
        return self.ended_at is not None


class Deploys:
    """Rows of ``deploys``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(
        self,
        deploy: DeployId,
        *,
        app: AppId,
        kind: Kind,
        by: str,
        why: str,
        at: float,
        commit: str | None = None,
        image: str | None = None,
        from_release: int | None = None,
        is_code_only: bool = False,
    ) -> None:
        """Add an accepted deploy."""
        await self._sql.run(
            "INSERT INTO deploys"
            " (id, app, kind, commit_id, image, from_release, is_code_only, by, why, created_at, status)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'accepted')",
            (deploy, app, kind, commit, image, from_release, is_code_only, by, why, at),
        )

    async def get(self, deploy: DeployId) -> Deploy | None:
        """Return the deploy, or `None`."""
        return await self._one("WHERE id = ?", deploy)

    async def newest(self, app: AppId) -> Deploy | None:
        """Return the app's newest deploy, or `None`."""
        return await self._one("WHERE app = ? ORDER BY number DESC LIMIT 1", app)

    async def newest_of_source(self, app: AppId) -> Deploy | None:
        """Return the newest deploy of something new, a commit or an image, or `None`."""
        return await self._one(
            "WHERE app = ? AND kind IN ('push', 'rebuild', 'image') ORDER BY number DESC LIMIT 1", app
        )

    async def switching(self, app: AppId) -> Deploy | None:
        """Return the deploy whose release is being routed, or `None`."""
        return await self._one("WHERE app = ? AND status = 'switching' AND ended_at IS NULL", app)

    async def candidate(self, app: AppId) -> Deploy | None:
        """Return the deploy whose release is to take the place of the live one, or `None`. There is at most one.

        While it is ``releasing`` its tasks run, and none of its replicas should yet.
        """
        return await self._one(
            "WHERE app = ? AND status IN ('releasing', 'starting', 'switching') AND ended_at IS NULL"
            " ORDER BY number DESC LIMIT 1",
            app,
        )

    async def under_way(self, app: AppId | None = None) -> list[Deploy]:
        """Return the deploys without an outcome, of one app or of all, oldest first."""
        where, values = ("AND app = ? ", (app,)) if app is not None else ("", ())
        rows = await self._sql.run(
            f"SELECT {_COLUMNS} FROM deploys WHERE ended_at IS NULL {where}ORDER BY number", values
        )
        return [_deploy(row) for row in rows.rows]

    async def of_app(self, app: AppId, *, limit: int = 20) -> list[Deploy]:
        """Return the app's newest deploys, newest first."""
        rows = await self._sql.run(
            f"SELECT {_COLUMNS} FROM deploys WHERE app = ? ORDER BY number DESC LIMIT ?", (app, limit)
        )
        return [_deploy(row) for row in rows.rows]

    async def starting_with(self, app: AppId, prefix: str) -> list[Deploy]:
        """Return the app's deploys whose id begins with `prefix` (``a-z2-7``), newest first, two at most."""
        rows = await self._sql.run(
            f"SELECT {_COLUMNS} FROM deploys WHERE app = ? AND substr(id, 1, ?) = ? ORDER BY number DESC LIMIT 2",
            (app, len(prefix), prefix),
        )
        return [_deploy(row) for row in rows.rows]

    async def move(self, deploy: DeployId, *, old: tuple[Status, ...], new: Status, at: float | None = None) -> bool:
        """Advance a deploy. Return false, changing nothing, unless it was in one of `old`.

        The check and the change are one statement, which is what makes handlers safe to repeat. `at`: the deploy
        has its outcome now.
        """
        marks = ", ".join("?" * len(old))
        rows = await self._sql.run(
            f"UPDATE deploys SET status = ?, ended_at = ? WHERE id = ? AND status IN ({marks})", (new, at, deploy, *old)
        )
        return rows.changed == 1

    async def set_built(self, deploy: DeployId, *, image: str, plan: Plan) -> None:
        """Note what was built."""
        await self._sql.run("UPDATE deploys SET image = ?, plan = ? WHERE id = ?", (image, plans.encode(plan), deploy))

    async def set_release(self, deploy: DeployId, *, release: int) -> None:
        """Note which release it made."""
        await self._sql.run("UPDATE deploys SET release = ? WHERE id = ?", (release, deploy))

    async def set_switching(self, deploy: DeployId, *, at: float) -> None:
        """Note since when the route is being switched."""
        await self._sql.run("UPDATE deploys SET switching_at = ? WHERE id = ?", (at, deploy))

    async def set_failure(self, deploy: DeployId, *, stage: str, reason: str) -> None:
        """Note where and why it failed."""
        await self._sql.run("UPDATE deploys SET stage = ?, reason = ? WHERE id = ?", (stage, reason, deploy))

    async def _one(self, where: str, *values: str) -> Deploy | None:
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM deploys {where}", values)
        return _deploy(rows.rows[0]) if rows.rows else None


def _deploy(row: tuple[object, ...]) -> Deploy:
    plan = row[6]
    fields = (*row[:6], plans.decode(plan) if isinstance(plan, bytes) else None, *row[7:])
    return msgspec.convert(fields, Deploy, strict=False)
