"""Gives each replica an address of its own.

Addresses are handed out in a circle per bridge, so that one that was just given back is the last to be used again.
"""

from __future__ import annotations

import msgspec

from agent.errors import Unavailable
from agent.ports.addresses import REPLICAS_PER_BRIDGE, Bridges, number, text
from agent.state.database import Transaction


class Place(msgspec.Struct, frozen=True):
    """Where a replica lives."""

    bridge: int
    address: str


async def take(tx: Transaction, *, bridges: Bridges) -> Place:
    """Return a place that no replica has, nor had within the last ten minutes. The caller stores it in this `tx`.

    Raises:
        Unavailable: ``network.full``.
    """
    crowds = await tx.replicas.per_bridge()
    for bridge in range(bridges.count):
        if crowds.get(bridge, 0) < REPLICAS_PER_BRIDGE and (found := await _next(tx, bridges=bridges, bridge=bridge)):
            return Place(bridge, found)
    raise Unavailable(
        "network.full",
        f"All addresses of {bridges.pool} are in use.",
        "Scale something down, or set a larger network.pool.",
    )


async def _next(tx: Transaction, *, bridges: Bridges, bridge: int) -> str | None:
    first, last = bridges.addresses(bridge)
    fact = f"address-cursor.{bridge}"
    cursor = await tx.server.get(fact)
    start = number(cursor) + 1 if cursor else first
    size = last - first + 1
    for step in range(size):
        address = text(first + (start - first + step) % size)
        if await tx.replicas.is_free(address, now=tx.now):
            await tx.server.set(fact, address)
            return address
    return None
