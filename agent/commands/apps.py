"""``apps:*``: create, list, rename, destroy and describe apps."""

from __future__ import annotations

import asyncio
import posixpath
from typing import Annotated

from agent.commands.arguments import App, Argument, Flag
from agent.commands.caveats import STORED, tell_if_docker_is_silent
from agent.commands.command import Command, Context
from agent.commands.replies import INDENT, Done, Listing, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, flag, report
from agent.commands.urls import in_urls
from agent.commands.waiting import wait_until
from agent.errors import UserError
from agent.lifecycle import apps, domains
from agent.state.apps import App as AppRow
from proto.names import AppId, AppName

REMOVAL_SECONDS = 120.0
"""How long ``apps:destroy`` waits until nothing is left. Stopping takes 30 s by default; after that the removal goes
on without anybody who watches."""


class AppsCreate(Command, frozen=True, kw_only=True):
    """Create an app that accepts pushes.

    Names have lower-case letters, digits and - , and dots between such labels. A name with a dot is a domain at the
    same time.
    """

    name = "apps:create"
    permission = "change"
    examples = ("apps:create blog",)

    app_name: Annotated[AppName, Argument(help="Its name.", metavar="name", is_new_app=True)]

    async def run(self, ctx: Context) -> Reply:
        """Make the repository, then the app."""
        # The repository first: a crash in between leaves an empty folder that nothing names, whereas an app without
        # a repository could never be pushed to.
        app = AppId(ctx.ids.new("a"))
        await ctx.source.create(app)
        try:
            async with ctx.database.transaction() as tx:
                await apps.create(tx, app=app, name=self.app_name, by=ctx.user.name)
        except UserError:
            await ctx.source.remove(app)
            raise
        remote = remote_of(ctx, self.app_name)
        return Done(
            said=(f"Creating {self.app_name}...", f"{INDENT}git remote add pushboat {remote}"),
            facts={"app": self.app_name, "remote": remote},
        )


class AppsList(Command, frozen=True, kw_only=True):
    """List the apps."""

    name = "apps:list"
    permission = "read"
    examples = ("apps:list", "apps:list --quiet", "apps:list --format json")

    async def run(self, ctx: Context) -> Reply:
        """Answer from one query."""
        names, _ = await asyncio.gather(ctx.database.read.apps.names(), tell_if_docker_is_silent(ctx))
        return Listing(title="My Apps", names=tuple(names), empty="None yet. Push one, or: apps:create <name>")


class AppsExists(Command, frozen=True, kw_only=True):
    """Tell by the exit status whether an app exists: 0, or 20 if not."""

    name = "apps:exists"
    permission = "read"
    examples = ("apps:exists blog && echo yes",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Get here only if it does."""
        return Done(said=(f"{ctx.app.name} exists",), facts={"app": ctx.app.name, "exists": True})


class AppsRename(Command, frozen=True, kw_only=True):
    """Give an app another name.

    What it runs is not touched, and its own domains stay. The names that it has under the global domains follow.
    """

    name = "apps:rename"
    permission = "change"
    examples = ("apps:rename blog journal",)

    app: App
    new_name: Annotated[AppName, Argument(help="Its new name.")]
    is_draft: Annotated[
        bool, Flag(names=("--skip-deploy",), help="Understood for Dokku's sake; a rename deploys nothing.")
    ] = False

    async def run(self, ctx: Context) -> Reply:
        """Change the name; the routes follow by the event."""
        async with ctx.database.transaction() as tx:
            await apps.rename(tx, app=ctx.app, name=self.new_name)
        remote = remote_of(ctx, self.new_name)
        return Done(
            said=(
                f"Renaming {ctx.app.name} to {self.new_name}",
                f"{INDENT}git remote set-url pushboat {remote}",
            ),
            facts={"app": self.new_name, "old": ctx.app.name, "remote": remote},
        )


class AppsDestroy(Command, frozen=True, kw_only=True):
    """Destroy an app with all that belongs to it: repository, releases, config, domains, logs."""

    name = "apps:destroy"
    permission = "change"
    destroys = True
    examples = ("apps:destroy blog", "apps:destroy blog --force")

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Take it from its users at once, and wait until nothing is left of it."""
        app = ctx.app
        await ctx.confirm("app", name=app.name)
        await ctx.progress(f"-----> Destroying {app.name} (including all that belongs to it)")
        async with ctx.database.transaction() as tx:
            await apps.destroy(tx, app=app)

        await tell_if_docker_is_silent(ctx, STORED)

        async def is_gone() -> bool:
            return await ctx.database.read.apps.get(app.id) is None

        facts = {"app": app.name, "destroyed": True}
        if await wait_until(ctx, app=app.id, condition=is_gone, seconds=REMOVAL_SECONDS):
            return Done(said=(f"{INDENT}Nothing of it is left.",), facts=facts)
        return Done(
            said=(f"{INDENT}It is destroyed. What it ran is still being removed; that goes on by itself.",),
            facts=facts,
        )


class AppsReport(Command, frozen=True, kw_only=True):
    """Describe an app, or all of them."""

    name = "apps:report"
    aliases = ("apps:info",)
    permission = "read"
    examples = ("apps:report blog", "apps:report blog --app-live-release", "apps:report --format json")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            server = {"app-global-disable-autocreation": flag(not ctx.server.creates_apps)}
            return server if app is None else {**server, **(await _rows(ctx, app))}

        return await report(ctx, self, noun="app", asked=self.row, rows=rows)


async def _rows(ctx: Context, app: AppRow) -> Rows:
    read = ctx.database.read
    deploy = await read.deploys.newest(app.id)
    release = await read.releases.get(app.id, app.live_release) if app.live_release else None
    return {
        "app-created-at": str(int(app.created_at)),
        "app-created-by": app.created_by,
        "app-deploy-source": deploy.kind if deploy else "",
        "app-deploy-source-metadata": (deploy.commit_id or deploy.image or "") if deploy else "",
        "app-deploy-status": deploy.status if deploy else "",
        "app-dir": posixpath.join(ctx.server.repositories, app.id),
        "app-id": app.id,
        "app-live-commit": (release.commit_id or "") if release else "",
        "app-live-release": f"v{app.live_release}" if app.live_release else "",
        # Nothing locks an app here; Dokku's scripts ask all the same.
        "app-locked": flag(False),
        "app-stopped": flag(app.is_stopped),
        "app-urls": " ".join(in_urls(await domains.of_app(read, app), server=ctx.server)),
    }


def remote_of(ctx: Context, name: str) -> str:
    """Return the URL to push an app to."""
    host = ctx.server.host or "<server>"
    port = "" if ctx.server.ssh_port == 22 else f":{ctx.server.ssh_port}"
    return f"ssh://pushboat@{host}{port}/{name}"
