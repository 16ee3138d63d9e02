"""The real clock and real randomness, for `agent.ports.world`; and word to systemd of how the agent is."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time

import structlog

log = structlog.get_logger(__name__)

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 11
"""55 random bits: among a million ids the chance that two are the same is one in 70,000, and the table refuses it."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """See ``Clock``."""
        return time.time()

    def monotonic(self) -> float:
        """See ``Clock``."""
        return time.monotonic()


class RandomIds:
    """Identifiers from the kernel's randomness."""

    def new(self, prefix: str) -> str:
        """See ``Ids``."""
        return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))

    def token(self, size: int) -> bytes:
        """See ``Ids``."""
        return secrets.token_bytes(size)


def memory_bytes() -> int:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def notify(state: str) -> None:
    """Tell systemd, if it runs us, a state such as ``READY=1`` (sd_notify(3)). Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            channel.send(state.encode())
    except OSError as error:
        log.warning("systemd.not-told", state=state, reason=str(error))


def watchdog_seconds() -> float | None:
    """Return how often systemd wants to hear ``WATCHDOG=1`` at the latest, or `None` if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdigit() else None


async def feed_watchdog() -> None:
    """Tell systemd that the loop turns, twice as often as it asks for; return at once if it does not ask."""
    seconds = watchdog_seconds()
    while seconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)
