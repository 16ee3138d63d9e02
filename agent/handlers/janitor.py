"""Removes what nothing needs any more: old releases' images, old transcripts, and all that a destroyed app left.

Only what carries a tag or a label of ours is looked at, and nothing that a kept release needs is touched.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from agent.bus.subscriptions import reconciles, surveys
from agent.lifecycle import apps
from agent.lifecycle.old_images import OldImages
from agent.ports.images import Images, Workshops
from agent.ports.logs import LogStore, Transcripts
from agent.ports.scheduler import Scheduler
from agent.ports.source import SourceRepo
from agent.ports.world import Clock
from agent.state.apps import App
from agent.state.database import Database
from proto.events import AppDestroyed, DeployCancelled, DeployFailed, DeployLive, DeploySuperseded, ReplicaRemoved
from proto.names import AppId

log = structlog.get_logger(__name__)

KEPT_TRANSCRIPTS = 50
"""Deploys of an app whose output is kept."""


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
        self._old_images = OldImages(database, images=images, kept_releases=kept_releases, clock=clock)

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
        for tag in await self._old_images.tags(app.id):
            await self._images.untag(tag)
        await self._old_images.drop_nameless(app)
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
        await self._forget_pulls(app.id)
        await self._old_images.remove(app)
        await self._old_images.drop_nameless(app)
        deploys = await self._database.read.deploys.of_app(app.id, limit=1000)
        if old := [deploy.id for deploy in deploys[KEPT_TRANSCRIPTS:] if deploy.is_over]:
            await self._transcripts.remove(app.id, old)
