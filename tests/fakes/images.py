"""An image store of dictionaries, and a builder that needs no engine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec

from agent.errors import Unavailable, UserError
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, Built, Choice, ImageInfo
from agent.ports.registries import Login
from agent.ports.source import SourceTree
from agent.ports.world import Say
from proto.names import AppId, DeployId

OURS = "pushboat-test"
APP_ID = "com.pushboat.app-id"


class FakeImages:
    """Fulfils ``Images``."""

    def __init__(self) -> None:
        self.by_id: dict[str, ImageInfo] = {}
        self.tags: dict[str, str] = {}
        self.registry: dict[str, ImageInfo] = {}
        """What `pull` gets, by reference."""

    def have(self, image: ImageInfo, *tags: str) -> None:
        """Have an image under these tags."""
        self.by_id[image.id] = image
        self.tags.update(dict.fromkeys(tags, image.id))

    async def find(self, reference: str) -> ImageInfo | None:
        found = self.by_id.get(self.tags.get(reference, reference))
        return self._named(found) if found else None

    async def pull(self, reference: str, say: Say, *, login: Login | None = None) -> ImageInfo:
        if reference not in self.registry:
            raise UserError("image.not-found", f"There is no image {reference}.", "Look at its name again.")
        self.have(self.registry[reference], reference)
        return self._named(self.registry[reference])

    async def load(self, upload: AsyncIterator[bytes], *, name: str, tag: str) -> ImageInfo:
        content = b"".join([chunk async for chunk in upload])
        if name.encode() not in content:
            raise UserError("image.not-in-archive", f"The archive holds no image called {name}.", "Look at it.")
        image = ImageInfo(id=f"sha256:{hashlib.sha256(content).hexdigest()}", ports=(8080,))
        self.have(image, tag)
        return image

    async def keep(self, image: str, *, tag: str, instead_of: str = "") -> None:
        if image not in self.by_id:
            raise Unavailable("image.missing", f"The image {image[:19]} is not there any more.")
        self.tags[tag] = image
        await self.forget(instead_of)

    async def forget(self, reference: str) -> None:
        image = self.tags.pop(reference, None)
        if image and image not in self.tags.values():
            del self.by_id[image]

    async def ours(self) -> Sequence[ImageInfo]:
        named = map(self._named, self.by_id.values())
        return [image for image in named if any(tag.startswith(f"{OURS}/") for tag in image.tags)]

    async def nameless(self, app: AppId) -> Sequence[str]:
        named = set(self.tags.values())
        return [id for id, one in self.by_id.items() if one.labels.get(APP_ID) == app and id not in named]

    async def drop(self, image: str) -> None:
        if image not in self.tags.values():
            self.by_id.pop(image, None)

    def tag_for(self, app: AppId, deploy: DeployId) -> str:
        return f"{OURS}/{app}:{deploy}"

    async def untag(self, tag: str) -> None:
        await self.forget(tag)

    def _named(self, image: ImageInfo) -> ImageInfo:
        return msgspec.structs.replace(image, tags=tuple(tag for tag, named in self.tags.items() if named == image.id))


class FakeBuilder:
    """Fulfils ``ImageBuilder``: an image is the hash of its Dockerfile; ``RUN false`` fails; it can be held.

    ``HEALTHCHECK 200`` is one that needs 200 s to come to a result.
    """

    name = "dockerfile"
    looks_for = "a Dockerfile"

    def __init__(self, images: FakeImages) -> None:
        self._images = images
        self.builds = 0
        self.cancelled = 0
        self.is_cold = False
        """While true nothing is in the cache: what is built again is another image."""
        self.is_down = False
        """While true every build raises `Unavailable`."""
        self.gate = asyncio.Event()
        self.gate.set()

    async def detect(self, source: SourceTree, options: BuildOptions) -> str | None:
        return None if await source.read(options.dockerfile_path) is None else "Dockerfile, so what it says"

    async def dockerfile(self, source: SourceTree, options: BuildOptions, say: Say) -> str:
        return (await source.read(options.dockerfile_path) or b"").decode()

    async def build(self, request: BuildRequest, say: Say) -> Built:
        self.builds += 1
        if self.is_down:
            raise Unavailable("docker.unavailable", "Docker does not answer.")
        content = await request.source.read(request.options.dockerfile_path) or b""
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if b"RUN false" in content:
            raise BuildFailed("RUN false ended with status 1")
        cold = str(self.builds).encode() if self.is_cold else b""
        image = ImageInfo(
            id=f"sha256:{hashlib.sha256(content + cold).hexdigest()}",
            labels=request.labels,
            ports=tuple(int(line.split()[1]) for line in content.decode().splitlines() if line.startswith("EXPOSE")),
            has_healthcheck=b"HEALTHCHECK" in content,
            health_seconds=float(content.split(b"HEALTHCHECK")[1].split()[0]) if b"HEALTHCHECK" in content else 0.0,
        )
        self._images.have(image, request.tag)
        say("       built")
        return Built(image=image, on=("scratch has nothing",))


class FakeWorkshops:
    """Fulfils ``Workshops``: volumes are names."""

    def __init__(self) -> None:
        self.volumes: dict[AppId, set[str]] = {}
        self.orphans: set[str] = set()
        self.files: dict[str, dict[str, bytes]] = {}
        """What images hold, by their ids: files by their paths."""

    async def read(self, image: str, paths: Sequence[str], *, app: AppId, app_name: str) -> Mapping[str, bytes]:
        there = self.files.get(image, {})
        return {path: there[path] for path in paths if path in there}

    async def remove(self, app: AppId) -> int:
        return len(self.volumes.pop(app, set()))

    async def tidy(self, apps: Collection[AppId]) -> None:
        self.orphans.clear()
        self.volumes = {app: names for app, names in self.volumes.items() if app in apps}


async def choose(builders: Sequence[FakeBuilder], tree: SourceTree, options: BuildOptions) -> Choice:
    """Pick the first builder that can."""
    for builder in builders:
        if why := await builder.detect(tree, options):
            return Choice(builder, why)
    raise UserError("source.no-builder", "There is no Dockerfile.", "Add one.")
