"""What runs on this machine, in containers and in build steps too."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path


def command_lines() -> list[bytes]:
    """Return the command line of every process, its words ended by NUL."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes())
    return found


def long_sleep() -> str:
    """Return seconds for a ``sleep`` that nobody else sleeps, and nobody lives to see the end of."""
    return str(10_000_000 + secrets.randbelow(10_000_000))


async def sleeps(seconds: str) -> bool:
    """Tell whether somebody sleeps for so long."""
    return any(f"sleep\0{seconds}\0".encode() in line for line in command_lines())


async def sleeps_no_more(seconds: str) -> bool:
    """Tell whether nobody sleeps for so long."""
    return not await sleeps(seconds)
