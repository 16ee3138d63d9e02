"""The disk budget: what goes, in which order, when too little of the disk is free or too much of it is ours.

Images that nothing needs and whatever else is left of what has ended go in any case; the build cache and old log lines
only as far as the budget demands. Nothing that a kept release, a deploy under way or a running container needs is
touched, and nothing without a tag or a label of ours, but for the build cache: BuildKit's records belong to nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
import structlog

from agent.errors import UserError
from agent.lifecycle.kept_commits import kept_commits
from agent.lifecycle.old_images import OldImages, is_needed
from agent.ports.disk import CacheUse, Disks, ImageUse, Room
from agent.ports.logs import LogStore
from agent.ports.scheduler import Scheduler
from agent.ports.source import SourceRepo
from agent.state.apps import App
from agent.state.database import Database
from proto.names import AppId

log = structlog.get_logger(__name__)

CACHE = "what was not used for longest"

LINES = "the oldest lines"

Kind = Literal["image", "layers", "build-cache", "one-off", "repository", "logs"]
"""In the order in which they go. A ``repository`` is one that loses what killed pushes left in it."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What of the disk is ours to use."""

    free_share: float
    """Of each disk, that should stay free: from 0 to 1."""
    max_bytes: int
    """What of ours (`Cleaner.ours`) may lie on them; 0: as much as leaves that free."""
    prunes_build_cache: bool
    """Whether the engine's build cache may be made smaller for it, whoever's it is."""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that went, or would go."""

    kind: Kind
    what: str
    size: int
    """Bytes. Of an image those of all its layers, though layers that others have stay."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What uses how much of the disk. Bytes."""

    app: AppId
    images: int
    """Layers that no other image has."""
    shared: int
    """The largest share of layers that its images have with others: mostly the base image's."""
    buildpacks: int
    """What builds by buildpacks keep in volumes."""
    folders: dict[str, int]

    @property
    def total(self) -> int:
        """All but what is shared."""
        return self.images + self.buildpacks + sum(self.folders.values())


class Cleaner:
    """Keeps the disk within its budget. One round at a time, whoever asks."""

    def __init__(
        self,
        database: Database,
        *,
        disks: Disks,
        old_images: OldImages,
        scheduler: Scheduler,
        repos: SourceRepo,
        logs: LogStore,
        budget: Budget,
    ) -> None:
        self._database = database
        self._disks = disks
        self._old_images = old_images
        self._scheduler = scheduler
        self._repos = repos
        self._logs = logs
        self._round = asyncio.Lock()
        self.budget = budget

    async def excess(self) -> int:
        """Return by how many bytes the budget is passed; 0: it is kept. Cheap unless `Budget.max_bytes` is set."""
        excess = max((missing(room, self.budget.free_share) for room in await self._disks.rooms()), default=0)
        if self.budget.max_bytes:
            excess = max(excess, await self.ours() - self.budget.max_bytes)
        return max(0, excess)

    async def ours(self) -> int:
        """Return the bytes that count against `Budget.max_bytes`: all that a round may make smaller, and what it keeps.

        Those are the layers of our images, each once, whoever else has them; repositories, logs and transcripts of all
        apps; the database and its backups; and the build cache that could go, if it may be made smaller for us.

        Raises:
            Unavailable: the engine does not answer.
        """
        apps = await self._database.read.apps.all()
        folders = sum([sum((await self._disks.folders(app.id)).values()) for app in apps])
        cache = await self._disks.cache() if self.budget.prunes_build_cache else CacheUse()
        return await self._disks.layers() + folders + await self._disks.database() + cache.steps + cache.folders

    async def plan(self, *, all_cache: bool = False, only: App | None = None) -> list[Removed]:
        """Return what `clean` would remove, and change nothing."""
        found = [
            Removed(kind="image", what=one.tag, size=one.size)
            for app in await self._apps(only)
            for one in await self._old_images.find(app)
        ]
        found += [Removed(kind="layers", what=image.id, size=image.own) async for image in self._unnamed(only)]
        ended = await self._scheduler.left_over(app=only.id if only else None)
        left_over = [Removed(kind="one-off", what=one.name, size=one.size) for one in ended]
        for app in await self._apps(only):
            left_over += _some("repository", app.name, await self._repos.left_over(app.id))
        if only:
            return found + left_over
        left = max(0, await self.excess() - sum(one.size for one in found))
        if all_cache or (left and self.budget.prunes_build_cache):
            cache = await self._disks.cache()
            size = cache.steps + cache.folders
            found += _some("build-cache", CACHE, size if all_cache else min(left, size))
            left -= size if all_cache else min(left, size)
        left -= sum(one.size for one in left_over)
        lines = await self._logs.shrinkable(left) if left > 0 else 0
        return [*found, *left_over, *_some("logs", LINES, lines)]

    async def clean(self, *, all_cache: bool = False, only: App | None = None) -> list[Removed]:
        """Remove what nothing needs, and then as much else as the budget demands. Repeating is harmless.

        `all_cache`: the whole build cache goes, whatever the budget says. `only`: what one app does not need goes, and
        nothing that is everybody's: no build cache, no log lines.

        Raises:
            Unavailable: the engine does not answer. What went until then is gone.
        """
        async with self._round:
            removed = await self._remove_images(only)
            if not only and (all_cache or (self.budget.prunes_build_cache and await self.excess())):
                size = await self._disks.prune_cache(bytes=None if all_cache else await self.excess())
                removed += _some("build-cache", CACHE, size)
            ended = await self._scheduler.tidy(app=only.id if only else None)
            removed += [Removed(kind="one-off", what=one.name, size=one.size) for one in ended]
            for app in await self._apps(only):
                left = await self._repos.left_over(app.id)
                await self._repos.tidy(app.id, kept=await kept_commits(self._database.read, app.id))
                removed += _some("repository", app.name, left)
            if not only and (excess := await self.excess()):
                removed += _some("logs", LINES, await self._logs.shrink(excess))
        log.info("disk.cleaned", freed=sum(one.size for one in removed), removed=len(removed))
        return removed

    async def usage(self, *apps: AppId) -> list[Usage]:
        """Return what each app uses.

        Raises:
            Unavailable: the engine does not answer.
        """
        images, volumes = await self._disks.images(), await self._disks.volumes()
        return [
            Usage(
                app=app,
                images=sum(image.own for image in images if image.app == app),
                shared=max((image.shared for image in images if image.app == app), default=0),
                buildpacks=volumes.get(app, 0),
                folders=dict(await self._disks.folders(app)),
            )
            for app in apps
        ]

    async def _apps(self, only: App | None) -> list[App]:
        return [only] if only else list(await self._database.read.apps.all())

    async def _remove_images(self, only: App | None) -> list[Removed]:
        removed = []
        for app in await self._apps(only):
            for one in await self._old_images.remove(app):
                removed.append(Removed(kind="image", what=one.tag, size=one.size))
        async for image in self._unnamed(only):
            if await self._disks.remove_image(image.id):
                removed.append(Removed(kind="layers", what=image.id, size=image.own))
        return removed

    async def _unnamed(self, only: App | None) -> AsyncIterator[ImageUse]:
        """Yield the images of ours that nothing names and no kept release has."""
        unnamed = [image for image in await self._disks.images() if not image.tags]
        for image in [image for image in unnamed if only is None or image.app == only.id]:
            # Asked anew for each: a deploy that has just built it needs it by now.
            if not await is_needed(self._database.read, image.id, app=image.app):
                yield image


def missing(room: Room, free_share: float) -> int:
    """Return how many bytes of a disk should be free and are not; 0 or less: none."""
    return int(room.total * free_share) - room.free


class Doorkeeper:
    """Says no to work that would fill the disk."""

    def __init__(self, disks: Disks, *, build_bytes: int, push_bytes: int) -> None:
        """`build_bytes`, `push_bytes`: what has to be free for a build, or a push, to begin."""
        self._disks = disks
        self._build_bytes = build_bytes
        self._push_bytes = push_bytes

    async def admit_build(self, what: str = "a build") -> None:
        """Let a build begin, or `what` else writes to the engine's disk as much as one.

        Raises:
            UserError: ``disk.no-room``.
        """
        for room in await self._disks.rooms():
            _admit(what, room, least=self._build_bytes if room.has_images else self._for_push(room))

    async def admit_push(self, what: str = "a push") -> None:
        """Let a push begin, or `what` else brings source. It needs little, and a small disk has little.

        Raises:
            UserError: ``disk.no-room``.
        """
        for room in await self._disks.rooms(of_engine=False):
            _admit(what, room, least=self._for_push(room))

    def _for_push(self, room: Room) -> int:
        return min(self._push_bytes, room.total // 20)


def _admit(what: str, room: Room, *, least: int) -> None:
    if room.free < least:
        raise UserError(
            "disk.no-room",
            f"There is too little room on the disk for {what}: {told(room.free)} are free at {room.path}, and "
            f"{told(least)} have to be.",
            "See what takes it with disk:report, and make room with cleanup.",
        )


def told(size: int) -> str:
    """Return bytes for people: 1.2 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"


def _some(kind: Kind, what: str, size: int) -> list[Removed]:
    return [Removed(kind=kind, what=what, size=size)] if size else []
