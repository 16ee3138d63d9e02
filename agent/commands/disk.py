"""``disk:report``, ``cleanup``: what takes how much of the disk, and making room."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from agent.commands.arguments import Argument, Flag
from agent.commands.command import Command, Context
from agent.commands.replies import HEADING, INDENT, STEP, Json, Reply
from agent.errors import UserError
from agent.lifecycle.cleaning import Removed, Usage, missing, told
from agent.ports.disk import CacheUse, Room

FOLDERS = ("repository", "logs", "transcripts")
COLUMNS = ("app", "images", "shared", "buildpacks", *FOLDERS, "in all")


class DiskUse(Reply, frozen=True, kw_only=True):
    """What ``disk:report`` answers."""

    rooms: tuple[Room, ...]
    free_share: float
    usage: tuple[tuple[str, Usage], ...]
    """With the app's name."""
    cache: CacheUse | None = None
    """These are the server's: `None` where one app was asked for."""
    database: int = 0
    ours: int = 0
    """What counts against `max_bytes`; not added up where that is 0."""
    max_bytes: int = 0

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield the disks, and a row for each app."""
        rows = [
            (
                name,
                *map(told, (use.images, use.shared, use.buildpacks, *map(use.folders.__getitem__, FOLDERS), use.total)),
            )
            for name, use in self.usage
        ]
        if not quiet:
            for room in self.rooms:
                yield f"{HEADING}{room.path}: {told(room.free)} of {told(room.total)} free ({room.share:.0%})"
                if (lacking := missing(room, self.free_share)) > 0:
                    yield f"{INDENT}{told(lacking)} more should be: see cleanup"
            rows = [COLUMNS, *rows]
        widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))] if rows else []
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if self.cache is not None and not quiet:
            yield f"{HEADING}Of no app"
            yield f"{INDENT}Build cache of Docker, steps:    {told(self.cache.steps)}"
            yield f"{INDENT}Build cache of Docker, folders:  {told(self.cache.folders)}"
            yield f"{INDENT}Database and its backup:         {told(self.database)}"
            if self.max_bytes:
                yield f"{HEADING}Counted for max_bytes: {told(self.ours)} of {told(self.max_bytes)}"

    def json(self) -> Json:
        """Return all of it in bytes."""
        found: dict[str, Json] = {
            "disks": [{"path": room.path, "total": room.total, "free": room.free} for room in self.rooms],
            "apps": [
                {
                    "app": name,
                    "images": use.images,
                    "images_shared": use.shared,
                    "buildpacks": use.buildpacks,
                    **use.folders,
                    "total": use.total,
                }
                for name, use in self.usage
            ],
        }
        if self.cache is not None:
            found["build_cache"] = {"steps": self.cache.steps, "folders": self.cache.folders}
            found["database"] = self.database
            if self.max_bytes:
                found["budget"] = {"max_bytes": self.max_bytes, "counted_bytes": self.ours}
        return found


class DiskReport(Command, frozen=True, kw_only=True):
    """Report what takes how much of the disk, by app and kind.

    images are the layers that no other image has, shared is what an app's images have in common with others (mostly
    the base image), buildpacks is what builds by them keep for the next one (see repo:purge-cache). The build cache is
    the whole engine's. It may take Docker a while to add all that up.
    """

    name = "disk:report"
    permission = "read"
    examples = ("disk:report", "disk:report blog", "disk:report --format json")

    app: Annotated[str | None, Argument(help="The app; all of them if left out.", metavar="app", is_app=True)] = None

    async def run(self, ctx: Context) -> Reply:
        """Ask the file systems and the engine."""
        apps = [ctx.maybe_app] if ctx.maybe_app else await ctx.database.read.apps.all()
        usage = await ctx.cleaner.usage(*(app.id for app in apps))
        max_bytes = 0 if ctx.maybe_app else ctx.cleaner.budget.max_bytes
        return DiskUse(
            rooms=tuple(await ctx.disks.rooms()),
            free_share=ctx.cleaner.budget.free_share,
            usage=tuple((app.name, use) for app, use in zip(apps, usage, strict=True)),
            cache=None if ctx.maybe_app else await ctx.disks.cache(),
            database=0 if ctx.maybe_app else await ctx.disks.database(),
            ours=await ctx.cleaner.ours() if max_bytes else 0,
            max_bytes=max_bytes,
        )


class Cleaned(Reply, frozen=True, kw_only=True):
    """What ``cleanup`` answers."""

    removed: tuple[Removed, ...]
    is_dry: bool
    excess: int
    """Bytes that are still over the budget."""

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield each thing that went, or would."""
        for one in self.removed:
            yield f"{INDENT}{one.kind:<12}{told(one.size):>10}  {one.what}"
        if quiet:
            return
        if not self.removed:
            yield f"{INDENT}There is nothing to remove."
        elif self.is_dry:
            yield f"{INDENT}Nothing was removed yet."
        if self.excess and not self.is_dry:
            yield f"{INDENT}The disk is still {told(self.excess)} over its budget: see disk:report"

    def json(self) -> Json:
        """Return the same for scripts."""
        return {
            "removed": [{"kind": one.kind, "what": one.what, "bytes": one.size} for one in self.removed],
            "dry_run": self.is_dry,
            "over_budget_bytes": self.excess,
        }


class Cleanup(Command, frozen=True, kw_only=True):
    """Remove what nothing needs, and more where too little of the disk is free.

    In this order: images of releases that are no longer kept, layers of ours that nothing names, the build cache (what
    was not used for longest first), what ended one-offs and pushes left, and the oldest log lines. The build cache and
    the logs lose only as much as the budget of the settings ([disk]) demands. It runs by itself when that is passed.

    With an app: only what that app does not need, and neither build cache nor logs.
    """

    name = "cleanup"
    permission = "change"
    examples = ("cleanup --dry-run", "cleanup", "cleanup blog", "cleanup --build-cache")

    app: Annotated[str | None, Argument(help="The app; the whole server if left out.", metavar="app", is_app=True)] = (
        None
    )
    is_dry: Annotated[bool, Flag(names=("--dry-run",), help="Only say what would go.")] = False
    all_cache: Annotated[
        bool, Flag(names=("--build-cache",), help="The whole build cache of Docker too, whoever filled it.")
    ] = False

    async def run(self, ctx: Context) -> Reply:
        """Have it done, and say what went."""
        only = ctx.maybe_app
        if only and self.all_cache:
            message = "Docker does not say whose builds filled its cache, so none of it is one app's."
            hint = (
                f"For the whole cache: cleanup --build-cache. To build {only.name} anew: repo:purge-cache {only.name}"
            )
            raise UserError("cleanup.cache-of-app", message, hint)
        if self.is_dry:
            removed = await ctx.cleaner.plan(all_cache=self.all_cache, only=only)
        else:
            await ctx.progress(f"{STEP}Cleaning up...")
            removed = await ctx.cleaner.clean(all_cache=self.all_cache, only=only)
        return Cleaned(removed=tuple(removed), is_dry=self.is_dry, excess=await ctx.cleaner.excess())
