"""The layers of an image that the engine holds, for engines that want to be given even layers that they have.

An engine that keeps images in its own store knows a layer by what is in it and below it, and does not read it again.
One that keeps them in containerd's wants every layer of an archive to be there.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from agent.docker.engine import Engine, Refused
from agent.docker.tar_stream import TarStream
from agent.errors import Unavailable

MAX_MANIFEST: Final = 4 << 20
"""Bytes of ``manifest.json``."""
_CONTAINERD: Final = ["driver-type", "io.containerd.snapshotter.v1"]
_MANIFEST: Final = "manifest.json"
_NAMING: Final = (_MANIFEST, "index.json", "repositories", "oci-layout")
"""What names images in an archive, and is of no use in another one."""


class _Info(msgspec.Struct, frozen=True, rename="pascal"):
    driver_status: list[list[str]] | None = None


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    layers: list[str]


async def wants_all_layers(engine: Engine) -> bool:
    """Tell whether `engine` keeps its images in containerd's store.

    Raises:
        Unavailable: no usable answer.
    """
    info = await engine.get("info", into=_Info)
    return bool(info and _CONTAINERD in (info.driver_status or []))


async def saved_layers(engine: Engine, image: str, *, paths: list[str], count: int) -> AsyncGenerator[bytes, None]:
    """Yield the members of a tar that holds the layers of `image`, and put their paths into `paths`, the lowest first.

    There is no end of archive after them. `count`: how many layers the image has.

    Raises:
        Unavailable: the engine does not give them.
    """
    manifest = b""
    try:
        async with engine.stream("GET", f"images/{image}/get", answer_within=None) as chunks:
            stream = TarStream(chunks)
            while (member := await stream.next()) is not None:
                if member.name == _MANIFEST and member.size <= MAX_MANIFEST:
                    manifest = b"".join([piece async for piece in stream.content()])
                if member.name in _NAMING or not (member.isreg() or member.issym()):
                    continue
                yield member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
                async for piece in stream.content():
                    yield piece
                yield bytes(-member.size % tarfile.BLOCKSIZE)
    except Refused as refusal:
        raise Unavailable("image.missing", f"Docker does not give the run image: {refusal.message}") from refusal
    paths += _paths(manifest, count=count)


def _paths(manifest: bytes, *, count: int) -> Sequence[str]:
    try:
        found = msgspec.json.decode(manifest, type=list[_Saved])
    except msgspec.DecodeError as error:
        raise Unavailable("docker.unavailable", "Docker gave an archive of the run image without its list.") from error
    for image in found:
        if len(image.layers) == count:
            return image.layers
    raise Unavailable("docker.unavailable", "Docker gave an archive of the run image that is not all of it.")
