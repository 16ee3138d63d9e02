"""``repo:*``: an app's repository, and what its builds have left for the next ones."""

from __future__ import annotations

from agent.commands.arguments import App
from agent.commands.command import Command, Context
from agent.commands.replies import INDENT, STEP, Done, Reply
from agent.lifecycle.building import purge_cache
from agent.lifecycle.cleaning import told
from agent.lifecycle.kept_commits import kept_commits


class RepoGc(Command, frozen=True, kw_only=True):
    """Repack an app's repository, and drop what nothing has reached for three months.

    Pushes of the app wait until it is done, and it waits for one under way. This happens by itself, too, when there
    is much to repack.
    """

    name = "repo:gc"
    permission = "change"
    examples = ("repo:gc blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Have git do it."""
        await ctx.progress(f"{STEP}Repacking the repository of {ctx.app.name}")
        before = (await ctx.disks.folders(ctx.app.id))["repository"]
        await ctx.source.collect(ctx.app.id, kept=await kept_commits(ctx.database.read, ctx.app.id))
        after = (await ctx.disks.folders(ctx.app.id))["repository"]
        said = f"{INDENT}It took {told(before)} and takes {told(after)} now."
        return Done(said=(said,), facts={"bytes_before": before, "bytes": after})


class RepoPurgeCache(Command, frozen=True, kw_only=True):
    """Have an app's next build begin from nothing: no cached step, no downloads of a package manager.

    For when a build goes wrong and should not. What buildpacks have kept is removed, but what a build under way uses.
    Docker frees the space of what else is not used any more when it is needed.
    """

    name = "repo:purge-cache"
    permission = "change"
    examples = ("repo:purge-cache blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Note it; builds from now on use nothing from before."""
        async with ctx.database.transaction() as tx:
            await purge_cache(tx, app=ctx.app.id)
        count = await ctx.workshops.remove(ctx.app.id)
        name = ctx.app.name
        said = f"The next build of {name} uses nothing from the cache. Build now: ps:rebuild {name}"
        removed = (f"Volumes of buildpacks removed: {count}",) if count else ()
        return Done(said=(*removed, said), facts={"app": name, "volumes": count})
