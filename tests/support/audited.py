"""Programs that this process starts, as Python itself tells them (PEP 578): by whatever way, in whatever thread."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

STARTING: Final = frozenset(
    ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")
)
"""The events of all ways to have another program (https://docs.python.org/3/library/audit_events.html)."""

_listeners: dict[int, list[str]] = {}


@contextmanager
def starting() -> Iterator[list[str]]:
    """Collect what is started within: by which way, and what."""
    _listen()
    told: list[str] = []
    _listeners[id(told)] = told
    try:
        yield told
    finally:
        del _listeners[id(told)]


@cache
def _listen() -> None:
    """Add the hook. It cannot be taken away again, so there is one, to which mostly nobody listens."""

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTING:
            for told in list(_listeners.values()):
                told.append(f"{event} {arguments!r}")

    sys.addaudithook(hear)
