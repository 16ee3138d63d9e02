"""Implements ``agent.ports.disk.Disks``: file systems by statvfs(3), images and build cache by ``GET /system/df``."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agent.docker import labels
from agent.docker.engine import Engine, Refused
from agent.docker.image_layers import Layer, layers_of
from agent.errors import Unavailable
from agent.ports.disk import CacheUse, ImageUse, Room
from proto.names import AppId

log = structlog.get_logger(__name__)

DF_SECONDS: Final = 120.0
"""How long the engine may add up. It walks through every layer that it has not measured yet."""
PRUNE_SECONDS: Final = 600.0

FOLDERS: Final = "exec.cachemount"
STEPS: Final = ("internal", "frontend", "source.local", "source.git.checkout", "regular")
"""Types of records of BuildKit's (client/graph.go, UsageRecordType), by what it costs to make them again."""

_KINDS: Final = {"repository": "repos", "logs": "logs", "transcripts": "deploys"}


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    size: int = 0
    shared_size: int = 0
    labels: dict[str, str] | None = None
    repo_tags: list[str] | None = None


class _Record(msgspec.Struct, frozen=True, rename="pascal"):
    type: str = ""
    size: int = 0
    in_use: bool = False
    shared: bool = False


class _VolumeUse(msgspec.Struct, frozen=True, rename="pascal"):
    size: int = 0
    """-1: not known."""


class _Volume(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None
    usage_data: _VolumeUse | None = None


class _Use(msgspec.Struct, frozen=True, rename="pascal"):
    images: list[_Image] | None = None
    build_cache: list[_Record] | None = None
    volumes: list[_Volume] | None = None


class _Pruned(msgspec.Struct, frozen=True, rename="pascal"):
    space_reclaimed: int = 0


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    docker_root_dir: str = ""


class MachineDisks:
    """Fulfils ``Disks``."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        """`folder`: the data folder."""
        self._engine = engine
        self._folder = folder
        self._layers: dict[str, Sequence[Layer]] = {}
        """By the ids of images."""
        self._engines = ""
        """The engine's folder, once it has said which."""

    async def rooms(self, *, of_engine: bool = True) -> Sequence[Room]:
        """See ``Disks``."""
        if of_engine and not self._engines:
            try:
                info = await self._engine.get("info", into=_Info)
                self._engines = info.docker_root_dir if info else ""
            except (Unavailable, Refused) as error:
                log.debug("disk.engine-unknown", reason=str(error))
        return await asyncio.to_thread(_rooms, str(self._folder), self._engines if of_engine else "")

    async def images(self) -> Sequence[ImageUse]:
        """See ``Disks``."""
        return [
            ImageUse(
                id=image.id,
                app=(image.labels or {}).get(labels.APP_ID, ""),
                own=max(0, image.size - max(0, image.shared_size)),
                shared=max(0, image.shared_size),
                tags=tuple(tag for tag in image.repo_tags or () if tag != "<none>:<none>"),
            )
            for image in (await self._use()).images or ()
            if (image.labels or {}).get(labels.INSTANCE) == self._engine.instance
        ]

    async def layers(self) -> int:
        """See ``Disks``. What an image has never changes, so each is asked for once."""
        built = labels.filters({labels.INSTANCE: self._engine.instance})
        named = msgspec.json.encode({"reference": [f"pushboat-{self._engine.instance}/*"]}).decode()
        rows = [
            row
            for mine in (built, named)
            for row in await self._engine.get("images/json", into=list[_Image], params={"filters": mine}) or ()
        ]
        known = self._layers
        self._layers = {id: known.get(id) or await layers_of(self._engine, id) for id in {row.id for row in rows}}
        return sum({layer.chain: layer.size for found in self._layers.values() for layer in found}.values())

    async def remove_image(self, image: str) -> bool:
        """See ``Disks``. Not by force: the engine refuses while a container or another image needs it."""
        try:
            await self._engine.json("DELETE", f"images/{image}")
        except Refused as refusal:
            if refusal.status == 409:
                return False
            if refusal.status != 404:
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal
        return True

    async def cache(self) -> CacheUse:
        """See ``Disks``."""
        records = [record for record in (await self._use()).build_cache or () if not record.in_use]
        return CacheUse(
            steps=sum(record.size for record in records if record.type != FOLDERS and not record.shared),
            folders=sum(record.size for record in records if record.type == FOLDERS),
        )

    async def prune_cache(self, *, bytes: int | None = None) -> int:
        """See ``Disks``."""
        freed = 0
        for type in (*STEPS, FOLDERS):
            if bytes is not None and freed >= bytes:
                break
            freed += await self._prune(type, None if bytes is None else bytes - freed)
        return freed

    async def volumes(self) -> Mapping[str, int]:
        """See ``Disks``."""
        found = Counter[str]()
        for volume in (await self._use()).volumes or ():
            marks = volume.labels or {}
            if (marks.get(labels.INSTANCE), marks.get(labels.KIND)) == (self._engine.instance, labels.KEPT):
                found[marks.get(labels.APP_ID, "")] += max(0, volume.usage_data.size) if volume.usage_data else 0
        return found

    async def folders(self, app: AppId) -> Mapping[str, int]:
        """See ``Disks``."""
        return await asyncio.to_thread(
            lambda: {kind: _size(self._folder / name / app) for kind, name in _KINDS.items()}
        )

    async def database(self) -> int:
        """See ``Disks``."""
        return await asyncio.to_thread(lambda: sum(map(_size, self._folder.glob("pushboat.db*"))))

    async def _use(self) -> _Use:
        return await self._engine.get("system/df", into=_Use, timeout=DF_SECONDS) or _Use()

    async def _prune(self, type: str, bytes: int | None) -> int:
        """Remove records of one type, those that were not used for longest first, down to a size of all of them."""
        params = {"all": "1", "filters": msgspec.json.encode({"type": [type]}).decode()}
        if bytes is not None:
            # BuildKit counts all records against what is to be kept, of whichever type, but shared ones.
            records = (await self._use()).build_cache or ()
            kept = sum(record.size for record in records if not record.shared) - bytes
            params["keep-storage"] = str(max(1, kept))
        answer = await self._engine.json("POST", "build/prune", params=params, timeout=PRUNE_SECONDS)
        return msgspec.convert(answer, _Pruned).space_reclaimed


def _rooms(data: str, engines: str) -> Sequence[Room]:
    """Return the disk of each folder, each disk once."""
    found: dict[int, Room] = {}
    for path in filter(None, (engines, data)):
        try:
            device, room = os.stat(path).st_dev, os.statvfs(path)
        except OSError as error:
            log.debug("disk.not-found", path=path, reason=str(error))
            continue
        total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        found.setdefault(device, Room(path=path, total=total, free=free, has_images=path == engines))
    return list(found.values())


def _size(path: Path) -> int:
    """Return the bytes that a file, or a folder with all that is in it, takes on the disk."""
    try:
        size = path.lstat().st_blocks * 512
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as entries:
                size += sum(_size(Path(entry.path)) for entry in entries)
    except FileNotFoundError:
        return 0
    return size
