"""Where build steps run, and so what they reach: BuildKit puts them on the engine's default bridge.

The engine's builder takes no other network for a build than its default, none and the host's (``networkmode`` of
``POST /build``; anything else is "not supported by buildkit"). The default bridge may carry anybody's containers, so no
rule of ours is put there unasked; what remains is to say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from agent.docker.engine import Engine, Refused
from agent.errors import Unavailable

_NAME_OPTION: Final = "com.docker.network.bridge.name"


class _Bridge(msgspec.Struct, frozen=True, rename="pascal"):
    options: dict[str, str] | None = None


class BuildNetwork:
    """Tells for ``doctor`` what build steps reach."""

    def __init__(self, engine: Engine, *, guarded: str) -> None:
        """`guarded`: the interface that the firewall's rules hold for, besides the pool; empty for none."""
        self._engine = engine
        self._guarded = guarded

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return what protects this machine less than one may think, each with what to do. Never raises."""
        try:
            found = await self._engine.get("networks/bridge", into=_Bridge)
        except (Unavailable, Refused):
            return []  # That the engine does not answer is told by others.
        # Without a default bridge builds have no network at all.
        return exposure((found.options or {}).get(_NAME_OPTION, "") if found else "", guarded=self._guarded)


def exposure(bridge: str, *, guarded: str) -> list[tuple[str, str]]:
    """Return what build steps on `bridge` reach that they should not, with what to do; empty if nothing."""
    if bridge in ("", guarded):
        return []
    elsewhere = f" (network.build_bridge names {guarded})" if guarded else ""
    return [
        (
            f"Build steps run on Docker's default bridge {bridge}, where the firewall rules do not hold{elsewhere}: "
            "they can reach this machine's own ports and its metadata address.",
            f'If nothing else runs on {bridge}, set build_bridge = "{bridge}" in [network] and restart '
            "pushboat-firewall and pushboat. Else let only those push whom you trust with these.",
        )
    ]
