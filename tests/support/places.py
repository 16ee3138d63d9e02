"""Where agents of fakes keep their data: in memory, where a sync costs nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

_MEMORY = Path("/dev/shm")


@contextmanager
def in_memory() -> Iterator[Path]:
    """Have a folder for the block, in memory if the machine has a file system for that."""
    with tempfile.TemporaryDirectory(prefix="pushboat-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def empty(folder: Path) -> None:
    """Remove all that is in `folder`."""
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


@contextmanager
def silence() -> Iterator[None]:
    """Drop what is logged during the block, before it costs anything."""
    processors = structlog.get_config()["processors"]
    kept = list(processors)
    processors[:] = [_drop]
    try:
        yield
    finally:
        processors[:] = kept


def _drop(logger: object, method: str, facts: object) -> str:
    raise structlog.DropEvent
