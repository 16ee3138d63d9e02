"""What the core acts through: Docker, HAProxy, git and files, each opened with its settings."""

from __future__ import annotations

import contextlib
from functools import partial

import msgspec

from agent.archives.caps import Caps
from agent.builders import Means, choose, every_builder
from agent.docker.build_limits import BuildLimits
from agent.docker.disks import MachineDisks
from agent.docker.engine import Engine
from agent.docker.file_changes import FileChanges
from agent.docker.images import DockerImages
from agent.docker.logs import DockerLogs
from agent.docker.registries import DockerRegistries
from agent.docker.workshops import DockerWorkshops
from agent.git.downloads import HttpDownloads
from agent.git.pack import LARGEST_FOLDER, LARGEST_OBJECT, PackLimits
from agent.git.remotes import GitRemotes
from agent.git.repos import GitRepos
from agent.logs.store import DiskLogStore
from agent.logs.transcripts import DiskTranscripts
from agent.ports.addresses import Bridges
from agent.ports.images import Choose
from agent.proxies.haproxy.proxy import HaproxyProxy
from agent.schedulers.docker import DockerScheduler
from agent.schedulers.probe import DockerProber
from agent.settings import GitSettings, Settings
from agent.system import SystemClock, memory_bytes


class Adapters(msgspec.Struct, frozen=True, kw_only=True):
    """What the core acts through."""

    scheduler: DockerScheduler
    prober: DockerProber
    images: DockerImages
    workshops: DockerWorkshops
    registries: DockerRegistries
    engine: Engine
    log_source: DockerLogs
    logs: DiskLogStore
    transcripts: DiskTranscripts
    repos: GitRepos
    downloads: HttpDownloads
    remotes: GitRemotes
    proxy: HaproxyProxy
    bridges: Bridges
    disks: MachineDisks
    build_limits: BuildLimits
    choose: Choose
    """Picks among the builders."""


async def open_adapters(
    stack: contextlib.AsyncExitStack, settings: Settings, *, instance: str, clock: SystemClock
) -> Adapters:
    """Return the adapters of this machine; what has to be closed is closed by `stack`."""
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
    changes = FileChanges()
    stack.callback(changes.close)
    transcripts = await stack.enter_async_context(DiskTranscripts(folder / "deploys"))
    proxy = HaproxyProxy(
        folder / "proxy",
        binds=settings.http.binds,
        is_supervised=settings.http.is_supervised,
        trusted=settings.http.trusted_proxies,
        apps=settings.network.pool,
        max_connections=settings.http.max_connections,
        keep_alive_seconds=settings.http.keep_alive,
        spare_backends=settings.http.spare_backends,
    )
    images = DockerImages(engine, spool=folder, max_load_bytes=git.max_image_bytes)
    repos = GitRepos(
        folder / "repos",
        caps=Caps(
            entries=git.max_files,
            depth=git.max_depth,
            path_bytes=git.max_path_bytes,
            blob_bytes=git.max_file_bytes,
            total_bytes=git.max_tree_bytes,
        ),
        max_bytes=git.max_push_bytes,
    )
    workshops = DockerWorkshops(engine, bridges=bridges)
    limits = BuildLimits(engine, memory_bytes=memory_bytes() * settings.build.memory_percent // 100)
    means = Means(
        engine=engine,
        images=images,
        limits=limits,
        workshops=workshops,
        trusted=settings.build.trusted_builders,
    )
    await proxy.start()
    stack.push_async_callback(proxy.close)
    return Adapters(
        scheduler=_scheduler(engine, settings, bridges=bridges),
        prober=DockerProber(engine),
        images=images,
        workshops=workshops,
        registries=DockerRegistries(engine),
        engine=engine,
        log_source=DockerLogs(engine, changes=changes),
        logs=logs,
        transcripts=transcripts,
        repos=repos,
        downloads=HttpDownloads(),
        remotes=GitRemotes(repos, max_bytes=git.max_push_bytes, pack=pack_limits(git), ca_file=git.ca_file),
        proxy=proxy,
        bridges=bridges,
        disks=MachineDisks(engine, folder),
        build_limits=limits,
        choose=partial(choose, every_builder(means)),
    )


def pack_limits(git: GitSettings) -> PackLimits:
    """Return what an object of a pack may unfold to, whoever sends it."""
    return PackLimits(
        object_bytes=max(LARGEST_OBJECT, git.max_file_bytes), folder_entries=max(LARGEST_FOLDER, git.max_files)
    )


def _scheduler(engine: Engine, settings: Settings, *, bridges: Bridges) -> DockerScheduler:
    build_bridge, group = settings.network.build_bridge, settings.replicas.control_group
    return DockerScheduler(engine, bridges=bridges, build_bridge=build_bridge, group=group)
