"""How the pool of addresses is cut into shared bridges: one rule, for handing out addresses and for making networks.

The pool is cut into /20s, one per bridge. Of each, the first address is the bridge's own (the gateway), the last /24 is
left to the engine for one-offs (`run`), and all between is handed out by us, one address per replica for its whole
life. Pure arithmetic on IPv4 addresses as integers.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

BRIDGE_PREFIX: Final = 20
"""4,096 addresses: so many more than replicas that one rests for a while before it is used again."""
ONE_OFF_PREFIX: Final = 24
"""Of one-offs, per bridge: 255 at once."""
REPLICAS_PER_BRIDGE: Final = 750
"""Linux lets a bridge have 1,024 ports (BR_MAX_PORTS); one-offs may need 255 of them."""


class Bridges:
    """The shared bridges of one pool, by index from 0."""

    def __init__(self, pool: str = "10.213.0.0/16") -> None:
        """`pool`: an IPv4 network in CIDR form, /20 or larger, that nobody else on this machine uses.

        Raises:
            ValueError: it is no network, or too small.
        """
        self._pool = IPv4Network(pool)
        if self._pool.prefixlen > BRIDGE_PREFIX:
            raise ValueError(f"{pool} is smaller than a /{BRIDGE_PREFIX}")

    @property
    def pool(self) -> str:
        """All addresses of all bridges, in CIDR form."""
        return str(self._pool)

    @property
    def count(self) -> int:
        """How many bridges the pool has room for."""
        return 1 << (BRIDGE_PREFIX - self._pool.prefixlen)

    def subnet(self, index: int) -> str:
        """Return all addresses of a bridge, in CIDR form."""
        return str(self._network(index))

    def gateway(self, index: int) -> str:
        """Return the bridge's own address, by which this machine reaches its containers."""
        return str(self._network(index)[1])

    def one_offs(self, index: int) -> str:
        """Return the addresses that the engine gives to one-offs, in CIDR form."""
        first = int(self._network(index).broadcast_address) + 1 - (1 << (32 - ONE_OFF_PREFIX))
        return f"{IPv4Address(first)}/{ONE_OFF_PREFIX}"

    def addresses(self, index: int) -> tuple[int, int]:
        """Return the first and the last address for replicas (both included), as integers; see `text`."""
        network = self._network(index)
        return int(network[2]), int(network.broadcast_address) - (1 << (32 - ONE_OFF_PREFIX))

    def index_of(self, address: str) -> int | None:
        """Return the bridge that `address` belongs to, or `None` if it is not of this pool."""
        number = IPv4Address(address)
        if number not in self._pool:
            return None
        return (int(number) - int(self._pool.network_address)) >> (32 - BRIDGE_PREFIX)

    def _network(self, index: int) -> IPv4Network:
        if not 0 <= index < self.count:
            raise IndexError(f"{self.pool} has {self.count} bridges, not {index}")
        start = int(self._pool.network_address) + (index << (32 - BRIDGE_PREFIX))
        return IPv4Network((start, BRIDGE_PREFIX))


def text(address: int) -> str:
    """Return an address given as an integer in dotted form."""
    return str(IPv4Address(address))


def number(address: str) -> int:
    """Return an address given in dotted form as an integer."""
    return int(IPv4Address(address))
