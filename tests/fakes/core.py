"""The agent's core on fakes: real SQLite, real bus, real handlers, and nothing of the outside world."""

from __future__ import annotations

import asyncio
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
from agent.handlers.logs import LogStreamer
from agent.handlers.proxy import ProxyReconciler
from agent.handlers.registry import ImagePusher
from agent.handlers.retirer import Retirer
from agent.handlers.scheduler import RunDefaults, SchedulerReconciler
from agent.handlers.tasks import Tasks
from agent.lifecycle import apps, deploys, domains
from agent.lifecycle.cleaning import Budget, Cleaner, Doorkeeper
from agent.lifecycle.old_images import OldImages
from agent.logs.store import DiskLogStore
from agent.ports.addresses import Bridges
from agent.ports.logs import LogKeeper
from agent.ports.scheduler import Resources
from agent.ports.turns import Turns
from agent.ports.world import Clock
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy, Kind
from agent.state.sql import InlineSql, Opener
from agent.vault import Vault
from proto.names import AppId, AppName, DeployId
from tests.fakes.disks import GB, FakeDisks
from tests.fakes.git import FakeGit
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
FOLLOWING = (*HANDLERS, LogStreamer)
"""With what follows output, where there is a store to put it into."""


class World:
    """All that is outside the core, and outlives it."""

    def __init__(self) -> None:
        self.scheduler = FakeScheduler()
        self.prober = FakeProber()
        self.proxy = FakeProxy()
        self.repos = FakeRepos()
        self.git = FakeGit(self.repos)
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
        self.nonces = SeededIds(seed=1)
        """What the vault draws from: more or fewer sealed values change no ids."""

    @property
    def changes(self) -> int:
        """Count what is changed by calls that do not wait: what was pushed, and what was said of deploys."""
        return len(self.repos.commits) + self.git.moves + sum(map(len, self.transcripts.lines.values()))

    def forget_process(self) -> None:
        """Let go of what an agent that is gone had waited for, and of whom it wanted to be told."""
        self.scheduler.forget_watcher()
        self.transcripts.forget_readers()
        self.repos.turns = Turns()


class Core:
    """One agent's core and the world around it."""

    def __init__(
        self,
        database: Database,
        world: World,
        *,
        clock: Clock,
        vault: Vault,
        reach: Reach = lambda port: port,
        store: DiskLogStore | None = None,
    ) -> None:
        """`reach`: what stands between the core and each of its ports, such as a fault.

        `store`: where output goes that is really followed; without one it is a list that nobody fills.
        """
        self.database = database
        self.world = world
        self.clock = clock
        self.ids = world.ids
        self.scheduler, self.prober, self.proxy = world.scheduler, world.prober, world.proxy
        self.downloads, self.remotes, self.workshops = world.downloads, world.remotes, world.workshops
        self.disks = world.disks
        self.door = Doorkeeper(world.disks, build_bytes=GB, push_bytes=GB // 10)
        self.registries = world.registries
        self.repos, self.images, self.builder = world.repos, world.images, world.builder
        self.choose = partial(choose, [self.builder])
        self.transcripts = world.transcripts
        self.logs: FakeLogs | DiskLogStore = store or world.logs
        self.streamer: LogStreamer | None = None
        self._vault = vault
        self._reach = reach
        self.bus = self.new_bus()

    def new_bus(self) -> Bus:
        """Return a bus with new handlers over the same database and world, as after a restart."""
        self.bus = Bus(self.database, self._handlers(), clock=self.clock)
        return self.bus

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Deliver events, and follow output if there is a store for it, during the block."""
        async with self.bus.delivering():
            following = asyncio.ensure_future(self.streamer.run()) if self.streamer else None
            try:
                yield
            finally:
                # As at the end of an agent: what is under way gets its time, and what it waits for goes on meanwhile.
                await self.bus.stop(grace=0.0)
                if following:
                    following.cancel()
                    await asyncio.wait((following,))

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
        reach, scheduler, logs = self._reach, self._reach(self.scheduler), self._reach(self.logs)
        keeper: LogKeeper = logs
        if isinstance(self.logs, DiskLogStore):
            source = reach(self.scheduler.output)
            keeper = self.streamer = LogStreamer(
                self.database, source=source, store=logs, scheduler=scheduler, clock=self.clock
            )
        images, proxy = reach(self.images), reach(self.proxy)
        return [
            *((self.streamer,) if self.streamer else ()),
            *self._makers(images),
            *self._runners(scheduler, logs=logs, keeper=keeper),
            *self._switchers(scheduler, proxy=proxy, keeper=keeper),
            self._janitor(scheduler, images=images, logs=logs),
        ]

    def _makers(self, images: FakeImages) -> list[object]:
        """Return those who make a release of a push."""
        reach, clock, database, transcripts = self._reach, self.clock, self.database, self.transcripts
        return [
            Builder(
                database,
                repos=self.repos,
                images=images,
                workshops=reach(self.workshops),
                choose=partial(choose, [reach(self.builder)]),
                transcripts=transcripts,
                door=self.door,
                concurrency=2,
                timeout_seconds=60.0,
                clock=clock,
            ),
            Releaser(database, transcripts=transcripts, ids=self.ids),
            Undertaker(database),
            ImagePusher(database, registries=reach(self.registries), transcripts=transcripts, clock=clock),
        ]

    def _runners(self, scheduler: FakeScheduler, *, logs: FakeLogs | DiskLogStore, keeper: LogKeeper) -> list[object]:
        """Return those who run a release, and look whether it does."""
        clock, database, transcripts = self.clock, self.database, self.transcripts
        return [
            Tasks(
                database,
                scheduler=scheduler,
                transcripts=transcripts,
                logs=logs,
                keeper=keeper,
                defaults=RunDefaults(resources=Resources(), stop_seconds=30.0, drain_seconds=60.0),
                limit_seconds=1800.0,
                clock=clock,
            ),
            SchedulerReconciler(
                database,
                scheduler=scheduler,
                keeper=keeper,
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
                prober=self._reach(self.prober),
                transcripts=transcripts,
                logs=logs,
                keeper=keeper,
                start_seconds=60.0,
                stop_seconds=30.0,
                clock=clock,
            ),
        ]

    def _switchers(self, scheduler: FakeScheduler, *, proxy: FakeProxy, keeper: LogKeeper) -> list[object]:
        """Return those who lead visitors to a release, and away from the one before."""
        clock, database, transcripts, turn = self.clock, self.database, self.transcripts, asyncio.Lock()
        return [
            ProxyReconciler(database, proxy=proxy, transcripts=transcripts, drain_seconds=60.0, clock=clock, turn=turn),
            Retirer(
                database, scheduler=scheduler, proxy=proxy, keeper=keeper, stop_seconds=30.0, clock=clock, turn=turn
            ),
        ]

    def _janitor(self, scheduler: FakeScheduler, *, images: FakeImages, logs: FakeLogs | DiskLogStore) -> Janitor:
        reach = self._reach
        return Janitor(
            self.database,
            scheduler=scheduler,
            images=images,
            workshops=reach(self.workshops),
            repos=reach(self.repos),
            logs=logs,
            transcripts=reach(self.transcripts),
            kept_releases=5,
            clock=self.clock,
        )


@contextlib.asynccontextmanager
async def core(
    folder: Path,
    *,
    world: World | None = None,
    clock: Clock | None = None,
    opener: Opener = InlineSql.open,
    reach: Reach = lambda port: port,
    opens_store: Callable[[Path, Clock], DiskLogStore] | None = None,
) -> AsyncIterator[Core]:
    """Run a core whose database is in `folder`. Call again with the same folder and world for what a restart finds.

    `opens_store`: makes a store for output, which is followed then; without it nothing is.
    """
    clock = clock or FakeClock()
    lay(folder / "state.db")
    world = world or World()
    vault = Vault.open(folder / "key", may_create=True, token=world.nonces.token)
    routes = routes_for(*(FOLLOWING if opens_store else HANDLERS))
    async with contextlib.AsyncExitStack() as stack:
        opening = Database.open(folder / "state.db", routes=routes, clock=clock, vault=vault, opener=opener)
        database = await stack.enter_async_context(opening)
        store = await stack.enter_async_context(opens_store(folder, clock)) if opens_store else None
        yield Core(database, world, clock=clock, vault=vault, reach=reach, store=store)
