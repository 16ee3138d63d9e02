"""Tasks: commands that a deploy runs once, such as migrations.

    intended -> started -> ended
        \\__________________/  it was never started

``started`` is committed before the engine is asked to start the container, and nobody asks twice: so a task that is
``intended`` has surely not run, and one that is ``started`` and not ``ended`` may have.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.state.plans import TaskKind
from agent.state.sql import Sql
from proto.names import AppId, DeployId, ProcessType, TaskId

Status = Literal["intended", "started", "ended"]

_COLUMNS = "id, app, deploy, release, kind, command, status, exit_code, reason, planned_at, started_at, ended_at"


class Task(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``tasks``."""

    id: TaskId
    app: AppId
    deploy: DeployId
    release: int
    kind: TaskKind
    command: str
    status: Status
    exit_code: int | None
    reason: str | None
    """Why it did not succeed, for people; `None`: it did, or has not ended."""
    planned_at: float
    started_at: float | None
    ended_at: float | None

    @property
    def process(self) -> ProcessType:
        """The process type under which its output is logged."""
        return ProcessType(self.kind)


class Tasks:
    """Rows of ``tasks``."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(
        self, task: TaskId, *, app: AppId, deploy: DeployId, release: int, kind: TaskKind, command: str, at: float
    ) -> None:
        """Intend to run a task."""
        await self._sql.run(
            "INSERT INTO tasks (id, app, deploy, release, kind, command, status, planned_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'intended', ?)",
            (task, app, deploy, release, kind, command, at),
        )

    async def get(self, task: TaskId) -> Task | None:
        """Return one task, or `None`."""
        found = await self._some("WHERE id = ?", task)
        return found[0] if found else None

    async def of_deploy(self, deploy: DeployId) -> list[Task]:
        """Return the tasks of a deploy in the order in which they run."""
        return await self._some("WHERE deploy = ? ORDER BY number", deploy)

    async def started(self, app: AppId) -> list[Task]:
        """Return the tasks of an app that may be running."""
        return await self._some("WHERE app = ? AND ended_at IS NULL AND status = 'started' ORDER BY number", app)

    async def unfinished(self) -> list[Task]:
        """Return the tasks of all apps that have not ended."""
        return await self._some("WHERE ended_at IS NULL ORDER BY number")

    async def set_started(self, task: TaskId, *, at: float) -> bool:
        """Note that it is about to be started. False, changing nothing, if it was, or another of its app may run."""
        rows = await self._sql.run(
            "UPDATE tasks SET status = 'started', started_at = ? WHERE id = ? AND status = 'intended' AND NOT EXISTS"
            " (SELECT 1 FROM tasks AS other"
            "  WHERE other.app = tasks.app AND other.ended_at IS NULL AND other.status = 'started')",
            (at, task),
        )
        return rows.changed == 1

    async def set_ended(self, task: TaskId, *, exit_code: int | None, reason: str | None, at: float) -> bool:
        """Note how it ended. Return false, changing nothing, if that was noted before."""
        rows = await self._sql.run(
            "UPDATE tasks SET status = 'ended', exit_code = ?, reason = ?, ended_at = ?"
            " WHERE id = ? AND ended_at IS NULL",
            (exit_code, reason, at, task),
        )
        return rows.changed == 1

    async def _some(self, where: str, *values: str) -> list[Task]:
        rows = await self._sql.run(f"SELECT {_COLUMNS} FROM tasks {where}", values)
        return [msgspec.convert(row, Task, strict=False) for row in rows.rows]
