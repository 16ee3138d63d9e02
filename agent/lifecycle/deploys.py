"""The moves of a deploy, from accepted to its one outcome.

    accepted -> building -> built -> releasing -> starting -> switching -> live
        \\__________\\_________\\__________\\___________\\-> cancelled, superseded
         \\__________\\_________\\__________\\___________\\___________\\-> failed

A deploy without tasks before its replicas, whose image goes to no registry first, is never ``releasing``.
Each move is one guarded UPDATE and emits once; a second attempt at the same move changes nothing and says so.
"""

from __future__ import annotations

from typing import Literal

from agent.errors import UserError
from agent.lifecycle import pushes, replicas, strategies, tasks
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from agent.state.deploys import BEFORE_SWITCH, OF_SOURCE, Deploy, Kind
from agent.state.plans import Plan
from agent.state.pushes import Push
from agent.state.releases import Release
from agent.state.tasks import Task
from proto.events import (
    DeployAccepted,
    DeployCancelled,
    DeployFailed,
    DeployLive,
    DeploySuperseded,
    ImageBuilt,
    ReleaseCreated,
    ReplicasReady,
    Stage,
)
from proto.names import SERVER, WEB, AppId, DeployId

BEFORE_RELEASE = ("accepted", "building", "built")
"""Statuses in which a deploy has not taken its copy of the config yet."""

SWITCHED_DRAIN_SECONDS = 60.0
"""How long the replicas of a deploy that failed while it was switched to may go on: some requests may be there."""


async def accept(
    tx: Transaction,
    *,
    deploy: DeployId,
    app: AppId,
    kind: Kind,
    by: str,
    why: str,
    commit: str | None = None,
    image: str | None = None,
    from_release: int | None = None,
    is_code_only: bool = False,
) -> Deploy:
    """Take on a deploy and return it; older ones of the app that have not switched are superseded.

    A config change or restart while a build is under way needs no deploy of its own: that build's release takes
    the draft as it is then, so that deploy is returned. So is one whose tasks run, for a restart: its replicas are
    started anew in any case, and must not be before these tasks have succeeded.

    Raises:
        UserError: ``deploy.nothing-deployed`` (config, restart), ``release.not-found`` or ``release.image-gone``
            (rollback).
    """
    under_way = await tx.deploys.under_way(app)
    if under_way and _takes_along(under_way[-1], kind=kind):
        return under_way[-1]
    base = None if kind in OF_SOURCE else await _base(tx, app=app, kind=kind, from_release=from_release)
    await tx.deploys.add(
        deploy,
        app=app,
        kind=kind,
        by=by,
        why=why,
        at=tx.now,
        commit=base.commit_id if base else commit,
        image=image,
        from_release=from_release,
        is_code_only=is_code_only,
    )
    for older in under_way:
        await _supersede(tx, older=older, newer=deploy)
    await tx.emit(DeployAccepted(app=app, deploy=deploy, kind=kind, by=by))
    if base:
        await built(tx, app=app, deploy=deploy, image=base.image, plan=base.plan)
    return await _get(tx, deploy)


async def building(tx: Transaction, *, deploy: DeployId) -> bool:
    """Note that its build began. Return false unless it is still to be built (again, after a crash)."""
    return await tx.deploys.move(deploy, old=("accepted", "building"), new="building")


async def built(tx: Transaction, *, app: AppId, deploy: DeployId, image: str, plan: Plan) -> bool:
    """Note the image (``sha256:…``) and the process table. Return false if the deploy has moved on or ended."""
    if not await tx.deploys.move(deploy, old=("accepted", "building"), new="built"):
        return False
    await tx.deploys.set_built(deploy, image=image, plan=plan)
    await tx.emit(ImageBuilt(app=app, deploy=deploy, image=image))
    return True


async def create_release(tx: Transaction, *, deploy: DeployId, new_id: tasks.NewId) -> Release | None:
    """Fix image, config and process table as the app's next release; plan its push and its tasks.

    Return `None` unless the deploy was just built.
    """
    if not await tx.deploys.move(deploy, old=("built",), new="releasing"):
        return None
    row = await _get(tx, deploy)
    assert row.plan is not None and row.image is not None
    plan = await strategies.fixed(tx, app=row.app, plan=row.plan)
    release = Release(
        app=row.app,
        version=await tx.apps.take_release(row.app),
        deploy=deploy,
        image=row.image,
        plan=plan,
        commit_id=row.commit_id,
        by=row.by,
        why=row.why,
        created_at=tx.now,
        live_at=None,
        is_image_kept=True,
    )
    brings_config = row.kind == "rollback" and not row.is_code_only and row.from_release is not None
    config = await (
        tx.configs.get(row.app, release=row.from_release or 0) if brings_config else tx.configs.merged(row.app)
    )
    await tx.configs.put(row.app, config, release=release.version)
    await tx.releases.add(release)
    await tx.deploys.set_release(deploy, release=release.version)
    await _set_scale(tx, release)
    due = await tasks.due(tx, deploy=row, release=release.version, plan=release.plan)
    await tasks.plan(tx, deploy=row, release=release.version, tasks=due, new_id=new_id)
    await pushes.plan(tx, deploy=row, release=release)
    await _start_if_due(tx, deploy)
    await tx.emit(ReleaseCreated(app=row.app, deploy=deploy, release=release.version))
    return release


async def task_ended(tx: Transaction, *, task: Task, exit_code: int | None = None, reason: str | None = None) -> bool:
    """Note how a task ended, and what follows for its deploy; `reason` is `None` if it succeeded.

    After the last one that comes before the replicas, these may start; one of those that fails ends the deploy.
    Return false if its end was noted before.
    """
    if not await tasks.ended(tx, task=task, exit_code=exit_code, reason=reason):
        return False
    if task.kind not in tasks.BEFORE:
        return True
    if reason is not None:
        await fail(tx, deploy=await _get(tx, task.deploy), stage="release", reason=reason)
    else:
        await _start_if_due(tx, task.deploy)
    return True


async def push_ended(tx: Transaction, *, push: Push, reason: str | None = None) -> bool:
    """Note how the push of its image ended, and what follows for a deploy; `reason` is `None` if it succeeded.

    Return false if its end was noted before.
    """
    if not await pushes.ended(tx, push=push, reason=reason):
        return False
    if push.is_awaited and reason is not None:
        await fail(tx, deploy=await _get(tx, push.deploy), stage="release", reason=reason)
    elif push.is_awaited:
        await _start_if_due(tx, push.deploy)
    return True


async def ready(tx: Transaction, *, deploy: Deploy) -> bool:
    """Note that every replica of the candidate is ready, so that its route may be switched."""
    if deploy.release is None or not await tx.deploys.move(deploy.id, old=("starting",), new="switching"):
        return False
    await tx.deploys.set_switching(deploy.id, at=tx.now)
    await tx.emit(ReplicasReady(app=deploy.app, deploy=deploy.id, release=deploy.release))
    return True


async def ready_if_complete(tx: Transaction, *, app: AppId) -> bool:
    """Move the app's candidate on if every replica it wants is ready. Called after each replica that becomes so."""
    candidate = await tx.deploys.candidate(app)
    if candidate is None or candidate.release is None or candidate.status != "starting":
        return False
    if not await replicas.are_ready(tx, app=app, release=candidate.release):
        return False
    return await ready(tx, deploy=candidate)


async def live(tx: Transaction, *, deploy: Deploy, drain_seconds: float) -> bool:
    """Make the candidate the live release, which its route serves already; the older replicas drain.

    Return false unless the deploy was switching.
    """
    version = deploy.release
    if version is None or not await tx.deploys.move(deploy.id, old=("switching",), new="live", at=tx.now):
        return False
    await tx.releases.set_live(deploy.app, version, at=tx.now)
    await tx.apps.set_live(deploy.app, release=version)
    await tx.apps.set_stopped(deploy.app, is_stopped=False)
    if deploy.kind == "rollback" and not deploy.is_code_only:
        await tx.configs.put(deploy.app, await _draft_of(tx, deploy.app, release=version))
    await tx.emit(DeployLive(app=deploy.app, deploy=deploy.id, release=version))
    older = [replica for replica in await tx.replicas.of_app(deploy.app) if replica.release != version]
    await replicas.drain(tx, app=deploy.app, surplus=older, until=tx.now + drain_seconds)
    return True


async def fail(tx: Transaction, *, deploy: Deploy, stage: Stage, reason: str) -> bool:
    """End a deploy that cannot go live; its replicas stop, and what served before goes on. False if it had ended."""
    if not await tx.deploys.move(deploy.id, old=(*BEFORE_SWITCH, "switching"), new="failed", at=tx.now):
        return False
    await tx.deploys.set_failure(deploy.id, stage=stage, reason=reason)
    await tx.emit(DeployFailed(app=deploy.app, deploy=deploy.id, stage=stage, reason=reason))
    await _drop_candidate(tx, deploy)
    return True


async def cancel(tx: Transaction, *, deploy: Deploy, by: str) -> bool:
    """End a deploy because somebody asks. Return false if it is too late: it switches, or has ended."""
    if not await tx.deploys.move(deploy.id, old=BEFORE_SWITCH, new="cancelled", at=tx.now):
        return False
    await tx.emit(DeployCancelled(app=deploy.app, deploy=deploy.id, by=by))
    await _drop_candidate(tx, deploy)
    return True


async def push_outcome(tables: Tables, *, app: App, commit: str) -> Deploy | Literal["deploy", "nothing"]:
    """Say what an empty push of `commit` ("Everything up-to-date") should do.

    A deploy of it under way is returned, to be watched. ``deploy`` if the newest deploy is of this commit and
    failed, or if none was ever recorded (the agent died between git and its own row). Else ``nothing``: never after
    a rollback, a cancel or a newer release.
    """
    recent = await tables.deploys.of_app(app.id, limit=1)
    if not recent:
        return "deploy"
    newest = recent[0]
    if newest.commit_id != commit:
        return "nothing" if newest.kind != "push" or await _was_deployed(tables, app=app, commit=commit) else "deploy"
    if not newest.is_over:
        return newest
    return "deploy" if newest.status == "failed" else "nothing"


async def _was_deployed(tables: Tables, *, app: App, commit: str) -> bool:
    return any(deploy.commit_id == commit for deploy in await tables.deploys.of_app(app.id, limit=1000))


async def _draft_of(tx: Transaction, app: AppId, *, release: int) -> dict[str, str]:
    """Return the app's own part of a release's config: what the server's config gives anyhow stays the server's."""
    own, server = await tx.configs.get(app), await tx.configs.get(SERVER)
    config = await tx.configs.get(app, release=release)
    return {key: value for key, value in config.items() if key in own or server.get(key) != value}


async def _base(tx: Transaction, *, app: AppId, kind: Kind, from_release: int | None) -> Release:
    """Return the release whose image and process table a deploy without a build takes."""
    row = await tx.apps.get(app)
    candidate = await tx.deploys.candidate(app)
    if kind == "rollback":
        version = from_release
    else:
        version = candidate.release if candidate else row.live_release if row else None
    release = await tx.releases.get(app, version) if version else None
    if release is None and kind == "rollback":
        raise UserError("release.not-found", f"There is no release v{version}.", "List them with: releases")
    if release is None:
        raise UserError("deploy.nothing-deployed", "Nothing is deployed yet.", "Deploy it first: git push")
    if not release.is_image_kept:
        raise UserError(
            "release.image-gone",
            f"The image of v{release.version} is no longer kept.",
            f"Deploy it again: git:from-image {row.name if row else '<app>'} {release.plan.digest}"
            if release.plan.digest
            else f"Push its commit again: {release.commit_id or 'unknown'}",
        )
    return release


def _takes_along(under_way: Deploy, *, kind: Kind) -> bool:
    if kind == "restart":
        return under_way.status in (*BEFORE_RELEASE, "releasing")
    return kind == "config" and under_way.status in BEFORE_RELEASE


async def _supersede(tx: Transaction, *, older: Deploy, newer: DeployId) -> None:
    if await tx.deploys.move(older.id, old=BEFORE_SWITCH, new="superseded", at=tx.now):
        await tx.emit(DeploySuperseded(app=older.app, deploy=older.id, newer=newer))
        await _drop_candidate(tx, older)


async def _drop_candidate(tx: Transaction, deploy: Deploy) -> None:
    """Want nothing of the deploy any more, but replicas that took the place of what is wanted again."""
    await pushes.drop(tx, deploy=deploy)
    await tasks.drop(tx, deploy=deploy)
    release = await tx.releases.get(deploy.app, deploy.release) if deploy.release is not None else None
    if release is None:
        return
    stay = await replicas.standing_in(tx, release=release)
    rows = [row for row in await tx.replicas.of_app(deploy.app) if row.release == release.version]
    # Unless it was being switched to, or may have taken somebody's place, none ever had traffic.
    is_rolling = any(plan.strategy == "rolling" for plan in release.plan.processes)
    patience = SWITCHED_DRAIN_SECONDS if deploy.status == "switching" or is_rolling else 0.0
    surplus = [row for row in rows if row.id not in stay]
    await replicas.drain(tx, app=deploy.app, surplus=surplus, until=tx.now + patience)


async def _start_if_due(tx: Transaction, deploy: DeployId) -> None:
    """Let the replicas of a release start, unless its image has to be in a registry or a task has to end first."""
    before = [task for task in await tx.tasks.of_deploy(deploy) if task.kind in tasks.BEFORE]
    if all(task.ended_at for task in before) and not await pushes.is_awaited(tx, deploy):
        await tx.deploys.move(deploy, old=("releasing",), new="starting")


async def _set_scale(tx: Transaction, release: Release) -> None:
    """Give process types that were never seen their first quantity: one ``web``, none of the others, or app.json's."""
    scales = await tx.scales.of_app(release.app)
    for plan in release.plan.processes:
        quantity = release.plan.formation.get(plan.type)
        if quantity is None and plan.type not in scales:
            quantity = 1 if plan.type == WEB else 0
        if quantity is not None:
            await tx.scales.set(release.app, process=plan.type, quantity=quantity)


async def _get(tx: Transaction, deploy: DeployId) -> Deploy:
    row = await tx.deploys.get(deploy)
    assert row is not None, f"deploy {deploy} vanished in its own transaction"
    return row
