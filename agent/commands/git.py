"""``git:*``: what is deployed from where."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from agent import sanitise
from agent.commands import deploying, settings, sources
from agent.commands.arguments import App, Argument, Option, quoted
from agent.commands.command import Command, Context
from agent.commands.deploying import Wish
from agent.commands.replies import HEADING, INDENT, STEP, WARNING, Done, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.settings import property_rows
from agent.errors import UserError
from agent.lifecycle import registries, remotes
from agent.lifecycle.properties import Property
from agent.ports.registries import digest_in, login_for, registry_of
from agent.ports.source import ArchiveCommit, ArchiveKind
from agent.state.apps import App as AppRow
from agent.state.deploys import Deploy
from agent.state.releases import Release
from proto.names import DeployId

MAX_BRANCHES = 50
"""Shown by git:status: each is two questions to git."""

_NAME = 100
"""Characters that are kept of a name and of an address."""

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
    examples = ("git:report blog", "git:report blog --git-sha")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database and the repository."""

        async def rows(app: AppRow | None) -> Rows:
            found = await property_rows(ctx, app, noun="git")
            found |= await _elsewhere(ctx, app) | _archive_rows(ctx, is_of_app=app is not None)
            return {**found, **(await _rows(ctx, app, branch=found["git-computed-deploy-branch"]) if app else {})}

        return await report(ctx, self, noun="git", asked=self.row, rows=rows)


class GitInitialize(Command, frozen=True, kw_only=True):
    """Make an app's repository, where it is not there yet.

    Pushes, archives and git:sync do it by themselves. Repeating is harmless.
    """

    name = "git:initialize"
    permission = "change"
    examples = ("git:initialize blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Make it."""
        await ctx.source.create(ctx.app.id)
        return Done(said=(f"The repository of {ctx.app.name} is there",), facts={"app": ctx.app.name})


class GitStatus(Command, frozen=True, kw_only=True):
    """Show an app's branches, which of them deploys, and whether what it holds is live."""

    name = "git:status"
    permission = "read"
    examples = ("git:status blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database and the repository."""
        app, read = ctx.app, ctx.database.read
        branch = await read.properties.effective(app.id, sources.DEPLOY_BRANCH) or ""
        names = sorted(await ctx.source.branches(app.id), key=lambda name: (name != branch, name))
        heads = {name: await ctx.source.tip(app.id, name) or "" for name in names[:MAX_BRANCHES]}
        live = await read.releases.get(app.id, app.live_release) if app.live_release else None
        commit = (live.commit_id or "") if live else ""
        tip = heads.get(branch, "")
        said = [f"{HEADING}{app.name} git status"]
        for name, head in heads.items():
            told = await ctx.source.describe(app.id, head)
            mark = "*" if name == branch else " "
            said.append(f"{INDENT}{mark} {name} {head[:8]} {told.subject if told else ''}".rstrip())
        if len(names) > MAX_BRANCHES:
            said.append(f"{INDENT}  … and {len(names) - MAX_BRANCHES} more")
        if not heads:
            said.append(f"{INDENT}There is no branch yet.")
        said.append(f"{INDENT}{_live_line(live)}")
        is_dirty = bool(tip) and tip != commit
        if is_dirty:
            said.append(f"{WARNING}{branch} is at {tip[:8]}, which is not live. To deploy it: ps:rebuild {app.name}")
        facts = {"deploy_branch": branch, "branches": heads, "live_sha": commit, "is_dirty": is_dirty}
        return Done(said=tuple(said), facts={"app": app.name, **facts})


class _OfImage(Command, frozen=True, kw_only=True):
    """Deploys an image that exists."""

    permission = "change"
    app: App
    image: Annotated[str, Argument(help="The image's name, with tag or digest.")]
    author: Annotated[str, Argument(help="For whom it is deployed, noted beside your key's name.", metavar="name")] = ""
    email: Annotated[str, Argument(help="And their address.")] = ""
    build_dir: Annotated[
        str, Option(names=("--build-dir",), help="Refused: nothing is added to an image.", metavar="folder")
    ] = ""

    def check(self) -> None:
        """Refuse what is no image, and what would be added to it."""
        if not _IMAGE.fullmatch(self.image):
            raise UserError("image.invalid", f"{quoted(self.image)} is not an image's name.", "Write it as: nginx:1.27")
        if self.build_dir:
            raise UserError(
                "image.build-dir",
                "An image is deployed as it is: no folder can be added to it.",
                f"For a Procfile or app.json beside it, push both with a Dockerfile that says: FROM {self.image}",
            )

    def why(self, verb: str) -> str:
        """Return what is noted as the reason. Whose key asked is noted in any case: nobody can sign for another."""
        who = f"{self.author[:_NAME]} <{self.email[:_NAME]}>" if self.email else self.author[:_NAME]
        return f"{verb} {self.image} for {who}" if who else f"{verb} {self.image}"

    def unchanged(self, ctx: Context, *, again: str) -> Reply:
        """Return what is said of an image that is live already. `again`: the command that deploys it all the same."""
        said = f"No changes detected: {ctx.app.name} runs {self.image} already"
        facts = {"app": ctx.app.name, "changed": False}
        return Done(said=(said, f"{INDENT}To deploy it once more: {again}"), facts=facts)


class GitFromImage(_OfImage, frozen=True, kw_only=True):
    """Deploy an image that exists, in the engine or in a registry, as a Procfile and an app.json in it say.

    It replaces what was pushed, until the next push. The release is of just that image, whatever its tag means later.
    What is live already, as its digest, the engine or its registry tells, is not deployed again without --force. There
    is no commit to sign: name and address go into the reason that releases show, beside the name of your key.
    """

    name = "git:from-image"
    examples = (
        "git:from-image blog registry.example.com/blog:1.2",
        "git:from-image blog nginx:1.27 ann ann@example.com",
    )

    async def run(self, ctx: Context) -> Reply:
        """Take on a deploy of the image."""
        self.check()
        wish = Wish(kind="image", why=self.why("Deployed"), image=self.image)
        if not ctx.options.force and await _is_live(ctx, wish):
            return self.unchanged(ctx, again=f"git:from-image {ctx.app.name} {self.image} --force")
        async with ctx.database.transaction() as tx:
            deploy = await deploying.accept(tx, ctx=ctx, app=ctx.app.id, wish=wish)
        await ctx.progress(f"{STEP}Deploying {self.image} as {ctx.app.name}")
        return await deploying.show(ctx, deploy)


class GitLoadImage(_OfImage, frozen=True, kw_only=True):
    """Deploy an image that docker save wrote, from standard input, as a Procfile and an app.json in it say.

    For images that no registry has. The engine gets that image alone, under a name of Pushboat's own: names in the
    archive move nothing that is there. It replaces what was pushed, until the next push. What is live already is not
    deployed again without --force.
    """

    name = "git:load-image"
    examples = ("git:load-image blog blog:1.2 < blog.tar",)

    async def run(self, ctx: Context) -> Reply:
        """Give the image to the engine, then take on its deploy."""
        self.check()
        _need_input(ctx, f"git:load-image {ctx.app.name} {self.image} < image.tar")
        await ctx.door.admit_build("an image")
        await ctx.progress(f"{STEP}Reading the image {self.image} from standard input")
        id_ = DeployId(ctx.ids.new("d"))
        tag = ctx.images.tag_for(ctx.app.id, id_)
        async with aclosing(_input(ctx)) as upload:
            image = await ctx.images.load(upload, name=self.image, tag=tag)
        wish = Wish(kind="image", why=self.why("Loaded"), image=image.id, id=id_)
        try:
            if not ctx.options.force and await _is_live(ctx, wish):
                await ctx.images.untag(tag)
                return self.unchanged(ctx, again=f"git:load-image {ctx.app.name} {self.image} --force < image.tar")
            async with ctx.database.transaction() as tx:
                await sources.must_stand(tx, ctx)
                deploy = await deploying.accept(tx, ctx=ctx, app=ctx.app.id, wish=wish)
        except UserError:
            await ctx.images.untag(tag)
            raise
        await ctx.progress(f"{STEP}Deploying {self.image} as {ctx.app.name}")
        return await deploying.show(ctx, deploy)


class GitFromArchive(Command, frozen=True, kw_only=True):
    """Deploy the files of an archive: tar, tar.gz or zip, from standard input or a URL.

    They become a commit on the deploy branch, in place of all files that were there; its history stays. A single
    folder that holds everything is taken for the root, and a .git in it is left out. Nothing is taken of an archive
    with members that lead out of it, or that unfolds to more than may be pushed. What is live already is not deployed
    again without --force.
    """

    name = "git:from-archive"
    permission = "change"
    examples = (
        "git:from-archive blog https://example.com/blog-1.2.tar.gz",
        "git:from-archive blog < blog.zip",
    )

    app: App
    url: Annotated[str, Argument(help="Where it is; standard input if left out.")] = ""
    author: Annotated[str, Argument(help="Whose name the commit bears; your key's.", metavar="name")] = ""
    email: Annotated[str, Argument(help="And whose address.")] = ""
    archive_type: Annotated[
        ArchiveKind | None,
        Option(names=("--archive-type",), help="What it is; seen by itself if left out.", metavar="type"),
    ] = None

    async def run(self, ctx: Context) -> Reply:
        """Make the commit, then take on its deploy."""
        where = sanitise.without_query(self.url) if self.url else "standard input"
        if not self.url:
            _need_input(ctx, f"git:from-archive {ctx.app.name} < app.tar.gz")
        await ctx.door.admit_push("an archive")
        await ctx.progress(f"{STEP}Reading the archive from {where}")
        branch = await sources.branch_of(ctx.database.read, ctx.app)
        commit = ArchiveCommit(
            branch=branch,
            kind=self.archive_type,
            author=self.author or ctx.user.name,
            email=self.email,
            message=f"Archive from {where}",
            at=ctx.clock.now(),
        )
        upload = ctx.downloads.fetch(self.url) if self.url else _input(ctx)
        async with aclosing(upload):
            tip = await ctx.source.import_archive(ctx.app.id, upload, commit)
        await ctx.source.sync(ctx.app.id)
        deploy = await _deploy_tip(ctx, branch=branch, tip=tip, why=f"archive from {where}")
        if deploy is None:
            said = f"No changes detected: {ctx.app.name} runs just what the archive holds"
            hint = f"{INDENT}To build it once more: ps:rebuild {ctx.app.name}"
            return Done(said=(said, hint), facts={"app": ctx.app.name, "changed": False})
        return await deploying.show(ctx, deploy)


def _live_line(live: Release | None) -> str:
    if live is None:
        return "Nothing is live yet."
    return f"Live: v{live.version}, {live.commit_id[:8] if live.commit_id else 'from an image'}"


async def _is_live(ctx: Context, wish: Wish) -> bool:
    """Tell whether the image is what is live, and nothing else is on its way."""
    app, read = ctx.app, ctx.database.read
    newest = await read.deploys.newest_of_source(app.id)
    live = await read.releases.get(app.id, app.live_release) if app.live_release else None
    if live is None or newest is None or newest.kind != "image" or await read.deploys.under_way(app.id):
        return False
    if newest.status != "live" or newest.image != live.image or wish.image is None:
        return False
    pinned = digest_in(live.plan.digest)
    if digest_in(wish.image):
        return digest_in(wish.image) == pinned or newest.why == wish.why
    if found := await ctx.images.find(wish.image):
        return found.id == live.image
    if not pinned:
        return False
    await ctx.progress(f"{STEP}Asking {registry_of(wish.image)} whether {wish.image} has changed")
    login = login_for(wish.image, await registries.logins(read, app.id))
    return await ctx.registries.digest(wish.image, login=login) == pinned


def _need_input(ctx: Context, example: str) -> None:
    if ctx.session.is_tty:
        raise UserError("archive.no-input", "There is nothing on standard input.", f"Give a file: {example}")


async def _input(ctx: Context) -> AsyncGenerator[bytes, None]:
    while data := await ctx.session.read():
        yield data


async def _deploy_tip(ctx: Context, *, branch: str, tip: str, why: str) -> Deploy | None:
    """Take on the deploy of the branch's tip; one that is under way is returned. `None`: it is live already.

    Raises:
        UserError: ``app.destroyed``.
    """
    app = ctx.app
    # Before the commit, as for a push: who dies in between has a HEAD that no deploy made yet, and nobody minds.
    await ctx.source.set_head(app.id, branch)
    async with ctx.database.transaction() as tx:
        row = await sources.must_stand(tx, ctx)
        live = await tx.releases.get(app.id, row.live_release) if row.live_release else None
        is_live = not await tx.deploys.under_way(app.id) and live is not None and live.commit_id == tip
        if is_live and not ctx.options.force:
            return None
        deploy = await sources.accept_tip(tx, ctx=ctx, branch=branch, tip=tip, why=why)
    await sources.say_deploying(ctx, tip)
    return deploy


async def _elsewhere(ctx: Context, app: AppRow | None) -> dict[str, str]:
    """Return the rows about git servers elsewhere: names and fingerprints, nothing that is secret."""
    read = ctx.database.read
    rows = {
        "git-global-auth-hosts": " ".join(f"{user}@{host}" for host, user in (await read.logins.users()).items()),
        "git-global-allowed-hosts": " ".join(await read.host_keys.all()),
    }
    if app is None:
        return rows
    key = await read.deploy_keys.get(app.id)
    return {**rows, "git-deploy-key": remotes.fingerprint(key.public) if key else ""}


def _archive_rows(ctx: Context, *, is_of_app: bool) -> dict[str, str]:
    """Return what ``git:from-archive`` takes, which is a setting of the server."""
    scopes = ("global", "computed") if is_of_app else ("global",)
    limits = {"files": ctx.server.archive_files, "size": ctx.server.archive_bytes}
    return {f"git-{scope}-archive-max-{what}": str(limit) for scope in scopes for what, limit in limits.items()}


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
