"""The shared bridges that replicas live on: made when first needed, told by label, never taken over from others.

Few large bridges instead of one per app, because dockerd takes over a minute to start with hundreds of them. Inter-
container communication is off, so that two apps on one bridge cannot reach each other, while this machine (and so the
proxy) reaches all of them.
"""

from __future__ import annotations

import asyncio

import msgspec

from agent.docker import labels
from agent.docker.engine import Engine, Faulted, Refused
from agent.errors import Unavailable
from agent.ports.addresses import Bridges


class _Range(msgspec.Struct, frozen=True, rename="pascal"):
    subnet: str = ""


class _Ipam(msgspec.Struct, frozen=True, rename="pascal"):
    config: list[_Range] | None = None


class _Network(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    name: str = ""
    labels: dict[str, str] | None = None
    ipam: _Ipam = msgspec.field(name="IPAM", default=_Ipam())


class Networks:
    """The bridges of one agent."""

    def __init__(self, engine: Engine, *, bridges: Bridges) -> None:
        self._engine = engine
        self._bridges = bridges
        self._known: set[int] = set()
        self._lock = asyncio.Lock()

    @property
    def pool(self) -> str:
        """All addresses of all bridges, in CIDR form."""
        return self._bridges.pool

    def name(self, index: int) -> str:
        """Return the name of a bridge, ``pushboat-<instance>-<index>``."""
        return f"pushboat-{self._engine.instance}-{index}"

    async def ensure(self, index: int) -> str:
        """Return the name of a bridge that is there, making it if need be. Asks the engine once per bridge.

        Raises:
            Unavailable: ``network.foreign``, ``network.pool-taken``, ``network.other-pool``; or no usable answer.
        """
        async with self._lock:
            if index not in self._known:
                if not await self._is_there(index):
                    await self._create(index)
                self._known.add(index)
        return self.name(index)

    def forget(self) -> None:
        """Ask the engine again next time: a bridge turned out to be missing."""
        self._known.clear()

    async def _is_there(self, index: int) -> bool:
        name = self.name(index)
        listed = await self._engine.get(
            "networks", into=list[_Network], params={"filters": msgspec.json.encode({"name": [name]}).decode()}
        )
        # The engine's name filter also matches parts of names.
        found = [network for network in listed or [] if network.name == name]
        if not found:
            return False
        if any((network.labels or {}).get(labels.INSTANCE) != self._engine.instance for network in found):
            raise Unavailable(
                "network.foreign",
                f"There is a Docker network called {name} that Pushboat did not make.",
                f"Look at it with: docker network inspect {name}. Remove or rename it.",
            )
        subnets = {part.subnet for network in found for part in network.ipam.config or []}
        if self._bridges.subnet(index) not in subnets:
            raise Unavailable(
                "network.other-pool",
                f"The Docker network {name} was made from another address pool than {self._bridges.pool}.",
                "Set network.pool back, or stop all apps and remove the network.",
            )
        return True

    async def _create(self, index: int) -> None:
        body = network_body(self.name(index), instance=self._engine.instance, bridges=self._bridges, index=index)
        try:
            await self._engine.json("POST", "networks/create", data=body)
        except (Refused, Faulted) as refusal:
            # Told as a taken name or as taken addresses: an answer that was lost, or another task of this agent.
            if await self._is_there(index):
                return
            raise Unavailable(
                "network.pool-taken",
                f"Docker cannot make a network of {self._bridges.subnet(index)}: {refusal.detail}.",
                "Choose addresses that nobody else on this machine uses: network.pool in the settings.",
            ) from refusal


def network_body(name: str, *, instance: str, bridges: Bridges, index: int) -> dict[str, object]:
    """Return what ``POST /networks/create`` needs for a shared bridge."""
    addresses = {
        "Subnet": bridges.subnet(index),
        "Gateway": bridges.gateway(index),
        # What the engine chooses itself (for one-offs) it takes from here, so it never meets an address of ours.
        "IPRange": bridges.one_offs(index),
    }
    return {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "IPAM": {"Driver": "default", "Config": [addresses]},
        "Options": {"com.docker.network.bridge.enable_icc": "false"},
        "Labels": {labels.INSTANCE: instance, labels.BRIDGE: str(index)},
    }
