"""``builder:*``: how apps are built."""

from __future__ import annotations

from agent import sanitise
from agent.commands import settings
from agent.commands.arguments import App
from agent.commands.command import Command, Context
from agent.commands.replies import INDENT, Raw, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.settings import property_rows
from agent.errors import UserError
from agent.lifecycle.building import build_options
from agent.ports.images import BuildFailed
from agent.state.apps import App as AppRow

_LOOKED_AT = 50
"""Deploys to look through for the last one that was built."""


class BuilderSet(settings.SetCommand, frozen=True, kw_only=True):
    """Set how an app is built. The next build follows it."""

    name = "builder:set"
    noun = "builder"
    examples = ("builder:set blog build-dir services/web", "builder:set blog selected dockerfile")


class BuilderReport(Command, frozen=True, kw_only=True):
    """Report how apps are built, and what the last build was made of."""

    name = "builder:report"
    permission = "read"
    examples = ("builder:report blog",)

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            found = await property_rows(ctx, app, noun="builder")
            return {**found, **(await _of_last_build(ctx, app) if app else {})}

        return await report(ctx, self, noun="builder", asked=self.row, rows=rows)


class BuilderPlan(Command, frozen=True, kw_only=True):
    """Print the Dockerfile that a build of the deploy branch follows, without building.

    Committed as Dockerfile, it is yours to change: the app is built by it from then on. What would be said in the
    push goes to standard error. A base image that is not on the machine is fetched, to see whether it can be had.
    """

    name = "builder:plan"
    permission = "read"
    examples = ("builder:plan blog > Dockerfile",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Read the tip of the deploy branch, and choose as a build would."""
        app = ctx.app
        branch = await ctx.database.read.properties.effective(app.id, "git.deploy-branch") or ""
        tip = await ctx.source.tip(app.id, branch) if branch else None
        if tip is None:
            raise UserError("source.nothing-pushed", f"Nothing was pushed to {app.name} yet.", "Push it: git push")
        tree = ctx.source.tree(app.id, tip)
        options = await build_options(ctx.database.read, app=app.id, name=app.name)
        choice = await ctx.choose(tree, options)
        said = [f"{INDENT}{choice.builder.name}: {choice.why}"]
        try:
            text = await choice.builder.dockerfile(tree, options, said.append)
        except BuildFailed as error:
            raise UserError("build.failed", str(error)) from error
        if not (ctx.options.quiet or ctx.options.as_json):
            await ctx.screen.lines(said, to_stderr=True)
        # It may be the app's own Dockerfile, which needs no escape sequence, and ssh asks for no terminal here.
        return Raw(text=sanitise.plain(text))


async def _of_last_build(ctx: Context, app: AppRow) -> Rows:
    plans = [deploy.plan for deploy in await ctx.database.read.deploys.of_app(app.id, limit=_LOOKED_AT) if deploy.plan]
    last = next((plan for plan in plans if plan.builder), None)
    return {
        "builder-detected": last.builder if last else "",
        "builder-detected-because": last.builder_why if last else "",
        "builder-built-on": "; ".join(last.builder_on) if last else "",
    }
