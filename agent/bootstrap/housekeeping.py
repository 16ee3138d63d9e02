"""What looks after the disk, joined to the adapters that it acts through."""

from __future__ import annotations

from agent.bootstrap.adapters import Adapters
from agent.lifecycle.cleaning import Budget, Cleaner, Doorkeeper
from agent.lifecycle.old_images import OldImages
from agent.settings import Settings
from agent.state.database import Database
from agent.system import SystemClock


def make_cleaner(settings: Settings, database: Database, adapters: Adapters, *, clock: SystemClock) -> Cleaner:
    """Return what keeps the disk within its budget."""
    return Cleaner(
        database,
        disks=adapters.disks,
        old_images=OldImages(
            database, images=adapters.images, kept_releases=settings.replicas.kept_releases, clock=clock
        ),
        scheduler=adapters.scheduler,
        repos=adapters.repos,
        logs=adapters.logs,
        budget=Budget(
            free_share=settings.disk.free_percent / 100,
            max_bytes=settings.disk.max_bytes,
            prunes_build_cache=settings.disk.prunes_build_cache,
        ),
    )


def make_doorkeeper(settings: Settings, adapters: Adapters) -> Doorkeeper:
    """Return who says no to work that would fill the disk."""
    return Doorkeeper(adapters.disks, build_bytes=settings.disk.build_bytes, push_bytes=settings.disk.push_bytes)
