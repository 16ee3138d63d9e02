"""What the engine says of containers and of itself, for people: `ps:inspect` and `doctor`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agent.docker import firewall
from agent.docker.engine import Engine, Refused
from agent.docker.networks import Networks
from agent.errors import UserError

MASK: Final = "*******"
"""In place of environment values."""
_KERNEL_HINT: Final = "Limits or the isolation of apps do not work without it: enable it in the kernel."


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    warnings: list[str] | None = None


async def describe(engine: Engine, containers: Sequence[str]) -> list[Mapping[str, object]]:
    """Return ``docker inspect`` of each container, values of its environment masked; of those gone, nothing."""
    found = [await engine.get(f"containers/{container}/json", into=dict[str, Any]) for container in containers]
    return [masked(description) for description in found if description is not None]


def masked(description: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a description of a container without the values of its environment, in its command neither.

    An image's ENTRYPOINT gets the words of a Procfile line with ``$VARIABLES`` replaced.
    """
    config = dict(description.get("Config") or {})
    pairs = [line.partition("=") for line in config.get("Env") or []]
    values = sorted({value for _, _, value in pairs if value}, key=len, reverse=True)
    config["Env"] = [f"{key}={MASK}" for key, _, _ in pairs]
    config["Cmd"] = _without(config.get("Cmd"), values)
    return {**description, "Config": config, "Args": _without(description.get("Args"), values)}


def _without(words: Sequence[str] | None, values: Sequence[str]) -> list[str] | None:
    if words is None:
        return None
    if not values:
        return list(words)
    pattern = re.compile("|".join(map(re.escape, values)))
    return [pattern.sub(MASK, word) for word in words]


async def problems(engine: Engine, networks: Networks, *, build_bridge: str) -> list[tuple[str, str]]:
    """Return what is wrong with the engine and the way to it, each with what to do. Never raises.

    `build_bridge`: the interface that firewall rules have to hold for besides our own bridges; empty for none.
    """
    try:
        await engine.api_version()
        info = await engine.get("info", into=_Info)
        await networks.ensure(0)
        unprotected = await asyncio.to_thread(firewall.missing, networks.pool, build_bridge=build_bridge)
    except UserError as error:
        return [(error.message, error.hint)]
    except Refused as refusal:
        return [(f"Docker refused a question: {refusal.message}", "Look at its log: journalctl -u docker.")]
    except firewall.FirewallError as error:
        return [(f"The firewall cannot be looked at: {error}", "Install iptables.")]
    found = [(warning, _KERNEL_HINT) for warning in (info.warnings if info else None) or [] if _concerns_us(warning)]
    if unprotected:
        found.append((f"Apps can reach this machine's own ports: {unprotected}.", firewall.HINT))
    return found


def _concerns_us(warning: str) -> bool:
    return any(words in warning for words in ("memory limit", "pids limit", "bridge-nf-call-iptables is disabled"))
