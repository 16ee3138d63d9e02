"""The moves of pushes: a release's image goes to a registry, before the first of its tasks and replicas starts.

A deploy that brings a new image waits for the push and fails with it: what serves can then always be had from the
registry. One that brings back what serves or served waits for nothing. So no rollback, restart or change of config
depends on a registry.
"""

from __future__ import annotations

from agent.lifecycle import registries
from agent.state.database import Tables, Transaction
from agent.state.deploys import Deploy
from agent.state.pushes import Push, Status
from agent.state.releases import Release
from proto.events import ImagePushed, ImagePushFailed
from proto.names import DeployId


async def plan(tx: Transaction, *, deploy: Deploy, release: Release) -> bool:
    """Intend to push the image of a new release, where that is wanted; return whether its deploy waits for it."""
    app = await tx.apps.get(release.app)
    if app is None or not await registries.is_pushed(tx, app.id):
        return False
    live = await tx.releases.get(app.id, app.live_release) if app.live_release else None
    is_awaited = deploy.kind != "rollback" and (live is None or live.image != release.image)
    names = await registries.names_of(tx, app, release=release.version)
    await tx.pushes.add(
        deploy.id, app=app.id, release=release.version, image=release.image, names=names, is_awaited=is_awaited
    )
    return is_awaited


async def is_awaited(tables: Tables, deploy: DeployId) -> bool:
    """Tell whether a deploy waits for its push."""
    push = await tables.pushes.get(deploy)
    return push is not None and push.is_awaited and push.status == "due"


async def ended(tx: Transaction, *, push: Push, reason: str | None) -> bool:
    """Note how a push ended; `reason` is `None` if it succeeded. Return false if that was noted before."""
    new: Status = "pushed" if reason is None else "failed"
    if not await tx.pushes.move(push.deploy, new=new, reason=reason, at=tx.now):
        return False
    if reason is None:
        await tx.emit(ImagePushed(app=push.app, deploy=push.deploy, release=push.release, names=push.names))
    else:
        await tx.emit(ImagePushFailed(app=push.app, deploy=push.deploy, release=push.release, reason=reason))
    return True


async def drop(tx: Transaction, *, deploy: Deploy) -> None:
    """Give up the push of a deploy that has ended. Repeating is harmless."""
    await tx.pushes.move(deploy.id, new="dropped", at=tx.now)
