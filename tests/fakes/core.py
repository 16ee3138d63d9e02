"""The agent's core on fakes: real SQLite, real bus, real handlers, and nothing of the outside world."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from agent.bus.durable import Bus
from agent.bus.subscriptions import routes_for
from agent.handlers.builder import Builder
from agent.handlers.checks import Checks
from agent.handlers.deploys import Releaser, Undertaker
from agent.handlers.janitor import Janitor
from agent.handlers.proxy import ProxyReconciler
from agent.handlers.registry import ImagePusher
from agent.handlers.retirer import Retirer
from agent.handlers.scheduler import RunDefaults, SchedulerReconciler
from agent.handlers.tasks import Tasks
from agent.lifecycle import apps, deploys, domains
from agent.lifecycle.cleaning import Budget, Cleaner, Doorkeeper
from agent.lifecycle.old_images import OldImages
from agent.ports.addresses import Bridges
from agent.ports.scheduler import Resources
from agent.ports.world import Clock
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy, Kind
from agent.state.sql import InlineSql, Opener
from agent.vault import Vault
from proto.names import AppId, AppName, DeployId
from tests.fakes.disks import GB, FakeDisks
from tests.fakes.images import FakeBuilder, FakeImages, FakeWorkshops, choose
from tests.fakes.logs import FakeLogs, FakeTranscripts
from tests.fakes.proxy import FakeProxy
from tests.fakes.registries import FakeRegistries
from tests.fakes.remotes import FakeRemotes
from tests.fakes.scheduler import FakeProber, FakeScheduler
from tests.fakes.source import FakeDownloads, FakeRepos
from tests.fakes.world import FakeClock, SeededIds
from tests.support.blank import lay

Reach = Callable[[Any], Any]
"""Stands between the core and one of its ports."""

HANDLERS = (
    Builder,
    Releaser,
    Undertaker,
    ImagePusher,
    Tasks,
    SchedulerReconciler,
    Checks,
    ProxyReconciler,
    Retirer,
    Janitor,
)


class World:
    """All that is outside the core, and outlives it."""

    def __init__(self) -> None:
        self.scheduler = FakeScheduler()
        self.prober = FakeProber()
        self.proxy = FakeProxy()
        self.repos = FakeRepos()
        self.downloads = FakeDownloads()
        self.remotes = FakeRemotes(self.repos)
        self.images = FakeImages()
        self.disks = FakeDisks()
        self.registries = FakeRegistries()
        self.builder = FakeBuilder(self.images)
        self.workshops = FakeWorkshops()
        self.logs = FakeLogs()
        self.transcripts = FakeTranscripts()
        self.ids = SeededIds()

    @property
    def changes(self) -> int:
        """Count what is changed by calls that do not wait: what was pushed, and what was said of deploys."""
        return len(self.repos.commits) + sum(map(len, self.transcripts.lines.values()))

    def forget_process(self) -> None:
        """Let go of what an agent that is gone had waited for, and of whom it wanted to be told."""
        self.scheduler.forget_watcher()
        self.transcripts.forget_readers()


class Core:
    """One agent's core and the world around it."""

    def __init__(
        self, database: Database, world: World, *, clock: Clock, vault: Vault, reach: Reach = lambda port: port
    ) -> None:
        """`reach`: what stands between the core and each of its ports, such as a fault."""
        self.database = database
        self.world = world
        self.clock = clock
        self.ids = world.ids
        self.scheduler, self.prober, self.proxy = world.scheduler, world.prober, world.proxy
        self.downloads, self.remotes, self.workshops = world.downloads, world.remotes, world.workshops
        self.disks = world.disks
        self.registries = world.registries
        self.repos, self.images, self.builder = world.repos, world.images, world.builder
        self.choose = partial(choose, [self.builder])
        self.logs, self.transcripts = world.logs, world.transcripts
        self._vault = vault
        self._reach = reach
        self.bus = self.new_bus()

    def new_bus(self) -> Bus:
        """Return a bus with new handlers over the same database and world, as after a restart."""
        self.bus = Bus(self.database, self._handlers(), clock=self.clock)
        return self.bus

    async def create(self, name: str = "blog") -> App:
        """Make an app."""
        async with self.database.transaction() as tx:
            return await apps.create(tx, app=AppId(self.ids.new("a")), name=AppName(name), by="ada")

    async def global_domain(self, domain: str = "example.com") -> None:
        """Have a global domain."""
        async with self.database.transaction() as tx:
            await domains.add_global(tx, domains=[domain])

    async def push(self, app: App, files: Mapping[str, str], *, commit: str = "c" * 40) -> Deploy:
        """Accept a push of these files."""
        self.repos.put(app.id, commit, files)
        return await self.accept(app, kind="push", commit=commit)

    async def accept(self, app: App, *, kind: Kind, commit: str | None = None, **more: object) -> Deploy:
        """Accept a deploy."""
        async with self.database.transaction() as tx:
            return await deploys.accept(
                tx,
                deploy=DeployId(self.ids.new("d")),
                app=app.id,
                kind=kind,
                by="ada",
                why="because",
                commit=commit,
                **more,  # type: ignore[arg-type]
            )

    async def deploy(self, deploy: Deploy) -> Deploy:
        """Return how a deploy stands now."""
        found = await self.database.read.deploys.get(deploy.id)
        assert found is not None
        return found

    async def settle(self, *, within: float = 90.0) -> None:
        """Let everything happen that is to happen, letting time pass as needed."""
        assert isinstance(self.clock, FakeClock)
        await self.bus.settle(advance=self.clock.advance, within=within)

    def cleaner(self, *, free_share: float = 0.2, max_bytes: int = 0, prunes: bool = True, kept: int = 5) -> Cleaner:
        """Return what keeps the disk within such a budget."""
        return Cleaner(
            self.database,
            disks=self.disks,
            old_images=OldImages(self.database, images=self.images, kept_releases=kept, clock=self.clock),
            scheduler=self.scheduler,
            repos=self.repos,
            logs=self.logs,
            budget=Budget(free_share=free_share, max_bytes=max_bytes, prunes_build_cache=prunes),
        )

    def _handlers(self) -> list[object]:
        reach, clock, database, transcripts = self._reach, self.clock, self.database, self.transcripts
        scheduler, proxy, images = reach(self.scheduler), reach(self.proxy), reach(self.images)
        return [
            Builder(
                database,
                repos=self.repos,
                images=images,
                choose=partial(choose, [reach(self.builder)]),
                transcripts=transcripts,
                door=Doorkeeper(self.disks, build_bytes=GB, push_bytes=GB // 10),
                concurrency=2,
                timeout_seconds=60.0,
                clock=clock,
            ),
            Releaser(database, transcripts=transcripts, ids=self.ids),
            Undertaker(database),
            ImagePusher(database, registries=reach(self.registries), transcripts=transcripts, clock=clock),
            Tasks(
                database,
                scheduler=scheduler,
                transcripts=transcripts,
                logs=self.logs,
                keeper=reach(self.logs),
                defaults=RunDefaults(resources=Resources(), stop_seconds=30.0, drain_seconds=60.0),
                limit_seconds=1800.0,
                clock=clock,
            ),
            SchedulerReconciler(
                database,
                scheduler=scheduler,
                bridges=Bridges(),
                transcripts=transcripts,
                ids=self.ids,
                fingerprint=self._vault.fingerprint,
                defaults=RunDefaults(resources=Resources(), stop_seconds=30.0, drain_seconds=60.0),
                clock=clock,
            ),
            Checks(
                database,
                scheduler=scheduler,
                prober=reach(self.prober),
                transcripts=transcripts,
                logs=self.logs,
                keeper=self.logs,
                start_seconds=60.0,
                stop_seconds=30.0,
                clock=clock,
            ),
            ProxyReconciler(database, proxy=proxy, transcripts=transcripts, drain_seconds=60.0, clock=clock),
            Retirer(
                database, scheduler=scheduler, proxy=proxy, keeper=reach(self.logs), stop_seconds=30.0, clock=clock
            ),
            Janitor(
                database,
                scheduler=scheduler,
                images=images,
                workshops=reach(self.workshops),
                repos=reach(self.repos),
                logs=reach(self.logs),
                transcripts=reach(transcripts),
                kept_releases=5,
                clock=clock,
            ),
        ]


@contextlib.asynccontextmanager
async def core(
    folder: Path,
    *,
    world: World | None = None,
    clock: Clock | None = None,
    opener: Opener = InlineSql.open,
    reach: Reach = lambda port: port,
) -> AsyncIterator[Core]:
    """Run a core whose database is in `folder`. Call again with the same folder and world for what a restart finds."""
    clock = clock or FakeClock()
    lay(folder / "state.db")
    vault = Vault.open(folder / "key", may_create=True)
    async with Database.open(
        folder / "state.db", routes=routes_for(*HANDLERS), clock=clock, vault=vault, opener=opener
    ) as database:
        yield Core(database, world or World(), clock=clock, vault=vault, reach=reach)
