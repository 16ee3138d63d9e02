"""Ports and networks of this machine that nobody uses."""

from __future__ import annotations

import random
import socket
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from scripts.house.engine import Engine

LOOPBACK = "127.0.0.1"


FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below Linux's ephemeral ports (ip_local_port_range, 32768 up): there the system would give a port that was picked
here to somebody else, perhaps before who picked it has bound it."""


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if nobody listens there, else a random port that nobody has and that the system gives nobody.

    Raises:
        OSError: none of a hundred random ones is free.
    """
    for port in [preferred] * bool(preferred) + random.sample(range(FIRST_PORT, LAST_PORT), 100):
        if _is_free(port):
            return port
    raise OSError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def free_pool(engine: Engine, *, preferred: str | None = None, prefix: int = 16) -> IPv4Network:
    """Return an IPv4 network inside 10.128.0.0/9 that no bridge and no route of this machine overlaps."""
    taken = [*engine.subnets(), *_routes()]
    outer = IPv4Network("10.128.0.0/9")
    size = 1 << (32 - prefix)
    candidates = [IPv4Network(preferred)] if preferred else []
    candidates += [
        IPv4Network((int(outer.network_address) + index * size, prefix))
        for index in random.sample(range(outer.num_addresses // size), 64)
    ]
    for candidate in candidates:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise OSError("no free network in 10.128.0.0/9: set network.pool by hand")


def _routes() -> list[IPv4Network]:
    """Return the networks that the kernel routes, the default route left out. Format: route in proc(5)."""
    lines = Path("/proc/net/route").read_text().splitlines()[1:]
    found = []
    for line in lines:
        _, destination, _, _, _, _, _, mask = line.split()[:8]
        network = IPv4Network((_address(destination), str(IPv4Address(_address(mask)))))
        if network.prefixlen:
            found.append(network)
    return found


def _address(hexadecimal: str) -> int:
    return int.from_bytes(bytes.fromhex(hexadecimal), "little")
