"""Which sockets the programs of a container listen on, and what that means for the one port that matters.

Read from the kernel's tables (``/proc/PID/net/tcp`` and ``tcp6``, proc(5)), which show the network namespace of that
process: nothing has to be installed in the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

_LISTEN: Final = "0A"
"""``TCP_LISTEN`` of the kernel's ``net/tcp_states.h``."""
_ENGINE_DNS: Final = "127.0.0.11"
"""The engine's own name server, which it puts into every container on a network like ours."""


class Listener(msgspec.Struct, frozen=True, order=True):
    """A listening TCP socket."""

    port: int
    address: str
    """``0.0.0.0`` or ``::`` for all."""

    @property
    def is_loopback(self) -> bool:
        """Whether only programs inside the container reach it."""
        return self.address.startswith("127.") or self.address in ("::1", "::ffff:127.0.0.1")

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def read_table(table: str) -> set[Listener]:
    """Return the listening sockets of a ``/proc/PID/net/tcp`` or ``tcp6``; lines that make no sense are skipped."""
    found: set[Listener] = set()
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTEN:
            continue
        address, _, port = fields[1].partition(":")
        try:
            listener = Listener(int(port, 16), _address(address))
        except ValueError:
            continue
        if listener.address != _ENGINE_DNS:
            found.add(listener)
    return found


def _address(text: str) -> str:
    # The kernel prints each 32-bit word in the machine's own byte order; ours is little-endian wherever Docker runs.
    raw = bytes.fromhex(text)
    words = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    return str(IPv4Address(words)) if len(words) == 4 else str(IPv6Address(words))


def why_unreachable(listeners: Iterable[Listener], *, port: int, own_address: str) -> str | None:
    """Return why `port` cannot be reached from outside the container, in a sentence; `None` if it can.

    `own_address`: the container's, which a program may listen on as well as on all.
    """
    found = sorted(listeners)
    there = [listener for listener in found if listener.port == port]
    if any(listener.address in ("0.0.0.0", "::", own_address) for listener in there):
        return None
    if there:
        return f"It listens on {there[0]} only, where nobody outside can reach it. Listen on 0.0.0.0:{port}."
    if not found:
        return f"Nothing listens on port {port}."
    others = ", ".join(str(listener) if listener.is_loopback else f"port {listener.port}" for listener in found[:5])
    only = " only" if all(listener.is_loopback for listener in found) else ""
    return f"Nothing listens on port {port}; it listens on {others}{only}. Listen on 0.0.0.0, on the port in $PORT."
