"""``deploys``, ``deploys:*``: attempts to make something live, what they said, and how they ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Annotated

import msgspec
from structlog.contextvars import bind_contextvars

from agent.commands.arguments import App, Argument, Option, quoted
from agent.commands.command import Command, Context
from agent.commands.deploying import watcher_of
from agent.commands.replies import HEADING, INDENT, Done, Ended, Json, Reply, Table, as_json
from agent.commands.times import ago, lasted, stamp
from agent.commands.waiting import unless_gone
from agent.errors import UserError
from agent.lifecycle import deploys
from agent.state.deploys import Deploy
from proto.wire import Exit

Id = Annotated[str, Argument(help="Its id, or the beginning of it; the newest if left out.", metavar="deploy")]


class DeployFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A deploy, for scripts."""

    id: str
    app: str
    kind: str
    status: str
    release: int | None
    commit: str | None
    by: str
    why: str
    stage: str | None
    reason: str | None
    created_at: float
    ended_at: float | None


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a deploy, for scripts."""

    kind: str
    command: str
    status: str
    exit_code: int | None
    reason: str | None
    started_at: float | None
    ended_at: float | None


class DeploysList(Command, frozen=True, kw_only=True):
    """List an app's deploys, the newest first."""

    name = "deploys"
    aliases = ("deploys:list", "builds", "builds:list")
    permission = "read"
    examples = ("deploys blog", "deploys blog -n 5 --format json")

    app: App
    count: Annotated[int, Option(names=("-n", "--num"), help="How many; 20.", metavar="count")] = 20

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        found = await ctx.database.read.deploys.of_app(ctx.app.id, limit=self.count)
        now = ctx.clock.now()
        return Table(
            title=f"Deploys of {ctx.app.name}",
            columns=("ID", "STATUS", "RELEASE", "WHEN", "BY", "WHY"),
            rows=tuple(
                (
                    deploy.id,
                    deploy.status,
                    f"v{deploy.release}" if deploy.release else "",
                    ago(deploy.created_at, now=now),
                    deploy.by,
                    deploy.why,
                )
                for deploy in found
            ),
            data=[msgspec.to_builtins(facts_of(deploy, app=ctx.app.name)) for deploy in found],
            empty="None yet. Deploy with: git push",
        )


class DeployShown(Reply, frozen=True, kw_only=True):
    """One deploy."""

    deploy: DeployFacts
    tasks: tuple[TaskFacts, ...]
    outcome: tuple[str, ...]

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield what is known of it, and how it ended."""
        deploy = self.deploy
        yield f"{HEADING}Deploy {deploy.id} of {deploy.app}"
        for key, value in (
            ("Status", deploy.status),
            ("Release", f"v{deploy.release}" if deploy.release else ""),
            ("Kind", deploy.kind),
            ("Commit", deploy.commit or ""),
            ("By", deploy.by),
            ("Why", deploy.why),
            ("Accepted at", stamp(deploy.created_at)),
            ("Took", lasted(deploy.created_at, deploy.ended_at)),
        ):
            if value:
                yield f"{INDENT}{key}:".ljust(24) + value
        for task in self.tasks:
            yield f"{INDENT}Task {task.kind}:".ljust(24) + _ending(task)
        yield from self.outcome

    def json(self) -> Json:
        """Return its facts, and those of its tasks."""
        return {**msgspec.to_builtins(self.deploy), "tasks": msgspec.to_builtins(self.tasks)}


def _ending(task: TaskFacts) -> str:
    """Return how a task stands."""
    if task.ended_at is None:
        return "running" if task.started_at else "not started"
    if task.started_at is None:
        return "not run"
    return f"{'failed' if task.reason else 'succeeded'}, took {lasted(task.started_at, task.ended_at)}"


class DeploysShow(Command, frozen=True, kw_only=True):
    """Show one deploy."""

    name = "deploys:show"
    aliases = ("deploys:info", "builds:info")
    permission = "read"
    examples = ("deploys:show blog", "deploys:show blog dcm6gru56s2y")

    app: App
    deploy: Id = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        deploy = await find_deploy(ctx, self.deploy)
        tasks = await ctx.database.read.tasks.of_deploy(deploy.id)
        return DeployShown(
            deploy=facts_of(deploy, app=ctx.app.name),
            tasks=tuple(msgspec.convert(task, TaskFacts, from_attributes=True) for task in tasks),
            outcome=tuple(await watcher_of(ctx).outcome(deploy)),
        )


class DeploysOutput(Command, frozen=True, kw_only=True):
    """Print what a deploy said, and follow it if it is under way.

    Ends with status 1 if the deploy did not go live. Leaving does nothing to the deploy. In JSON: one object a line,
    with a text each, and the deploy in the last.
    """

    name = "deploys:output"
    aliases = ("deploys:watch", "builds:output")
    permission = "read"
    examples = ("deploys:output blog", "deploys:output blog dcm6")

    app: App
    deploy: Id = ""

    async def run(self, ctx: Context) -> Reply:
        """Read its transcript to the end."""
        deploy = await find_deploy(ctx, self.deploy)
        if ctx.options.as_json:
            return Ended(status=await unless_gone(ctx.session, _show_as_json(ctx, deploy)))
        return Ended(status=await watcher_of(ctx).watch(deploy.id, ctx.session))


class DeploysCancel(Command, frozen=True, kw_only=True):
    """Stop a deploy that is under way. What is live goes on."""

    name = "deploys:cancel"
    aliases = ("builds:cancel",)
    permission = "change"
    examples = ("deploys:cancel blog",)

    app: App
    deploy: Id = ""

    async def run(self, ctx: Context) -> Reply:
        """End it, unless its route is being switched already.

        Raises:
            UserError: ``deploy.over``, it has ended or is too far.
        """
        deploy = await find_deploy(ctx, self.deploy)
        async with ctx.database.transaction() as tx:
            is_cancelled = await deploys.cancel(tx, deploy=deploy, by=ctx.user.name)
        if not is_cancelled:
            now = await ctx.database.read.deploys.get(deploy.id)
            status = now.status if now else deploy.status
            raise UserError(
                "deploy.over",
                f"The deploy {deploy.id} cannot be cancelled: it is {status}.",
                f"To go back to an older release: releases:rollback {ctx.app.name}",
            )
        return Done(said=(f"Cancelling deploy {deploy.id} of {ctx.app.name}",), facts={"deploy": deploy.id})


async def _show_as_json(ctx: Context, deploy: Deploy) -> int:
    async with contextlib.aclosing(watcher_of(ctx).lines(deploy)) as batches:
        async for batch in batches:
            await ctx.screen.lines(as_json({"text": line}) for line in batch)
    ended = await ctx.database.read.deploys.get(deploy.id) or deploy
    await ctx.screen.line(as_json({"deploy": facts_of(ended, app=ctx.app.name)}))
    return Exit.OK if ended.status == "live" else Exit.FAILED


async def find_deploy(ctx: Context, prefix: str) -> Deploy:
    """Return the deploy of the command's app whose id begins with `prefix`; the newest if that is empty.

    Raises:
        UserError: ``deploy.not-found``, ``deploy.ambiguous``.
    """
    found = await _find(ctx, prefix)
    bind_contextvars(deploy=found.id)
    return found


async def _find(ctx: Context, prefix: str) -> Deploy:
    read = ctx.database.read.deploys
    if prefix in ("", "current"):
        newest = await read.newest(ctx.app.id)
        if newest is None:
            raise UserError(
                "deploy.not-found", f"Nothing was ever deployed to {ctx.app.name}.", "Deploy with: git push"
            )
        return newest
    found = await read.starting_with(ctx.app.id, prefix)
    if not found:
        raise UserError(
            "deploy.not-found",
            f"{ctx.app.name} has no deploy {quoted(prefix)}.",
            f"List them with: deploys {ctx.app.name}",
        )
    if len(found) > 1 and found[0].id != prefix:
        raise UserError("deploy.ambiguous", f"Several deploys begin with {quoted(prefix)}.", "Give more of the id.")
    return found[0]


def facts_of(deploy: Deploy, *, app: str) -> DeployFacts:
    """Return a deploy for scripts."""
    return DeployFacts(
        id=deploy.id,
        app=app,
        kind=deploy.kind,
        status=deploy.status,
        release=deploy.release,
        commit=deploy.commit_id,
        by=deploy.by,
        why=deploy.why,
        stage=deploy.stage,
        reason=deploy.reason,
        created_at=deploy.created_at,
        ended_at=deploy.ended_at,
    )
