"""What the engine says of containers and of itself, for people: `ps:inspect` and `doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agent.docker.engine import Engine, Refused
from agent.docker.networks import Networks
from agent.errors import UserError

MASK: Final = "*******"
"""In place of environment values."""


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    warnings: list[str] | None = None
    live_restore_enabled: bool = False


async def describe(engine: Engine, containers: Sequence[str]) -> list[Mapping[str, object]]:
    """Return ``docker inspect`` of each container, environment values masked; those that have gone are left out."""
    found = [await engine.get(f"containers/{container}/json", into=dict[str, Any]) for container in containers]
    return [masked(description) for description in found if description is not None]


def masked(description: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a description of a container without the values of its environment."""
    config = dict(description.get("Config") or {})
    config["Env"] = [f"{line.partition('=')[0]}={MASK}" for line in config.get("Env") or []]
    return {**description, "Config": config}


async def problems(engine: Engine, networks: Networks) -> list[tuple[str, str]]:
    """Return what is wrong with the engine, each with what to do. Never raises."""
    try:
        await engine.api_version()
        info = await engine.get("info", into=_Info)
        await networks.ensure(0)
    except UserError as error:
        return [(error.message, error.hint)]
    except Refused as refusal:
        return [(f"Docker refused a question: {refusal.message}", "Look at its log: journalctl -u docker.")]
    ours = ("memory limit", "pids limit", "bridge-nf-call-iptables is disabled")
    found = [warning for warning in (info.warnings if info else None) or [] if any(word in warning for word in ours)]
    return [
        (warning, "Limits or isolation of apps do not work without it: enable it in the kernel.") for warning in found
    ]
