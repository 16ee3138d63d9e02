"""What commands share that lead to a deploy: they take it on, show it, and end as it ends."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from structlog.contextvars import bind_contextvars

from agent.commands.command import Context
from agent.commands.replies import Done, Ended, Json, Reply
from agent.commands.watching import DeployWatcher
from agent.lifecycle import deploys
from agent.state.database import Tables, Transaction
from agent.state.deploys import Deploy, Kind
from proto.names import AppId, DeployId
from proto.wire import Exit


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The deploy that a command wants."""

    kind: Kind
    why: str
    id: DeployId | None = None
    """Known already, where something was made for it; a new one otherwise."""
    commit: str | None = None
    image: str | None = None
    from_release: int | None = None
    is_code_only: bool = False


async def accept(tx: Transaction, *, ctx: Context, app: AppId, wish: Wish) -> Deploy:
    """Take on a deploy in the name of the one who asks. Raises as ``agent.lifecycle.deploys.accept`` does."""
    return await deploys.accept(
        tx,
        deploy=wish.id or DeployId(ctx.ids.new("d")),
        app=app,
        kind=wish.kind,
        by=ctx.user.name,
        why=wish.why,
        commit=wish.commit,
        image=wish.image,
        from_release=wish.from_release,
        is_code_only=wish.is_code_only,
    )


async def is_deployed(tables: Tables, *, app: AppId) -> bool:
    """Tell whether there is something that a config change or a restart can be deployed on: live, or on its way."""
    row = await tables.apps.get(app)
    return row is not None and (row.live_release is not None or bool(await tables.deploys.under_way(app)))


async def show(ctx: Context, deploy: Deploy, *, facts: Mapping[str, Json] | None = None) -> Reply:
    """Show a deploy to its end, and end as it does. Scripts get its outcome, with `facts`."""
    bind_contextvars(app=deploy.app, deploy=deploy.id)
    watcher = watcher_of(ctx)
    if not ctx.options.as_json:
        await ctx.progress(f"       To stop it: deploys:cancel {await _name(ctx, deploy)} {deploy.id}")
        return Ended(status=await watcher.watch(deploy.id, ctx.session, quiet=ctx.options.quiet))
    ended = await watcher.wait(deploy.id, ctx.session)
    status = Exit.OK if ended and ended.status == "live" else Exit.FAILED
    return Done(said=(), facts={**(facts or {}), "deploy": outcome_of(ended or deploy)}, status=status)


def outcome_of(deploy: Deploy) -> dict[str, Json]:
    """Return a deploy's outcome for scripts."""
    return {
        "id": deploy.id,
        "status": deploy.status,
        "release": deploy.release,
        "stage": deploy.stage,
        "reason": deploy.reason,
    }


def watcher_of(ctx: Context) -> DeployWatcher:
    """Return the watcher of deploys."""
    return DeployWatcher(ctx.database, transcripts=ctx.transcripts, server=ctx.server)


async def _name(ctx: Context, deploy: Deploy) -> str:
    app = await ctx.database.read.apps.get(deploy.app)
    return app.name if app else ""
