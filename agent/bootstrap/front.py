"""What answers at the front door: the commands and the pushes of this server."""

from __future__ import annotations

import socket

from agent.bootstrap.adapters import Adapters, pack_limits
from agent.bootstrap.housekeeping import make_doorkeeper
from agent.commands.catalogue import every_command
from agent.commands.command import ServerFacts, World
from agent.commands.dispatcher import Dispatcher
from agent.commands.services import Services
from agent.commands.watching import DeployWatcher
from agent.docker.build_network import BuildNetwork
from agent.docker.log_access import LogAccess
from agent.git.receive import PushLimits
from agent.lifecycle.cleaning import Cleaner
from agent.machine import Machine
from agent.ports.scheduler import Resources
from agent.proxies.haproxy.binds import parse_binds
from agent.settings import Settings
from agent.ssh.fetch import Fetches
from agent.ssh.push import Pushes
from agent.ssh.shell import Shell
from agent.state.database import Database
from agent.system import RandomIds, SystemClock
from proto import VERSION


def make_shell(
    settings: Settings,
    database: Database,
    adapters: Adapters,
    *,
    cleaner: Cleaner,
    clock: SystemClock,
    ids: RandomIds,
) -> Shell:
    """Return what answers each command line that comes over ssh."""
    facts = _facts(settings)
    world = World(
        database=database,
        scheduler=adapters.scheduler,
        prober=adapters.prober,
        proxy=adapters.proxy,
        images=adapters.images,
        workshops=adapters.workshops,
        registries=adapters.registries,
        choose=adapters.choose,
        source=adapters.repos,
        disks=adapters.disks,
        cleaner=cleaner,
        door=make_doorkeeper(settings, adapters),
        downloads=adapters.downloads,
        remotes=adapters.remotes,
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
        remarkers=(
            ("Builds", BuildNetwork(adapters.engine, guarded=settings.network.build_bridge)),
            ("Builds", adapters.build_limits),
            ("HAProxy", adapters.proxy.room),
            ("Logs", LogAccess(adapters.engine)),
        ),
    )
    pushes = Pushes(
        database,
        adapters.repos,
        DeployWatcher(database, transcripts=adapters.transcripts, server=facts),
        ids=ids,
        door=world.door,
        limits=PushLimits(
            max_bytes=settings.git.max_push_bytes,
            max_refs=settings.git.max_refs,
            max_list_bytes=settings.git.max_list_bytes,
            pack=pack_limits(settings.git),
        ),
        creates_apps=settings.git.creates_apps,
    )
    services = Services((pushes, Fetches(database, adapters.repos)), database=database)
    return Shell(Dispatcher(every_command(), world=world, services=services), ids=ids)


def _facts(settings: Settings) -> ServerFacts:
    """Return what answers tell of a server that is set like this."""
    return ServerFacts(
        version=VERSION,
        host=settings.domains.default or socket.gethostname(),
        ssh_port=settings.ssh.port,
        http_port=int(settings.http.binds[0].rpartition(":")[2]),
        stop_seconds=settings.replicas.stop_seconds,
        drain_seconds=settings.replicas.drain_seconds,
        repositories=str(settings.folder / "repos"),
        creates_apps=settings.git.creates_apps,
        task_seconds=settings.replicas.task_seconds,
        archive_bytes=settings.git.max_push_bytes,
        archive_files=settings.git.max_files,
        build_seconds=settings.build.timeout,
        resources=Resources(memory_bytes=settings.replicas.memory_bytes, pids=settings.replicas.pids),
    )


def _listens(settings: Settings) -> list[tuple[str, int]]:
    """Return where Pushboat should answer; not the ports that the system chose."""
    http = [(bind.host, bind.port) for bind in parse_binds(settings.http.binds)]
    all_of_them = [(settings.ssh.host, settings.ssh.port), *http]
    return [(host, port) for host, port in all_of_them if port]
