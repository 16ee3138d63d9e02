"""``git:sync``: what is deployed comes from a repository elsewhere."""

from __future__ import annotations

from typing import Annotated

from agent.commands import deploying, sources
from agent.commands.arguments import App, Argument, Flag
from agent.commands.command import Command, Context
from agent.commands.replies import INDENT, STEP, WARNING, Done, Json, Reply
from agent.commands.waiting import while_there
from agent.errors import UserError
from agent.lifecycle import remotes
from agent.ports.remotes import Fetched, Wanted, parse_address
from agent.state.deploys import Deploy


class GitSync(Command, frozen=True, kw_only=True):
    """Fetch an app's source from a repository elsewhere, over https or ssh.

    With --build it is deployed as a push would be, with --build-if-changes only if it is not what was deployed last;
    with neither it waits for ps:rebuild. Submodules are fetched with it. A branch that is named becomes the deploy
    branch; what is no branch goes onto the deploy branch. History that was rewritten there is rewritten here.

    Servers that do not let everybody in: git:auth for https, git:generate-deploy-key and git:allow-host for ssh.
    """

    name = "git:sync"
    permission = "change"
    examples = (
        "git:sync --build blog https://example.com/team/blog.git main",
        "git:sync --build-if-changes blog git@example.com:team/blog.git",
    )

    app: App
    url: Annotated[str, Argument(help="Where it is: https://…, ssh://… or user@host:path.")]
    ref: Annotated[
        str, Argument(help="A branch, tag or whole commit id; else the deploy branch, or what is checked out there.")
    ] = ""
    build: Annotated[bool, Flag(names=("--build",), help="Deploy it, whatever was deployed last.")] = False
    build_if_changes: Annotated[
        bool, Flag(names=("--build-if-changes",), help="Deploy it, unless it was deployed last.")
    ] = False
    skip_deploy_branch: Annotated[
        bool, Flag(names=("--skip-deploy-branch",), help="Put it onto the deploy branch, which stays what it is.")
    ] = False

    async def run(self, ctx: Context) -> Reply:
        """Fetch, then take on the deploy if one is wanted."""
        app, read = ctx.app, ctx.database.read
        address = parse_address(self.url)
        if self.build and self.build_if_changes:
            message = "--build and --build-if-changes do not go together."
            raise UserError("argument.conflict", message, "Say one of them.")
        await ctx.door.admit_push("a sync")
        deploy_branch = await sources.branch_of(read, app)
        ref = self.ref or await read.properties.get(app.id, sources.DEPLOY_BRANCH) or ""
        wanted = Wanted(
            address=address,
            ref=ref,
            onto=deploy_branch if self.skip_deploy_branch else "",
            otherwise=deploy_branch,
        )
        await ctx.progress(f"{STEP}Fetching {app.name} from {address.url}{'#' + ref if ref else ''}")
        access = await remotes.access(read, app=app.id)
        fetching = ctx.remotes.fetch(app.id, wanted, access=access, tell=ctx.progress)
        fetched = await while_there(ctx.session, fetching)
        await ctx.source.sync(app.id)
        await _tell(ctx, fetched)
        becomes = fetched.kind == "branch" and not self.skip_deploy_branch
        deploy = await self._settle(ctx, fetched, becomes=becomes, url=address.url)
        facts: dict[str, Json] = {
            "app": app.name,
            "branch": fetched.branch,
            "commit": fetched.commit,
            "changed": fetched.commit != fetched.before,
            "notes": list(fetched.notes),
        }
        if deploy is not None:
            await sources.say_deploying(ctx, fetched.commit)
            return await deploying.show(ctx, deploy, facts=facts)
        return Done(said=await self._outcome(ctx, fetched), facts={**facts, "deploy": None})

    async def _settle(self, ctx: Context, fetched: Fetched, *, becomes: bool, url: str) -> Deploy | None:
        """Record what the fetch leads to: the deploy branch, and the deploy if there is one."""
        why = f"sync of {fetched.name if fetched.kind != 'commit' else fetched.commit[:8]} from {url}"
        # Before the commit, as for a push: who dies in between has a HEAD that no deploy made yet, and nobody minds.
        if becomes or await ctx.database.read.properties.get(ctx.app.id, sources.DEPLOY_BRANCH) is None:
            await ctx.source.set_head(ctx.app.id, fetched.branch)
        async with ctx.database.transaction() as tx:
            app = await sources.must_stand(tx, ctx)
            newest = await tx.deploys.newest_of_source(app.id)
            is_new = newest is None or newest.commit_id != fetched.commit
            if self.build or (self.build_if_changes and (is_new or (newest is not None and not newest.is_over))):
                return await sources.accept_tip(
                    tx, ctx=ctx, branch=fetched.branch, tip=fetched.commit, why=why, becomes_deploy_branch=becomes
                )
            await sources.set_branch(tx, app=app, branch=fetched.branch, replaces=becomes)
        return None

    async def _outcome(self, ctx: Context, fetched: Fetched) -> tuple[str, ...]:
        name = ctx.app.name
        if not self.build_if_changes:
            return (f"{INDENT}To deploy it: ps:rebuild {name}",)
        newest = await ctx.database.read.deploys.newest_of_source(ctx.app.id)
        said = "Skipping build as no changes were detected"
        if newest is not None and newest.status == "failed":
            return (said, f"{WARNING}Its deploy {newest.id} has failed. To build it again: ps:rebuild {name}")
        return (said, f"{INDENT}To build it again: ps:rebuild {name}")


async def _tell(ctx: Context, fetched: Fetched) -> None:
    for note in fetched.notes:
        await ctx.progress(f"{WARNING}{note}")
    if fetched.before == fetched.commit:
        await ctx.progress(f"{INDENT}{fetched.branch} is at {fetched.commit[:8]} already: nothing has changed there")
        return
    told = await ctx.source.describe(ctx.app.id, fetched.commit)
    if fetched.is_rewritten and fetched.before and fetched.name == fetched.branch:
        await ctx.progress(
            f"{WARNING}{fetched.name} was rewritten there: {fetched.before[:8]} is no part of it any more"
        )
    await ctx.progress(f"{INDENT}{fetched.branch} is at {fetched.commit[:8]} now: {told.subject if told else ''}")
