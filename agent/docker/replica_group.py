"""The control group of replicas, as the engine wants it named."""

from __future__ import annotations

import msgspec

from agent.docker.engine import Engine


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    cgroup_driver: str = ""


class ReplicaGroup:
    """A systemd slice with a weight of its own, below which the containers of replicas are made."""

    def __init__(self, engine: Engine, slice_name: str) -> None:
        """`slice_name`: ``pushboat.slice``, or empty: then replicas run where the engine puts every container."""
        self._engine = engine
        self._slice = slice_name
        self._parent: str | None = None

    async def parent(self) -> str:
        """Return what ``HostConfig.CgroupParent`` has to be; empty for none. The engine is asked once.

        With its driver ``systemd`` it takes the name of a slice; with ``cgroupfs`` a path, which without a leading
        slash would be one below the engine's own service (runc, libcontainer/cgroups/fs).

        Raises:
            agent.errors.Unavailable: the engine does not answer.
        """
        if self._parent is None:
            info = await self._engine.get("info", into=_Info) if self._slice else None
            by_path = info is not None and info.cgroup_driver == "cgroupfs"
            self._parent = f"/{self._slice}" if by_path else self._slice
        return self._parent
