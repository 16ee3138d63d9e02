"""Ports towards the person at the other end: what a command may read and write."""

from __future__ import annotations

from typing import Protocol

import msgspec

from proto.names import Fingerprint

LOCAL_NAME = "root"
"""What root on this machine is called in records and logs. No key may have this name."""


class User(msgspec.Struct, frozen=True):
    """Who asks: the key that signed, and the name it was added under."""

    name: str
    fingerprint: Fingerprint
    is_local: bool = False
    """Root on this machine, by the agent's local key."""


class Terminal(Protocol):
    """Byte streams in both directions. Writing waits for a slow reader; it never buffers without bound."""

    @property
    def is_tty(self) -> bool:
        """Whether there is a pty at the other end."""
        ...

    @property
    def term(self) -> str:
        """The TERM of the pty, or empty."""
        ...

    def size(self) -> tuple[int, int]:
        """Return columns and rows; (80, 24) when unknown."""
        ...

    async def resized(self) -> tuple[int, int]:
        """Wait until the window changes; return the new columns and rows."""
        ...

    async def read(self, size: int = 65_536) -> bytes:
        """Return up to `size` bytes of standard input; empty at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send to standard output.

        Raises:
            ConnectionError: the reader has gone.
        """
        ...

    async def write_error(self, data: bytes) -> None:
        """Send to standard error. Raises as `write` does."""
        ...

    async def gone(self) -> None:
        """Return once the other end has left or pressed Ctrl-C on a pty whose input nobody reads."""
        ...


class Session(Terminal, Protocol):
    """One command's terminal, and who is behind it."""

    @property
    def user(self) -> User:
        """Who asks."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """What the client sent along and we accept: ``LANG``, ``TZ``, ``NO_COLOR``, ``PUSHBOAT_*``."""
        ...
