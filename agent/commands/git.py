"""``git:*``: what is deployed from where."""

from __future__ import annotations

import re
from typing import Annotated

from agent.commands import deploying, settings
from agent.commands.arguments import App, Argument, quoted
from agent.commands.command import Command, Context
from agent.commands.deploying import Wish
from agent.commands.replies import STEP, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.settings import property_rows
from agent.errors import UserError
from agent.lifecycle.properties import Property
from agent.state.apps import App as AppRow

_IMAGE = re.compile(
    r"(?=.{1,400}\Z)[A-Za-z0-9][A-Za-z0-9._:-]*(/[a-z0-9._-]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
"""References as the engine reads them, roughly; it has the last word."""


class GitSet(settings.SetCommand, frozen=True, kw_only=True):
    """Set how pushes are deployed."""

    name = "git:set"
    noun = "git"
    examples = ("git:set blog deploy-branch main",)

    async def stored(self, ctx: Context, property: Property, value: str | None) -> None:
        """Have clones check out the deploy branch, and git refuse to delete it."""
        if property.key == "deploy-branch" and value and ctx.maybe_app:
            await ctx.source.set_head(ctx.app.id, value)


class GitReport(Command, frozen=True, kw_only=True):
    """Report what is deployed from where."""

    name = "git:report"
    permission = "read"

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database and the repository."""

        async def rows(app: AppRow | None) -> Rows:
            found = await property_rows(ctx, app, noun="git")
            return {**found, **(await _rows(ctx, app, branch=found["git-computed-deploy-branch"]) if app else {})}

        return await report(ctx, self, noun="git", asked=self.row, rows=rows)


class GitFromImage(Command, frozen=True, kw_only=True):
    """Deploy an image that exists, in the engine or in a registry.

    It replaces what was pushed, until the next push.
    """

    name = "git:from-image"
    permission = "change"
    examples = ("git:from-image blog registry.example.com/blog:1.2",)

    app: App
    image: Annotated[str, Argument(help="The image's name, with tag or digest.")]

    async def run(self, ctx: Context) -> Reply:
        """Take on a deploy of the image."""
        if not _IMAGE.fullmatch(self.image):
            raise UserError("image.invalid", f"{quoted(self.image)} is not an image's name.", "Write it as: nginx:1.27")
        wish = Wish(kind="image", why=f"Deployed {self.image}", image=self.image)
        async with ctx.database.transaction() as tx:
            deploy = await deploying.accept(tx, ctx=ctx, app=ctx.app.id, wish=wish)
        await ctx.progress(f"{STEP}Deploying {self.image} as {ctx.app.name}")
        return await deploying.show(ctx, deploy)


async def _rows(ctx: Context, app: AppRow, *, branch: str) -> Rows:
    tip = await ctx.source.tip(app.id, branch) if branch else None
    release = await ctx.database.read.releases.get(app.id, app.live_release) if app.live_release else None
    newest = await ctx.database.read.deploys.newest(app.id)
    return {
        "git-branches": " ".join(await ctx.source.branches(app.id)),
        "git-last-updated-at": str(int(newest.created_at)) if newest else "",
        "git-live-sha": (release.commit_id or "") if release else "",
        "git-sha": tip or "",
        "git-source-image": (newest.image or "") if newest and newest.kind == "image" else "",
    }
