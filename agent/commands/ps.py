"""``ps:*``: the processes of apps: how many run, and whether they do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from structlog.contextvars import bind_contextvars

from agent.commands import deploying, settings
from agent.commands.arguments import ALL, App, AppOrAll, Argument, Flag, Option, quoted, read_number, read_process_type
from agent.commands.command import Command, Context
from agent.commands.deploying import Wish
from agent.commands.replies import INDENT, STEP, WARNING, Done, Json, Raw, Reply, as_json
from agent.commands.scaling import await_replicas, await_stop
from agent.errors import UserError
from agent.lifecycle import apps
from agent.state.apps import App as AppRow
from proto.names import WEB, ProcessType
from proto.wire import Exit, Failure


class PsScale(Command, frozen=True, kw_only=True):
    """Say how many of each process should run; without numbers, print how many do.

    Ends once that many are ready.
    """

    name = "ps:scale"
    permission = "change"
    examples = ("ps:scale blog web=3 worker=2", "ps:scale blog")

    app: App
    quantities: Annotated[tuple[str, ...], Argument(help="Process type and number.", metavar="process=n")] = ()
    is_draft: Annotated[bool, Flag(names=("--skip-deploy",), help="Do not wait until they are ready.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Store the numbers and watch them come true."""
        wanted = dict(_quantity(text) for text in self.quantities)
        if not wanted:
            return _scale_of(ctx.app, await _quantities(ctx, ctx.app))
        async with ctx.database.transaction() as tx:
            await apps.scale(tx, app=ctx.app, quantities=wanted)
        told = " ".join(f"{process}={count}" for process, count in wanted.items())
        await ctx.progress(f"{STEP}Scaling {ctx.app.name} processes: {told}")
        facts: dict[str, Json] = {"scale": await _quantities(ctx, ctx.app)}
        if self.is_draft or ctx.app.is_stopped or ctx.app.live_release is None:
            return Done(said=(), facts=facts)
        await await_replicas(ctx, ctx.app)
        return Done(said=(f"{INDENT}All of them are ready.",), facts=facts)


class ScaleReply(Reply, frozen=True, kw_only=True):
    """How many of each process are wanted."""

    app: str
    quantities: dict[str, int]

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield Dokku's small table."""
        rows = [("proctype", "qty"), ("--------", "---")]
        rows += [(process, str(count)) for process, count in self.quantities.items()]
        width = max(len(process) for process, _ in rows)
        if not quiet:
            yield f"{STEP}Scaling for {self.app}"
        for process, count in rows:
            yield f"{process}:".ljust(width + 2) + count

    def json(self) -> Json:
        """Return a list of objects, as Dokku has it."""
        return [{"process_type": process, "quantity": count} for process, count in self.quantities.items()]


class Several(Reply, frozen=True, kw_only=True):
    """What came of doing one thing to every app. People have read it already."""

    outcomes: tuple[Json, ...]

    def json(self) -> Json:
        """Return one object for each app: its facts, or its failure under ``error``."""
        return self.outcomes


class _ForApps(Command, frozen=True, kw_only=True):
    """Does one thing to an app, or to every one."""

    permission = "change"
    app: AppOrAll
    at_once: Annotated[
        str, Option(names=("--parallel",), help="With --all, how many apps at once; 1. -1: all.", metavar="count")
    ] = "1"

    async def run(self, ctx: Context) -> Reply:
        """Do it to each, and go on with the next when one fails."""
        limit = _limit(self.at_once)
        if self.app != ALL:
            return await self.one(ctx, ctx.app)
        apps = await ctx.database.read.apps.all()
        gate = asyncio.Semaphore(limit or len(apps) or 1)
        found = await asyncio.gather(*(self._attempt(ctx, app, gate) for app in apps), return_exceptions=True)
        outcomes: list[tuple[int, Json]] = []
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes.append(outcome)
        status = Exit.FAILED if any(status for status, _ in outcomes) else Exit.OK
        return Several(outcomes=tuple(facts for _, facts in outcomes), status=status)

    async def _attempt(self, ctx: Context, app: AppRow, gate: asyncio.Semaphore) -> tuple[int, Json]:
        bind_contextvars(app=app.id)  # in a task of its own
        try:
            async with gate:
                reply = await self.one(ctx, app)
        except UserError as error:
            failure = Failure(code=error.code, message=error.message, hint=error.hint)
            if not ctx.options.as_json:
                await ctx.screen.trouble(f"{app.name}: {error.message}", error.hint)
            return Exit.FAILED, {"app": app.name, "error": failure}
        facts = reply.json()
        if not ctx.options.as_json:
            await ctx.screen.lines(reply.lines(quiet=ctx.options.quiet))
        return reply.status, {**(facts if isinstance(facts, Mapping) else {}), "app": app.name}

    async def one(self, ctx: Context, app: AppRow) -> Reply:
        """Do it to one app."""
        raise NotImplementedError


class PsRestart(_ForApps, frozen=True, kw_only=True):
    """Replace every process by a new one, with no request lost.

    Config that was set with --no-restart is taken, so this makes a release. With a process type, only its processes
    are replaced, by others of the release that is live, with its config.
    """

    name = "ps:restart"
    examples = ("ps:restart blog", "ps:restart blog worker", "ps:restart --all --parallel 2")

    process: Annotated[
        ProcessType | None, Argument(help="Process type; all of them if left out.", metavar="process")
    ] = None

    async def run(self, ctx: Context) -> Reply:
        """Restart one process type, or do it to each app."""
        if self.process is None:
            return await super().run(ctx)
        if self.app == ALL:
            hint = f"Name the app: ps:restart <app> {self.process}"
            raise UserError("restart.which-app", "A process type belongs to one app.", hint)
        return await self._restart_type(ctx, ctx.app, self.process)

    async def _restart_type(self, ctx: Context, app: AppRow, process: ProcessType) -> Reply:
        if app.live_release is None:
            return await _not_deployed(ctx, app)
        async with ctx.database.transaction() as tx:
            count = await apps.restart(tx, app=app, process=process)
        facts: dict[str, Json] = {"app": app.name, "process_type": process, "quantity": count}
        if not count:
            return await _said(ctx, f"{WARNING}{app.name} runs no {process}: it is scaled to 0", **facts)
        await ctx.progress(f"{STEP}Restarting {process} of {app.name}")
        await await_replicas(ctx, app, process=process)
        return Done(said=(f"{INDENT}All of them are ready.",), facts=facts)

    async def one(self, ctx: Context, app: AppRow) -> Reply:
        """Deploy the live release's image again."""
        if not await deploying.is_deployed(ctx.database.read, app=app.id):
            return await _not_deployed(ctx, app)
        await ctx.progress(f"{STEP}Restarting {app.name}")
        return await _deploy(ctx, app, Wish(kind="restart", why="Restarted"))


class PsRebuild(_ForApps, frozen=True, kw_only=True):
    """Build what was pushed last once more, and deploy it."""

    name = "ps:rebuild"
    examples = ("ps:rebuild blog",)

    async def one(self, ctx: Context, app: AppRow) -> Reply:
        """Deploy the deploy branch's tip, or the same image if there is no source."""
        branch = await ctx.database.read.properties.effective(app.id, "git.deploy-branch")
        commit = await ctx.source.tip(app.id, branch) if branch else None
        if commit:
            await ctx.progress(f"{STEP}Rebuilding {app.name} from {commit[:12]}")
            return await _deploy(ctx, app, Wish(kind="rebuild", why="Rebuilt", commit=commit))
        live = await ctx.database.read.releases.get(app.id, app.live_release) if app.live_release else None
        if live is None:
            return await _not_deployed(ctx, app)
        await ctx.progress(f"{STEP}Deploying the image of {app.name} again")
        return await _deploy(ctx, app, Wish(kind="image", why="Rebuilt", image=live.image))


class PsStop(_ForApps, frozen=True, kw_only=True):
    """Stop every process of an app. Visitors get a page that says so."""

    name = "ps:stop"
    examples = ("ps:stop blog",)

    async def one(self, ctx: Context, app: AppRow) -> Reply:
        """Want nothing to run, and wait until nothing does."""
        if not await deploying.is_deployed(ctx.database.read, app=app.id):
            return await _not_deployed(ctx, app)
        async with ctx.database.transaction() as tx:
            is_new = await apps.stop(tx, app=app)
        if not is_new:
            return await _said(ctx, f"{WARNING}{app.name} is stopped already", app=app.name, running=False)
        await ctx.progress(f"{STEP}Stopping {app.name}")
        if await await_stop(ctx, app):
            return _ended(app, is_running=False)
        told = f"{INDENT}{app.name} is still being stopped; that goes on by itself. See: ps:report {app.name}"
        return Done(said=(told,), facts={"app": app.name, "running": True})


class PsStart(_ForApps, frozen=True, kw_only=True):
    """Start what was stopped."""

    name = "ps:start"
    examples = ("ps:start blog",)

    async def one(self, ctx: Context, app: AppRow) -> Reply:
        """Want the live release to run, and wait until it is ready."""
        if app.live_release is None:
            return await _not_deployed(ctx, app)
        async with ctx.database.transaction() as tx:
            is_new = await apps.start(tx, app=app)
        if not is_new:
            return await _said(ctx, f"{WARNING}{app.name} is running already", app=app.name, running=True)
        await ctx.progress(f"{STEP}Starting {app.name}")
        now = await ctx.database.read.apps.get(app.id)
        await await_replicas(ctx, now or app)
        return _ended(app, is_running=True)


class PsInspect(Command, frozen=True, kw_only=True):
    """Print what Docker says of an app's containers, in JSON; values of the environment are masked."""

    name = "ps:inspect"
    permission = "read"
    examples = ("ps:inspect blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Ask the scheduler."""
        described = await ctx.scheduler.describe(ctx.app.id)
        return Raw(text=msgspec.json.format(as_json(described), indent=2) + "\n", data=described)


class PsSet(settings.SetCommand, frozen=True, kw_only=True):
    """Set how processes run and are replaced. It holds for stops and deploys that begin from now on."""

    name = "ps:set"
    noun = "ps"
    examples = ("ps:set blog stop-timeout-seconds 60", "ps:set blog strategy.worker stop-first")


async def _deploy(ctx: Context, app: AppRow, wish: Wish) -> Reply:
    async with ctx.database.transaction() as tx:
        deploy = await deploying.accept(tx, ctx=ctx, app=app.id, wish=wish)
    return await deploying.show(ctx, deploy)


def _ended(app: AppRow, *, is_running: bool) -> Reply:
    told = f"{INDENT}{app.name} is {'running' if is_running else 'stopped'}."
    return Done(said=(told,), facts={"app": app.name, "running": is_running})


async def _not_deployed(ctx: Context, app: AppRow) -> Reply:
    """Say that there is nothing to act on. No failure, as with Dokku: scripts do this to every app there is."""
    line = f"{WARNING}{app.name} has not been deployed. Deploy it with: git push pushboat main"
    return await _said(ctx, line, app=app.name, deployed=False)


async def _said(ctx: Context, line: str, **facts: Json) -> Reply:
    await ctx.progress(line)
    return Done(said=(), facts=facts)


def _limit(text: str) -> int:
    """Return how many at once; 0: all."""
    if text == "-1":
        return 0
    count = read_number(text)
    if not count:
        raise UserError("argument.number", "At least one app has to be done at once.", "Give 1 or more, or -1 for all.")
    return count


async def _quantities(ctx: Context, app: AppRow) -> dict[str, int]:
    """Return how many of each process type are wanted: of those in the live release, and those that were set."""
    read = ctx.database.read
    quantities: dict[str, int] = {}
    release = await read.releases.get(app.id, app.live_release) if app.live_release else None
    for plan in release.plan.processes if release else ():
        quantities[plan.type] = 1 if plan.type == WEB else 0
    if release is None:
        quantities[WEB] = 1
    quantities |= {str(process): count for process, count in (await read.scales.of_app(app.id)).items()}
    return dict(sorted(quantities.items()))


def _scale_of(app: AppRow, quantities: dict[str, int]) -> Reply:
    return ScaleReply(app=app.name, quantities=quantities)


def _quantity(text: str) -> tuple[ProcessType, int]:
    process, equals, count = text.partition("=")
    if not equals or not count:
        raise UserError(
            "scale.no-quantity", f"{quoted(text)} does not say how many.", "Write process type and number: web=2"
        )
    kind = read_process_type(process)
    if not count.isdecimal():
        # Not what it is instead: somebody may have meant config:set.
        raise UserError("argument.number", f"What {kind} is set to is not a whole number.", "Write it as: web=2")
    return kind, read_number(count)
