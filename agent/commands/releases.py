"""``releases``, ``releases:*``: what was made live, and the way back to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from agent.commands import deploying
from agent.commands.arguments import App, Argument, Flag, Option, Version
from agent.commands.command import Command, Context
from agent.commands.deploying import Wish
from agent.commands.replies import HEADING, INDENT, STEP, Json, Reply, Table
from agent.commands.times import ago, stamp
from agent.errors import Unavailable, UserError
from agent.sanitise import MASK
from agent.state.releases import Release


class ReleaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A release, for scripts."""

    version: int
    is_live: bool
    image: str
    digest: str
    """Its name by digest, if it came from a registry."""
    commit: str | None
    processes: dict[str, str | None]
    """Command by process type; null: the image's own."""
    config_keys: list[str]
    deploy: str
    by: str
    why: str
    created_at: float
    live_at: float | None
    can_roll_back: bool


class Releases(Command, frozen=True, kw_only=True):
    """List an app's releases, the newest first."""

    name = "releases"
    aliases = ("releases:list",)
    permission = "read"
    examples = ("releases blog", "releases blog -n 5 --format json")

    app: App
    count: Annotated[int, Option(names=("-n", "--num"), help="How many; 20.", metavar="count")] = 20

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        found = await ctx.database.read.releases.of_app(ctx.app.id, limit=self.count)
        now = ctx.clock.now()
        return Table(
            title=f"Releases of {ctx.app.name}",
            columns=("RELEASE", "STATUS", "COMMIT", "WHEN", "BY", "WHY"),
            rows=tuple(
                (
                    f"v{release.version}",
                    _status(release, live=ctx.app.live_release),
                    (release.commit_id or "")[:12],
                    ago(release.created_at, now=now),
                    release.by,
                    release.why,
                )
                for release in found
            ),
            data=[msgspec.to_builtins(await _facts(ctx, release)) for release in found]
            if ctx.options.as_json
            else None,
            empty="None yet. Deploy with: git push",
        )


class ReleaseShown(Reply, frozen=True, kw_only=True):
    """One release."""

    app: str
    release: ReleaseFacts

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield what it is made of and where it came from."""
        release = self.release
        yield f"{HEADING}Release v{release.version} of {self.app}"
        for key, value in (
            ("Live", "yes" if release.is_live else "no"),
            ("Image", release.image),
            ("From", release.digest),
            ("Commit", release.commit or ""),
            ("Deploy", release.deploy),
            ("By", release.by),
            ("Why", release.why),
            ("Created at", stamp(release.created_at)),
            ("First live at", stamp(release.live_at) if release.live_at else ""),
            ("Image kept", "yes" if release.can_roll_back else "no"),
            ("Config keys", " ".join(release.config_keys)),
            *((f"Process {process}", command or "(the image's own)") for process, command in release.processes.items()),
        ):
            if value:
                yield f"{INDENT}{key}:".ljust(24) + value

    def json(self) -> Json:
        """Return its facts."""
        return msgspec.to_builtins(self.release)


class ReleasesInfo(Command, frozen=True, kw_only=True):
    """Show one release: what it is made of, who made it, and why."""

    name = "releases:info"
    permission = "read"
    examples = ("releases:info blog v3",)

    app: App
    version: Annotated[Version | None, Argument(help="The release; the live one if left out.", metavar="v3")] = None

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        release = await find_release(ctx, self.version)
        return ReleaseShown(app=ctx.app.name, release=await _facts(ctx, release))


class Difference(msgspec.Struct, frozen=True):
    """Something that two releases do not have in common."""

    what: str
    old: str | None
    new: str | None


class Differences(Reply, frozen=True, kw_only=True):
    """All that two releases do not have in common."""

    title: str
    differences: tuple[Difference, ...]

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield a line with - for what goes and one with + for what comes."""
        if not quiet:
            yield f"{HEADING}{self.title}"
        if not self.differences:
            yield f"{INDENT}They are the same."
        for difference in self.differences:
            if difference.old is not None:
                yield f"- {difference.what}: {difference.old}"
            if difference.new is not None:
                yield f"+ {difference.what}: {difference.new}"

    def json(self) -> Json:
        """Return the differences."""
        return [msgspec.to_builtins(difference) for difference in self.differences]


class ReleasesDiff(Command, frozen=True, kw_only=True):
    """Compare two releases: image, commit, processes and config.

    Values of config are masked unless asked for.
    """

    name = "releases:diff"
    permission = "read"
    examples = ("releases:diff blog v3 v5", "releases:diff blog v3 v5 --values")

    app: App
    old: Annotated[Version, Argument(help="The older release.", metavar="v3")]
    new: Annotated[Version | None, Argument(help="The newer one; the live one if left out.", metavar="v5")] = None
    has_values: Annotated[bool, Flag(names=("--values",), help="Show the values of config.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Compare what is stored of both."""
        old, new = await find_release(ctx, self.old), await find_release(ctx, self.new)
        configs = ctx.database.read.configs
        old_config = await configs.get(ctx.app.id, release=old.version)
        new_config = await configs.get(ctx.app.id, release=new.version)
        found = [
            *_differences(_plain_facts(old), _plain_facts(new)),
            *_differences(old_config, new_config, prefix="config ", is_masked=not self.has_values),
        ]
        return Differences(title=f"{ctx.app.name} from v{old.version} to v{new.version}", differences=tuple(found))


class ReleasesRollback(Command, frozen=True, kw_only=True):
    """Make an older release live again, its config included.

    Without a version: the one that was live before. It becomes a new release, so a rollback can be rolled back too.
    Config keys that were set since then go; they are named before.
    """

    name = "releases:rollback"
    aliases = ("rollback",)
    permission = "change"
    examples = ("releases:rollback blog", "releases:rollback blog v41 --code-only")

    app: App
    version: Annotated[Version | None, Argument(help="The release to go back to.", metavar="v3")] = None
    is_code_only: Annotated[
        bool, Flag(names=("--code-only",), help="Go back to the older image and processes, and keep the config.")
    ] = False

    async def run(self, ctx: Context) -> Reply:
        """Take on a deploy of the older release's image."""
        version = self.version or await self._previous(ctx)
        release = await find_release(ctx, Version(version))
        if release.is_image_kept:
            await _require_image(ctx, release)
        going = [] if self.is_code_only else await _keys_that_go(ctx, version)
        wish = Wish(
            kind="rollback",
            why=f"Rolled back to v{version}" + (" (code only)" if self.is_code_only else ""),
            from_release=version,
            is_code_only=self.is_code_only,
        )
        async with ctx.database.transaction() as tx:
            deploy = await deploying.accept(tx, ctx=ctx, app=ctx.app.id, wish=wish)
        await ctx.progress(f"{STEP}Rolling {ctx.app.name} back to v{version}")
        if going:
            await ctx.progress(f"{INDENT}Config keys that go: {' '.join(going)}")
        return await deploying.show(ctx, deploy, facts={"from_release": version, "config_keys_gone": going})

    async def _previous(self, ctx: Context) -> int:
        """Return the release that was live before the live one."""
        live = ctx.app.live_release or 0
        for release in await ctx.database.read.releases.of_app(ctx.app.id):
            if release.version < live and release.live_at is not None:
                return release.version
        raise UserError(
            "release.not-found",
            f"{ctx.app.name} has no release to go back to.",
            f"See: releases {ctx.app.name}",
        )


async def find_release(ctx: Context, version: Version | None) -> Release:
    """Return a release of the command's app; the live one for `None`.

    Raises:
        UserError: ``release.not-found``.
    """
    wanted = version or ctx.app.live_release
    release = await ctx.database.read.releases.get(ctx.app.id, wanted) if wanted else None
    if release is None:
        what = f"has no release v{wanted}" if wanted else "has no live release"
        raise UserError("release.not-found", f"{ctx.app.name} {what}.", f"List them with: releases {ctx.app.name}")
    return release


async def _require_image(ctx: Context, release: Release) -> None:
    """Ask the engine whether it still has the release's image, which somebody may have removed by hand.

    Raises:
        UserError: ``release.image-missing``.
    """
    try:
        found = await ctx.images.find(release.image)
    except Unavailable:
        return  # The deploy waits for the engine, and says so.
    if found is None:
        again = f"Push its commit again: {release.commit_id}" if release.commit_id else "Get its image again"
        raise UserError(
            "release.image-missing",
            f"The image of v{release.version} is not on this machine any more: somebody has removed it.",
            f"{again}. Or pick another release: releases {ctx.app.name}",
        )


async def _facts(ctx: Context, release: Release) -> ReleaseFacts:
    config = await ctx.database.read.configs.get(ctx.app.id, release=release.version)
    return ReleaseFacts(
        version=release.version,
        is_live=release.version == ctx.app.live_release,
        image=release.image,
        digest=release.plan.digest,
        commit=release.commit_id,
        processes={plan.type: plan.command for plan in release.plan.processes},
        config_keys=sorted(config),
        deploy=release.deploy,
        by=release.by,
        why=release.why,
        created_at=release.created_at,
        live_at=release.live_at,
        can_roll_back=release.is_image_kept,
    )


async def _keys_that_go(ctx: Context, version: int) -> Sequence[str]:
    configs = ctx.database.read.configs
    then = await configs.get(ctx.app.id, release=version)
    return sorted(set(await configs.get(ctx.app.id)) - set(then))


def _status(release: Release, *, live: int | None) -> str:
    if release.version == live:
        return "live"
    if release.live_at is None:
        return "never live"
    return "kept" if release.is_image_kept else "image gone"


def _plain_facts(release: Release) -> dict[str, str]:
    facts = {"image": release.image, "commit": release.commit_id or "none"}
    return facts | {f"process {plan.type}": plan.command or "(the image's own)" for plan in release.plan.processes}


def _differences(
    old: Mapping[str, str], new: Mapping[str, str], *, prefix: str = "", is_masked: bool = False
) -> Iterable[Difference]:
    def shown(value: str | None) -> str | None:
        return MASK if is_masked and value is not None else value

    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield Difference(f"{prefix}{key}", shown(old.get(key)), shown(new.get(key)))
