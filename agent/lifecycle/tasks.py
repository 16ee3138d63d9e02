"""The moves of tasks: planned with their release, started once, ended.

Which tasks a deploy has is decided when its release is made: ``predeploy`` and ``release`` run before its replicas
start, ``setup`` and ``postdeploy`` once it serves. A restart has none of its own: it brings nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agent.state.database import Transaction
from agent.state.deploys import Deploy
from agent.state.plans import Plan, TaskKind, TaskPlan
from agent.state.tasks import Task
from proto.events import TaskEnded, TaskStarted
from proto.names import AppId, ReplicaId, TaskId

NewId = Callable[[str], str]
"""Makes an id that begins with the given letter; see ``agent.ports.world.Ids.new``."""

BEFORE: Final[tuple[TaskKind, ...]] = ("predeploy", "release")
"""Tasks that run before the first replica of a release starts. One that fails ends the deploy."""
AFTER: Final[tuple[TaskKind, ...]] = ("setup", "postdeploy")
"""Tasks that run once the release serves. One that fails is told, and changes nothing."""


async def due(tx: Transaction, *, deploy: Deploy, release: int, plan: Plan) -> list[TaskPlan]:
    """Return the tasks that a deploy has, which is about to make this release."""
    if deploy.kind == "restart":
        return await _owed(tx, app=deploy.app, release=release - 1)
    app = await tx.apps.get(deploy.app)
    is_first = app is not None and app.live_release is None
    return [task for task in plan.tasks if is_first or task.kind != "setup"]


async def plan(tx: Transaction, *, deploy: Deploy, release: int, tasks: Sequence[TaskPlan], new_id: NewId) -> None:
    """Intend to run these tasks."""
    for task in tasks:
        await tx.tasks.add(
            TaskId(ReplicaId(new_id("t"))),
            app=deploy.app,
            deploy=deploy.id,
            release=release,
            kind=task.kind,
            command=task.command,
            at=tx.now,
        )


async def _owed(tx: Transaction, *, app: AppId, release: int) -> list[TaskPlan]:
    """Return what was to be run once a release serves that a restart has superseded: it never will, but its code."""
    before = await tx.releases.get(app, release)
    deploy = await tx.deploys.get(before.deploy) if before else None
    if deploy is None or deploy.status != "superseded":
        return []
    rows = await tx.tasks.of_deploy(deploy.id)
    return [TaskPlan(row.kind, row.command) for row in rows if row.kind in AFTER and row.started_at is None]


async def started(tx: Transaction, *, task: Task) -> bool:
    """Note that a task is about to be started: whoever gets true starts it, and nobody else ever will.

    False if it was started or has ended, or while another task of the app may be running.
    """
    if not await tx.tasks.set_started(task.id, at=tx.now):
        return False
    await tx.emit(TaskStarted(app=task.app, deploy=task.deploy, release=task.release, task=task.id, kind=task.kind))
    return True


async def ended(tx: Transaction, *, task: Task, exit_code: int | None, reason: str | None) -> bool:
    """Note how a task ended; `reason` is `None` if it succeeded. Return false if that was noted before."""
    if not await tx.tasks.set_ended(task.id, exit_code=exit_code, reason=reason, at=tx.now):
        return False
    await tx.emit(
        TaskEnded(
            app=task.app,
            deploy=task.deploy,
            release=task.release,
            task=task.id,
            kind=task.kind,
            exit_code=exit_code,
            reason=reason,
        )
    )
    return True


async def drop(tx: Transaction, *, deploy: Deploy) -> None:
    """Give up the tasks of a deploy that were not started. One that runs is ended by whoever runs it."""
    for task in await tx.tasks.of_deploy(deploy.id):
        if task.status == "intended":
            await ended(tx, task=task, exit_code=None, reason=f"The {task.kind} task was not run: the deploy ended.")


async def abandon(tx: Transaction, *, deploy: Deploy) -> None:
    """Give up all tasks of a deploy that nobody looks after any more."""
    for task in await tx.tasks.of_deploy(deploy.id):
        if task.status != "ended":
            reason = f"Pushboat itself failed; nobody knows whether the {task.kind} task has run."
            await ended(tx, task=task, exit_code=None, reason=reason)
