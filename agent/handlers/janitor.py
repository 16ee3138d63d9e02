"""Removes what nothing needs any more: old releases' images, old transcripts, and all that a destroyed app left.

Only what carries a tag or a label of ours is looked at, and nothing that a kept release needs is touched.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from agent.bus.subscriptions import reconciles, surveys
from agent.lifecycle import apps
from agent.ports.images import Images, Workshops
from agent.ports.logs import LogStore, Transcripts
from agent.ports.scheduler import Scheduler
from agent.ports.source import SourceRepo
from agent.ports.world import Clock
from agent.state.apps import App
from agent.state.database import Database, Tables
from agent.state.releases import Release
from proto.events import AppDestroyed, DeployCancelled, DeployFailed, DeployLive, DeploySuperseded, ReplicaRemoved
from proto.names import AppId, DeployId

log = structlog.get_logger(__name__)

KEPT_TRANSCRIPTS = 50
"""Deploys of an app whose output is kept."""

STRAY_SECONDS = 600.0
"""How long a tag of ours may be there without a deploy; recording one takes a moment."""


class Janitor:
    """Cleans up after apps."""

    def __init__(
        self,
        database: Database,
        *,
        scheduler: Scheduler,
        images: Images,
        workshops: Workshops,
        repos: SourceRepo,
        logs: LogStore,
        transcripts: Transcripts,
        kept_releases: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._images = images
        self._workshops = workshops
        self._repos = repos
        self._logs = logs
        self._transcripts = transcripts
        self._kept_releases = kept_releases
        self._clock = clock
        self._strays: dict[str, float] = {}
        """Tags of ours that no deploy is recorded for, and when they were first seen."""

    @reconciles(
        AppDestroyed,
        ReplicaRemoved,
        DeployLive,
        DeployFailed,
        DeployCancelled,
        DeploySuperseded,
        name="janitor.clean",
        limit=2,
    )
    async def clean(self, app: AppId) -> float | None:
        """Clean up after one app."""
        row = await self._database.read.apps.get(app)
        if row is None:
            return None
        if row.destroyed_at is None:
            await self._forget_old(row)
        elif not await self._database.read.replicas.of_app(app):
            await self._remove(row)
        return None

    @surveys
    async def survey(self) -> Sequence[AppId]:
        """Return the destroyed apps of which something is left; remove one-offs and builds nobody is attached to."""
        await self._scheduler.tidy()
        destroyed = [app.id for app in await self._database.read.apps.destroyed()]
        living = [app.id for app in await self._database.read.apps.all()]
        await self._workshops.tidy({*living, *destroyed})
        return destroyed

    async def _remove(self, app: App) -> None:
        """Remove everything of a destroyed app, its rows last: until then all of this is repeated."""
        await self._scheduler.release(app.id)
        await self._forget_pulls(app.id)
        await self._workshops.remove(app.id)
        for tag in await self._tags(app.id):
            await self._images.untag(tag)
        await self._repos.remove(app.id)
        await self._logs.remove(app.id)
        await self._transcripts.remove(app.id)
        async with self._database.transaction() as tx:
            await apps.remove(tx, app=app)
        log.info("app.removed", name=app.name)

    async def _forget_pulls(self, app: AppId) -> None:
        """Take the names of images away that deploys got them by, and ended before they could do it themselves."""
        for deploy, reference in (await self._database.read.pulls.of_app(app)).items():
            row = await self._database.read.deploys.get(deploy)
            if row is not None and row.is_over:
                await self._images.forget(reference)
                async with self._database.transaction() as tx:
                    await tx.pulls.forget(deploy)

    async def _forget_old(self, app: App) -> None:
        # First the tags, then the rows: the deploy of each tag that was built is stored by then. And first forgotten,
        # then removed: a rollback that is asked for in between is refused, or was seen here.
        tags = await self._tags(app.id)
        await self._forget_pulls(app.id)
        async with self._database.transaction() as tx:
            kept, gone = await self._sorted_releases(tx, app)
            deploys = await tx.deploys.of_app(app.id, limit=1000)
            under_way = [deploy for deploy in deploys if not deploy.is_over]
            # A deploy without a build has its image from a release that may be none of the kept ones.
            needed = {release.image for release in kept} | {deploy.image for deploy in under_way}
            for release in gone:
                if release.is_image_kept and release.image not in needed:
                    await tx.releases.forget_image(app.id, release.version)
        fresh = {self._images.tag_for(app.id, deploy.id) for deploy in under_way}
        known = {self._images.tag_for(app.id, deploy.id) for deploy in deploys}
        for tag, image in tags.items():
            if tag in fresh or image in needed:
                continue
            # Unknown: of a deploy that is about to be recorded (an image is loaded first), or whose agent died before.
            now = self._clock.monotonic()
            if tag in known or self._strays.setdefault(tag, now) <= now - STRAY_SECONDS:
                await self._images.untag(tag)
                self._strays.pop(tag, None)
        if old := [deploy.id for deploy in deploys[KEPT_TRANSCRIPTS:] if deploy.is_over]:
            await self._transcripts.remove(app.id, old)

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

    async def _tags(self, app: AppId) -> dict[str, str]:
        """Return the app's tags of ours and the images that they name."""
        prefix = self._images.tag_for(app, DeployId("")).rstrip(":") + ":"
        return {tag: image.id for image in await self._images.ours() for tag in image.tags if tag.startswith(prefix)}
