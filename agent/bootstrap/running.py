"""Starts the parts in order, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

from agent.bootstrap.adapters import Adapters, open_adapters
from agent.bootstrap.front import make_shell
from agent.bootstrap.garbage import set_aside
from agent.bootstrap.handlers import Ground, make_handlers
from agent.bootstrap.housekeeping import make_cleaner, make_doorkeeper
from agent.bootstrap.memory import memory
from agent.bus.durable import Bus
from agent.git.receive import sweep_incoming
from agent.handlers.disk import DiskBudget
from agent.handlers.logs import LogStreamer
from agent.handlers.upkeep import Upkeep
from agent.lifecycle import domains
from agent.logs.transcripts import DiskTranscripts
from agent.settings import Settings
from agent.ssh.arriving import undo_broken_off
from agent.ssh.hostkey import open_keys
from agent.ssh.server import listening
from agent.state.database import Database, Listener
from agent.system import RandomIds, SystemClock, feed_watchdog, notify
from proto.events import DeployCancelled, DeployFailed, DeployLive, DeploySuperseded, Event
from proto.names import AppId
from proto.wire import Exit

log = structlog.get_logger(__name__)

OUTCOMES = (DeployLive, DeployFailed, DeployCancelled, DeploySuperseded)
"""Events after which a deploy's watchers have seen all."""


INSTANCE = re.compile(r"i[a-z2-7]{11}")
"""An instance's id, as `RandomIds` makes it."""

NUDGED = ("scheduler.converge", "logs.follow")
"""Reconcilers that look at an app when the engine says that something of it changed."""


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
        database, vault = await stack.enter_async_context(memory(settings, clock=clock, ids=ids))
        instance = await _first_start(database, settings=settings, ids=ids)
        adapters = await open_adapters(stack, settings, instance=instance, clock=clock)
        streamer = LogStreamer(
            database, source=adapters.log_source, store=adapters.logs, scheduler=adapters.scheduler, clock=clock
        )
        ground = Ground(
            settings=settings,
            database=database,
            adapters=adapters,
            clock=clock,
            ids=ids,
            vault=vault,
            door=make_doorkeeper(settings, adapters),
            streamer=streamer,
        )
        cleaner = make_cleaner(settings, database, adapters, clock=clock)
        bus = Bus(database, make_handlers(ground), clock=clock)
        upkeep = Upkeep(database, repos=adapters.repos, clock=clock)
        database.listeners.append(_outcomes_to(adapters.transcripts))
        host_keys = await asyncio.to_thread(open_keys, folder)
        await _sweep(database, folder / "repos")
        await undo_broken_off(database, adapters.repos)
        shell = make_shell(settings, database, adapters, cleaner=cleaner, clock=clock, ids=ids)
        async with bus.delivering(), _background(adapters, bus, streamer, upkeep, DiskBudget(cleaner)):
            async with listening(settings.ssh, keys=host_keys, database=database, answer=shell.serve) as listener:
                notify("READY=1")
                log.info("agent.ready", ssh_port=listener.port, host_key=host_keys.fingerprint, instance=instance)
                try:
                    yield Agent(database=database, ssh_port=listener.port)
                finally:
                    notify("STOPPING=1")
            await bus.stop(grace=settings.bus.grace)
        log.info("agent.stopped")


async def _sweep(database: Database, repos: Path) -> None:
    """Remove what pushes left that died with the last agent, before there is a new one."""
    known = [*await database.read.apps.all(), *await database.read.apps.destroyed()]
    if removed := await asyncio.to_thread(sweep_incoming, repos, apps={app.id for app in known}):
        log.info("agent.swept", removed=removed)


async def _first_start(database: Database, *, settings: Settings, ids: RandomIds) -> str:
    """Return the instance's id, made at the very first start together with the default domain.

    It stands in a file, too. A database that is begun anew beside that file takes it from there: what the lost one
    ran in Docker carries this id, and nobody else would remove it.
    """
    note = settings.folder / "instance"
    if known := await database.read.server.get("instance"):
        await asyncio.to_thread(note.write_text, known)
        return known
    instance = await asyncio.to_thread(_noted, note) or ids.new("i")
    await asyncio.to_thread(note.write_text, instance)
    async with database.transaction() as tx:
        await tx.server.set("instance", instance)
        if settings.domains.default:
            await domains.add_global(tx, domains=[settings.domains.default])
    return instance


def _noted(note: Path) -> str:
    try:
        found = INSTANCE.fullmatch(note.read_text().strip())
    except FileNotFoundError:
        return ""
    return found[0] if found else ""


@contextlib.asynccontextmanager
async def _background(
    adapters: Adapters, bus: Bus, streamer: LogStreamer, upkeep: Upkeep, budget: DiskBudget
) -> AsyncIterator[None]:
    """Watch the engine and the disk, follow logs and feed the watchdog during the block."""

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
            group.create_task(budget.run(), name="disk-budget"),
            group.create_task(set_aside(), name="garbage"),
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
