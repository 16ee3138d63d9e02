"""Whether the engine's log files may be read, for ``doctor``. Where not, its stream is read, which costs more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.docker.engine import Engine, Refused
from agent.errors import Unavailable

FOLDER = "containers"
"""Below the engine's root folder: where each container's files lie, its log among them."""


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    docker_root_dir: str = ""


class LogAccess:
    """Tells for ``doctor`` how lines are read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return what makes log lines dearer than they need be, with what to do. Never raises."""
        try:
            info = await self._engine.get("info", into=_Info)
        except (Unavailable, Refused):
            return []  # That the engine does not answer is told by others.
        root = Path(info.docker_root_dir) if info else Path()
        return [] if await asyncio.to_thread(_is_open, root / FOLDER) else [told(root)]


def told(root: Path) -> tuple[str, str]:
    """Return what it means that the log files below `root` may not be read, and what to do."""
    return (
        f"The log files below {root} are not open to Pushboat, which has Docker read them to it: lines cost Docker "
        "three times as much processor time.",
        f"Run scripts/install again, or as root: setfacl -m g:docker:x {root} {root}/{FOLDER} && "
        f"setfacl -d -m u::rwx,g::rx,g:docker:rx,o::rx {root}/{FOLDER}. It holds for containers made from then on.",
    )


def _is_open(folder: Path) -> bool:
    return os.access(folder, os.X_OK)
