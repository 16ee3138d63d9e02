"""Which images of an app nothing needs any more: no kept release, no deploy under way."""

from __future__ import annotations

import msgspec
import structlog

from agent.ports.images import ImageInfo, Images
from agent.ports.world import Clock
from agent.state.apps import App
from agent.state.database import Database, Tables
from agent.state.deploys import Deploy
from agent.state.releases import Release
from proto.names import AppId, DeployId

log = structlog.get_logger(__name__)

STRAY_SECONDS = 600.0
"""How long a tag of ours may be there without a deploy; recording one takes a moment."""

_LOOKED_AT = 1000
"""Deploys of an app that are looked through."""


class Unneeded(msgspec.Struct, frozen=True):
    """A tag whose image nothing needs."""

    tag: str
    image: str
    size: int
    """Bytes of the whole image; layers that others have stay."""


class OldImages:
    """Finds and removes them, one app at a time."""

    def __init__(self, database: Database, *, images: Images, kept_releases: int, clock: Clock) -> None:
        self._database = database
        self._images = images
        self._kept_releases = kept_releases
        self._clock = clock
        self._strays: dict[str, float] = {}
        """Tags of ours that no deploy is recorded for, and when they were first seen."""

    async def find(self, app: App) -> list[Unneeded]:
        """Return the tags of an app that `remove` would remove, and change nothing."""
        tags = await self.tags(app.id)
        read = self._database.read
        deploys = await read.deploys.of_app(app.id, limit=_LOOKED_AT)
        kept, _ = await self._sorted_releases(read, app)
        return self._unneeded(app, tags, deploys, _needed(kept, deploys))

    async def remove(self, app: App) -> list[Unneeded]:
        """Remove the tags that nothing needs, and return them. A release whose image goes is not offered any more."""
        # First the tags, then the rows: the deploy of each tag that was built is stored by then. And first forgotten,
        # then removed: a rollback that is asked for in between is refused, or was seen here.
        tags = await self.tags(app.id)
        async with self._database.transaction() as tx:
            kept, gone = await self._sorted_releases(tx, app)
            deploys = await tx.deploys.of_app(app.id, limit=_LOOKED_AT)
            needed = _needed(kept, deploys)
            for release in gone:
                if release.is_image_kept and release.image not in needed:
                    await tx.releases.forget_image(app.id, release.version)
        found = self._unneeded(app, tags, deploys, needed)
        for one in found:
            await self._images.untag(one.tag)
            self._strays.pop(one.tag, None)
        return found

    async def drop_nameless(self, app: App) -> None:
        """Remove what builds of the app made whose tag has since moved on to what they made again."""
        for image in await self._images.nameless(app.id):
            if not await is_needed(self._database.read, image, app=app.id):
                await self._images.drop(image)
                log.info("image.dropped", image=image)

    async def tags(self, app: AppId) -> dict[str, ImageInfo]:
        """Return the app's tags of ours and the images that they name."""
        prefix = self._images.tag_for(app, DeployId("")).rstrip(":") + ":"
        return {tag: image for image in await self._images.ours() for tag in image.tags if tag.startswith(prefix)}

    def _unneeded(
        self, app: App, tags: dict[str, ImageInfo], deploys: list[Deploy], needed: set[str | None]
    ) -> list[Unneeded]:
        fresh = {self._images.tag_for(app.id, deploy.id) for deploy in deploys if not deploy.is_over}
        known = {self._images.tag_for(app.id, deploy.id) for deploy in deploys}
        named = {image.id for tag, image in tags.items() if tag in known}
        found = []
        for tag, image in tags.items():
            # A second name of what is needed, for no deploy: of an image that was loaded again, unchanged.
            is_second = tag not in known and image.id in named
            if tag in fresh or (image.id in needed and not is_second):
                continue
            # Unknown: of a deploy that is about to be recorded (an image is loaded first), or whose agent died before.
            now = self._clock.monotonic()
            if tag in known or self._strays.setdefault(tag, now) <= now - STRAY_SECONDS:
                found.append(Unneeded(tag, image.id, image.size))
        return found

    async def _sorted_releases(self, tables: Tables, app: App) -> tuple[list[Release], list[Release]]:
        """Return the releases whose image is needed (live, candidate, the last few that served), and the others.

        One that was given up may have replicas that stand in for those of the live one.
        """
        candidate = await tables.deploys.candidate(app.id)
        current = {app.live_release, candidate.release if candidate else None}
        current |= {row.release for row in await tables.replicas.of_app(app.id)}
        kept: list[Release] = []
        gone: list[Release] = []
        served = 0
        for release in await tables.releases.of_app(app.id):
            served += release.live_at is not None
            is_recent = release.live_at is not None and served <= self._kept_releases
            (kept if release.version in current or is_recent else gone).append(release)
        return kept, gone


async def is_needed(tables: Tables, image: str, *, app: str) -> bool:
    """Return whether an image that has no name, and was built for `app`, may be needed: ask after it was listed."""
    under_way = await tables.deploys.under_way()
    # What is just being built has no name for a moment, and no row knows it yet.
    return any(app == deploy.app or image == deploy.image for deploy in under_way) or await tables.releases.need(image)


def _needed(kept: list[Release], deploys: list[Deploy]) -> set[str | None]:
    # A deploy without a build has its image from a release that may be none of the kept ones.
    return {release.image for release in kept} | {deploy.image for deploy in deploys if not deploy.is_over}
