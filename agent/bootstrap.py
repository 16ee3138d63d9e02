"""Joins the parts, starts them and stops them in order. The only module that knows all, and it keeps nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import structlog

from agent.builders import BUILDERS, choose
from agent.bus.durable import Bus
from agent.bus.subscriptions import routes_for
from agent.commands.catalogue import every_command
from agent.commands.command import ServerFacts, World
from agent.commands.dispatcher import Dispatcher
from agent.commands.keys import read_public_key
from agent.commands.watching import DeployWatcher
from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from agent.docker.logs import DockerLogs
from agent.errors import Unavailable, UserError
from agent.git.receive import sweep_incoming
from agent.git.repos import GitRepos
from agent.git.tree import Caps
from agent.handlers.builder import Builder
from agent.handlers.checks import Checks
from agent.handlers.deploys import Releaser, Undertaker
from agent.handlers.janitor import Janitor
from agent.handlers.logs import LogStreamer
from agent.handlers.proxy import ProxyReconciler
from agent.handlers.retirer import Retirer
from agent.handlers.scheduler import RunDefaults, SchedulerReconciler
from agent.handlers.upkeep import Upkeep
from agent.lifecycle import domains, keys
from agent.logs.store import DiskLogStore
from agent.logs.transcripts import DiskTranscripts
from agent.machine import Machine
from agent.ports.addresses import Bridges
from agent.ports.scheduler import Resources
from agent.proxies.haproxy.proxy import HaproxyProxy
from agent.schedulers.docker import DockerScheduler
from agent.schedulers.probe import DockerProber
from agent.settings import Settings
from agent.ssh.hostkey import open_keys
from agent.ssh.push import Pushes
from agent.ssh.server import listening
from agent.ssh.shell import Shell
from agent.state.database import Database, Listener
from agent.system import RandomIds, SystemClock, feed_watchdog, notify
from agent.vault import Vault
from proto import VERSION
from proto.events import DeployCancelled, DeployFailed, DeployLive, DeploySuperseded, Event
from proto.names import AppId, Fingerprint
from proto.wire import Exit

log = structlog.get_logger(__name__)

HANDLERS = (Builder, Releaser, Undertaker, SchedulerReconciler, Checks, ProxyReconciler, Retirer, Janitor, LogStreamer)
"""Every handler class. One that is not here gets no event."""

OUTCOMES = (DeployLive, DeployFailed, DeployCancelled, DeploySuperseded)
"""Events after which a deploy's watchers have seen all."""

NUDGED = ("scheduler.converge", "logs.follow")
"""Reconcilers that look at an app when the engine says that something of it changed."""


class Adapters(msgspec.Struct, frozen=True, kw_only=True):
    """What the core acts through."""

    scheduler: DockerScheduler
    prober: DockerProber
    images: DockerImages
    engine: Engine
    log_source: DockerLogs
    logs: DiskLogStore
    transcripts: DiskTranscripts
    repos: GitRepos
    proxy: HaproxyProxy
    bridges: Bridges


class Agent:
    """A running agent."""

    def __init__(self, *, database: Database, ssh_port: int) -> None:
        self.ssh_port = ssh_port
        """Where ssh answers; the one that the system chose if the setting was 0."""
        self._database = database

    async def until(self, stop: asyncio.Event) -> int:
        """Return the exit status once `stop` is set, or once nothing can be stored any more."""
        broken = asyncio.ensure_future(self._database.broken())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((broken, stopped), return_when=asyncio.FIRST_COMPLETED)
            return Exit.OK if stopped.done() else Exit.FAILED
        finally:
            broken.cancel()
            stopped.cancel()


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Agent]:
    """Run an agent until the block ends; then stop listening, give work under way its grace, and close.

    HAProxy and every container go on.

    Raises:
        Misconfigured: the agent cannot start like this; the message says what to mend.
        Unavailable: another agent has the data folder.
    """
    folder = settings.folder
    clock, ids = SystemClock(), RandomIds()
    async with contextlib.AsyncExitStack() as stack:
        database, vault = await stack.enter_async_context(_memory(settings, clock=clock))
        instance = await _first_start(database, settings=settings, ids=ids)
        await asyncio.to_thread((folder / "instance").write_text, instance)
        adapters = await _adapters(stack, settings, instance=instance, clock=clock)
        streamer = LogStreamer(
            database, source=adapters.log_source, store=adapters.logs, scheduler=adapters.scheduler, clock=clock
        )
        handlers = _handlers(settings, database, adapters, streamer=streamer, clock=clock, ids=ids, vault=vault)
        bus = Bus(database, handlers, clock=clock)
        upkeep = Upkeep(database, repos=adapters.repos, clock=clock)
        database.listeners.append(_outcomes_to(adapters.transcripts))
        host_keys = await asyncio.to_thread(open_keys, folder)
        await _sweep(database, folder / "repos")
        shell = _shell(settings, database, adapters, clock=clock, ids=ids)
        async with bus.delivering(), _background(adapters, bus, streamer, upkeep):
            async with listening(settings.ssh, keys=host_keys, database=database, answer=shell.serve) as listener:
                notify("READY=1")
                log.info("agent.ready", ssh_port=listener.port, host_key=host_keys.fingerprint, instance=instance)
                try:
                    yield Agent(database=database, ssh_port=listener.port)
                finally:
                    notify("STOPPING=1")
            await bus.stop(grace=settings.bus.grace)
        log.info("agent.stopped")


async def add_key(settings: Settings, *, name: str, public: str) -> Fingerprint:
    """Let a public key sign in while no agent runs, and return its fingerprint.

    Raises:
        UserError: ``agent.running``; or the key or its name cannot be had.
    """
    line, fingerprint = read_public_key(public)
    try:
        async with _memory(settings, clock=SystemClock()) as (database, _):
            async with database.transaction() as tx:
                await keys.add(tx, name=name, public=line, fingerprint=fingerprint)
    except Unavailable as error:
        if error.code != "database.in-use":
            raise
        raise UserError(
            "agent.running", "The agent runs, and only it may write.", f"Ask it: pushboat ssh-keys:add {name} < key.pub"
        ) from error
    return fingerprint


@contextlib.asynccontextmanager
async def _memory(settings: Settings, *, clock: SystemClock) -> AsyncIterator[tuple[Database, Vault]]:
    """Open the database and its key file, made where this is the first start."""
    folder = settings.folder
    await asyncio.to_thread(_make_private, folder)
    vault = Vault.open(folder / "key", may_create=not (folder / "pushboat.db").exists())
    path, routes = folder / "pushboat.db", routes_for(*HANDLERS)
    async with Database.open(path, routes=routes, clock=clock, vault=vault) as database:
        yield database, vault


def _shell(settings: Settings, database: Database, adapters: Adapters, *, clock: SystemClock, ids: RandomIds) -> Shell:
    facts = ServerFacts(
        version=VERSION,
        host=settings.domains.default or socket.gethostname(),
        ssh_port=settings.ssh.port,
        http_port=int(settings.http.binds[0].rpartition(":")[2]),
        stop_seconds=settings.replicas.stop_seconds,
        drain_seconds=settings.replicas.drain_seconds,
    )
    world = World(
        database=database,
        scheduler=adapters.scheduler,
        proxy=adapters.proxy,
        images=adapters.images,
        source=adapters.repos,
        transcripts=adapters.transcripts,
        logs=adapters.logs,
        clock=clock,
        ids=ids,
        server=facts,
        doctors=(
            ("Docker", adapters.scheduler),
            ("HAProxy", adapters.proxy),
            ("Machine", Machine(settings.folder, listens=_listens(settings))),
        ),
    )
    pushes = Pushes(
        database,
        adapters.repos,
        DeployWatcher(database, transcripts=adapters.transcripts, server=facts),
        ids=ids,
        max_bytes=settings.git.max_push_bytes,
        creates_apps=settings.git.creates_apps,
    )
    return Shell(Dispatcher(every_command(), world=world), pushes, ids=ids)


async def _sweep(database: Database, repos: Path) -> None:
    """Remove what pushes left that died with the last agent, before there is a new one."""
    known = [*await database.read.apps.all(), *await database.read.apps.destroyed()]
    if removed := await asyncio.to_thread(sweep_incoming, repos, apps={app.id for app in known}):
        log.info("agent.swept", removed=removed)


async def _first_start(database: Database, *, settings: Settings, ids: RandomIds) -> str:
    """Return the instance's id, made at the very first start together with the default domain."""
    if known := await database.read.server.get("instance"):
        return known
    instance = ids.new("i")
    async with database.transaction() as tx:
        await tx.server.set("instance", instance)
        if settings.domains.default:
            await domains.add_global(tx, domains=[settings.domains.default])
    return instance


async def _adapters(
    stack: contextlib.AsyncExitStack, settings: Settings, *, instance: str, clock: SystemClock
) -> Adapters:
    folder, git = settings.folder, settings.git
    bridges = Bridges(settings.network.pool)
    engine = await stack.enter_async_context(Engine.open(settings.engine.socket, instance=instance))
    logs = await stack.enter_async_context(
        DiskLogStore(
            folder / "logs",
            clock=clock,
            budget_total_bytes=settings.logs.budget_bytes,
            budget_app_bytes=settings.logs.app_budget_bytes,
        )
    )
    transcripts = await stack.enter_async_context(DiskTranscripts(folder / "deploys"))
    proxy = HaproxyProxy(
        folder / "proxy",
        binds=settings.http.binds,
        is_supervised=settings.http.is_supervised,
        trusted=settings.http.trusted_proxies,
        max_connections=settings.http.max_connections,
        keep_alive_seconds=settings.http.keep_alive,
        spare_backends=settings.http.spare_backends,
    )
    await proxy.start()
    stack.push_async_callback(proxy.close)
    return Adapters(
        scheduler=DockerScheduler(engine, bridges=bridges),
        prober=DockerProber(engine),
        images=DockerImages(engine),
        engine=engine,
        log_source=DockerLogs(engine),
        logs=logs,
        transcripts=transcripts,
        repos=GitRepos(
            folder / "repos",
            caps=Caps(
                entries=git.max_files,
                depth=git.max_depth,
                path_bytes=git.max_path_bytes,
                blob_bytes=git.max_file_bytes,
                total_bytes=git.max_tree_bytes,
            ),
        ),
        proxy=proxy,
        bridges=bridges,
    )


def _handlers(
    settings: Settings,
    database: Database,
    adapters: Adapters,
    *,
    streamer: LogStreamer,
    clock: SystemClock,
    ids: RandomIds,
    vault: Vault,
) -> Sequence[object]:
    limits = settings.replicas
    scheduler, transcripts, proxy = adapters.scheduler, adapters.transcripts, adapters.proxy
    return [
        streamer,
        Builder(
            database,
            repos=adapters.repos,
            images=adapters.images,
            builders=[builder(adapters.engine, adapters.images) for builder in BUILDERS],
            choose=choose,
            transcripts=transcripts,
            clock=clock,
            concurrency=settings.build.concurrency,
            timeout_seconds=settings.build.timeout,
        ),
        Releaser(database, transcripts=transcripts),
        Undertaker(database),
        SchedulerReconciler(
            database,
            scheduler=scheduler,
            bridges=adapters.bridges,
            transcripts=transcripts,
            clock=clock,
            ids=ids,
            fingerprint=vault.fingerprint,
            defaults=RunDefaults(
                resources=Resources(memory_bytes=limits.memory_bytes, pids=limits.pids),
                stop_seconds=limits.stop_seconds,
                drain_seconds=limits.drain_seconds,
            ),
        ),
        Checks(
            database,
            scheduler=scheduler,
            prober=adapters.prober,
            transcripts=transcripts,
            logs=adapters.logs,
            keeper=streamer,
            clock=clock,
            stop_seconds=limits.stop_seconds,
        ),
        ProxyReconciler(database, proxy=proxy, clock=clock, drain_seconds=limits.drain_seconds),
        Retirer(
            database,
            scheduler=scheduler,
            proxy=proxy,
            keeper=streamer,
            clock=clock,
            stop_seconds=limits.stop_seconds,
        ),
        Janitor(
            database,
            scheduler=scheduler,
            images=adapters.images,
            repos=adapters.repos,
            logs=adapters.logs,
            transcripts=transcripts,
            kept_releases=limits.kept_releases,
        ),
    ]


@contextlib.asynccontextmanager
async def _background(adapters: Adapters, bus: Bus, streamer: LogStreamer, upkeep: Upkeep) -> AsyncIterator[None]:
    """Watch the engine, follow logs and feed the watchdog during the block."""

    def noticed(app: AppId | None) -> None:
        if app is None:
            bus.resurvey()
        else:
            bus.nudge(app, names=NUDGED)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(adapters.scheduler.watch(noticed), name="engine-watch"),
            group.create_task(streamer.run(), name="log-streamer"),
            group.create_task(feed_watchdog(), name="watchdog"),
            group.create_task(upkeep.run(), name="upkeep"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _outcomes_to(transcripts: DiskTranscripts) -> Listener:
    def heard(events: Sequence[tuple[int, Event]]) -> None:
        for _, event in events:
            if isinstance(event, OUTCOMES):
                transcripts.nudge(event.app, event.deploy)

    return heard


def _listens(settings: Settings) -> list[tuple[str, int]]:
    """Return where Pushboat should answer; not the ports that the system chose."""
    http = [bind.rpartition(":") for bind in settings.http.binds]
    all_of_them = [(settings.ssh.host, settings.ssh.port), *((host, int(port)) for host, _, port in http)]
    return [(host, port) for host, port in all_of_them if port]


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
