"""Every handler, joined to the adapters that it acts through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from agent.bootstrap.adapters import Adapters
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
from agent.lifecycle.cleaning import Doorkeeper
from agent.ports.scheduler import Resources
from agent.settings import Settings
from agent.state.database import Database
from agent.system import RandomIds, SystemClock
from agent.vault import Vault

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
    LogStreamer,
)
"""Every handler class. One that is not here gets no event."""


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What the handlers stand on."""

    settings: Settings
    database: Database
    adapters: Adapters
    clock: SystemClock
    ids: RandomIds
    vault: Vault
    door: Doorkeeper
    streamer: LogStreamer
    """Made first: it also runs outside the bus."""


def make_handlers(on: Ground) -> Sequence[object]:
    """Return one of each class in `HANDLERS`."""
    turn = asyncio.Lock()
    return [
        on.streamer,
        _builder(on),
        Releaser(on.database, transcripts=on.adapters.transcripts, ids=on.ids),
        Undertaker(on.database),
        ImagePusher(
            on.database, registries=on.adapters.registries, transcripts=on.adapters.transcripts, clock=on.clock
        ),
        _tasks(on),
        _scheduler(on),
        _checks(on),
        _proxy(on, turn),
        _retirer(on, turn),
        _janitor(on),
    ]


def _builder(on: Ground) -> Builder:
    return Builder(
        on.database,
        repos=on.adapters.repos,
        images=on.adapters.images,
        workshops=on.adapters.workshops,
        choose=on.adapters.choose,
        transcripts=on.adapters.transcripts,
        clock=on.clock,
        door=on.door,
        concurrency=on.settings.build.concurrency,
        timeout_seconds=on.settings.build.timeout,
    )


def _tasks(on: Ground) -> Tasks:
    return Tasks(
        on.database,
        scheduler=on.adapters.scheduler,
        transcripts=on.adapters.transcripts,
        logs=on.adapters.logs,
        keeper=on.streamer,
        clock=on.clock,
        defaults=_defaults(on),
        limit_seconds=on.settings.replicas.task_seconds,
    )


def _scheduler(on: Ground) -> SchedulerReconciler:
    return SchedulerReconciler(
        on.database,
        scheduler=on.adapters.scheduler,
        keeper=on.streamer,
        bridges=on.adapters.bridges,
        transcripts=on.adapters.transcripts,
        clock=on.clock,
        ids=on.ids,
        fingerprint=on.vault.fingerprint,
        defaults=_defaults(on),
    )


def _defaults(on: Ground) -> RunDefaults:
    limits = on.settings.replicas
    return RunDefaults(
        resources=Resources(memory_bytes=limits.memory_bytes, pids=limits.pids),
        stop_seconds=limits.stop_seconds,
        drain_seconds=limits.drain_seconds,
    )


def _checks(on: Ground) -> Checks:
    return Checks(
        on.database,
        scheduler=on.adapters.scheduler,
        prober=on.adapters.prober,
        transcripts=on.adapters.transcripts,
        logs=on.adapters.logs,
        keeper=on.streamer,
        clock=on.clock,
        start_seconds=on.settings.replicas.start_seconds,
        stop_seconds=on.settings.replicas.stop_seconds,
    )


def _proxy(on: Ground, turn: asyncio.Lock) -> ProxyReconciler:
    return ProxyReconciler(
        on.database,
        proxy=on.adapters.proxy,
        transcripts=on.adapters.transcripts,
        clock=on.clock,
        drain_seconds=on.settings.replicas.drain_seconds,
        turn=turn,
    )


def _retirer(on: Ground, turn: asyncio.Lock) -> Retirer:
    return Retirer(
        on.database,
        scheduler=on.adapters.scheduler,
        proxy=on.adapters.proxy,
        keeper=on.streamer,
        clock=on.clock,
        stop_seconds=on.settings.replicas.stop_seconds,
        turn=turn,
    )


def _janitor(on: Ground) -> Janitor:
    return Janitor(
        on.database,
        scheduler=on.adapters.scheduler,
        images=on.adapters.images,
        workshops=on.adapters.workshops,
        repos=on.adapters.repos,
        logs=on.adapters.logs,
        transcripts=on.adapters.transcripts,
        kept_releases=on.settings.replicas.kept_releases,
        clock=on.clock,
    )
