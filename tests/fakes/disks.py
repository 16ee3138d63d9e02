"""Disks that are as full as a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.ports.disk import CacheUse, ImageUse, Room
from proto.names import AppId

GB = 1_000_000_000


class FakeDisks:
    """Fulfils ``Disks``. What is removed becomes free."""

    def __init__(self) -> None:
        self.total, self.free = 100 * GB, 50 * GB
        self.unnamed: list[ImageUse] = []
        self.used: set[str] = set()
        """Images that something needs."""
        self.use = CacheUse()
        self.kept: dict[str, int] = {}
        """What buildpacks keep, by the app's id."""

    async def rooms(self, *, of_engine: bool = True) -> Sequence[Room]:
        return [Room(path="/data", total=self.total, free=self.free, has_images=True)]

    async def images(self) -> Sequence[ImageUse]:
        return list(self.unnamed)

    async def layers(self) -> int:
        # One share is what all have in common, as a base image's layers are.
        return sum(one.own for one in self.unnamed) + max((one.shared for one in self.unnamed), default=0)

    async def remove_image(self, image: str) -> bool:
        if image in self.used:
            return False
        self.free += sum(one.own for one in self.unnamed if one.id == image)
        self.unnamed = [one for one in self.unnamed if one.id != image]
        return True

    async def cache(self) -> CacheUse:
        return self.use

    async def prune_cache(self, *, bytes: int | None = None) -> int:
        there = self.use.steps + self.use.folders
        freed = there if bytes is None else min(bytes, there)
        left = there - freed
        self.use = CacheUse(steps=max(0, left - self.use.folders), folders=min(left, self.use.folders))
        self.free += freed
        return freed

    async def volumes(self) -> Mapping[str, int]:
        return self.kept

    async def folders(self, app: AppId) -> Mapping[str, int]:
        return {"repository": 3_000, "logs": 2_000, "transcripts": 1_000}

    async def database(self) -> int:
        return 4_000
