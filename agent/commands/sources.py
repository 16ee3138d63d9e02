"""What commands share that deploy a commit which they brought themselves."""

from __future__ import annotations

from agent.commands import deploying
from agent.commands.command import Context
from agent.commands.deploying import Wish
from agent.commands.replies import STEP
from agent.errors import UserError
from agent.lifecycle import properties
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from agent.state.deploys import Deploy

DEPLOY_BRANCH = "git.deploy-branch"
FIRST_BRANCH = "main"
"""Where what has no branch of its own goes in an app without a deploy branch."""


async def branch_of(tables: Tables, app: App) -> str:
    """Return the branch that deploys the app, or would."""
    return await tables.properties.effective(app.id, DEPLOY_BRANCH) or FIRST_BRANCH


async def accept_tip(
    tx: Transaction, *, ctx: Context, branch: str, tip: str, why: str, becomes_deploy_branch: bool = False
) -> Deploy:
    """Take on the deploy of the branch's tip, unless it is under way.

    The branch becomes the deploy branch of an app that has none, or of any with `becomes_deploy_branch`.

    Raises:
        UserError: ``app.destroyed``.
    """
    app = await must_stand(tx, ctx)
    await set_branch(tx, app=app, branch=branch, replaces=becomes_deploy_branch)
    under_way = await tx.deploys.under_way(app.id)
    if under_way and under_way[-1].commit_id == tip:
        return under_way[-1]
    return await deploying.accept(tx, ctx=ctx, app=app.id, wish=Wish(kind="push", why=why, commit=tip))


async def set_branch(tx: Transaction, *, app: App, branch: str, replaces: bool) -> None:
    """Let `branch` be the app's deploy branch, if it has none or `replaces`."""
    own = await tx.properties.get(app.id, DEPLOY_BRANCH)
    if own is None or (replaces and own != branch):
        await properties.set_property(tx, app=app.id, name=DEPLOY_BRANCH, value=branch)


async def must_stand(tx: Transaction, ctx: Context) -> App:
    """Return the app as it is now; what came may have come for long. Raises ``UserError`` ``app.destroyed``."""
    row = await tx.apps.get(ctx.app.id)
    if row is None or row.destroyed_at is not None:
        raise UserError("app.destroyed", f"{ctx.app.name} was destroyed meanwhile.", "Make it: apps:create <name>")
    return row


async def say_deploying(ctx: Context, tip: str) -> None:
    """Say that a deploy was taken on."""
    await ctx.progress(f"{STEP}Deploying {ctx.app.name} at {tip[:8]}; it goes on if you leave (Ctrl-C)")
