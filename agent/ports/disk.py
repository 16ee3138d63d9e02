"""Port: the disks of this machine, and what of ours lies on them beside what other ports look after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from proto.names import AppId


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that we write to. All in bytes."""

    path: str
    """A folder on it: the data folder, or the engine's."""
    total: int
    free: int
    """Left for programs that are not root."""
    has_images: bool
    """Whether it is the engine's, where builds write."""

    @property
    def share(self) -> float:
        """How much of it is free, from 0 to 1."""
        return self.free / self.total if self.total else 1.0


class ImageUse(msgspec.Struct, frozen=True, kw_only=True):
    """An image of ours. Bytes."""

    id: str
    app: str
    """The app's id; empty if the image does not say."""
    own: int
    """Of layers that no other image has."""
    shared: int
    """Of layers that others have too, such as the base image's."""
    tags: tuple[str, ...] = ()
    """Empty: nothing names it any more."""


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine keeps to build faster. It is the whole engine's: nothing says whose builds filled it. Bytes."""

    steps: int = 0
    """Results of steps and contexts that could go."""
    folders: int = 0
    """Folders that outlive builds, such as a package manager's downloads, that could go."""


class Disks(Protocol):
    """Looks at disks, and takes away what no other port has."""

    async def rooms(self, *, of_engine: bool = True) -> Sequence[Room]:
        """Return the disks that we write to, each once. Cheap: asks the file systems. Never raises.

        The engine's is left out where it cannot be found, or is not asked for; without it Docker is not spoken to.
        """
        ...

    async def images(self) -> Sequence[ImageUse]:
        """Return every image that carries this agent's label.

        Raises:
            Unavailable: the engine does not answer. It may take it a minute.
        """
        ...

    async def layers(self) -> int:
        """Return the bytes of all layers of images with this agent's label or a tag of its own, each counted once.

        Layers that others' images have too, such as those of a base image, are among them.

        Raises:
            Unavailable: as `images`.
        """
        ...

    async def remove_image(self, image: str) -> bool:
        """Remove an image of ours that nothing names. Return false if something needs it. Gone is fine.

        Raises:
            Unavailable: the engine does not answer.
        """
        ...

    async def cache(self) -> CacheUse:
        """Return what the build cache takes.

        Raises:
            Unavailable: as `images`.
        """
        ...

    async def prune_cache(self, *, bytes: int | None = None) -> int:
        """Remove at least so many bytes of the build cache, or all that can go; return how many went.

        What was not used for longest goes first, and folders that outlive builds after all else.

        Raises:
            Unavailable: the engine does not answer.
        """
        ...

    async def volumes(self) -> Mapping[str, int]:
        """Return the bytes of the volumes that builds by buildpacks keep, by the app's id: those of this agent's label.

        Raises:
            Unavailable: as `images`.
        """
        ...

    async def folders(self, app: AppId) -> Mapping[str, int]:
        """Return the bytes of what the data folder has of an app: ``repository``, ``logs``, ``transcripts``."""
        ...

    async def database(self) -> int:
        """Return the bytes of the database and its backups."""
        ...
