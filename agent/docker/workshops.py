"""Where an app is built by a program of an image: a container that lives for one build, and volumes that outlive it.

Containers and volumes are told by label, so that what a killed agent left is found. Nothing is mounted but those
volumes; what a build needs is put into the container before it starts, and what it made is read out of it afterwards.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog

from agent.docker import labels
from agent.docker.build_spec import BuildWish, build_body, look_body, volume_name
from agent.docker.containers import Containers, NameTaken
from agent.docker.endings import to_its_end
from agent.docker.engine import Engine, Faulted, Refused
from agent.docker.frames import FrameReader
from agent.docker.networks import Networks
from agent.docker.raw import open_raw
from agent.docker.tar_stream import TarStream
from agent.errors import Unavailable, UserError
from agent.ports.addresses import Bridges
from agent.ports.images import MAX_FILE_BYTES
from proto.names import AppId

log = structlog.get_logger(__name__)

BRIDGE: Final = 0
"""Where builds live, as one-offs do: the firewall rules hold there, and no address has to last."""
NOT_FOUND: Final = 127
NOT_STARTED: Final = 126
"""Statuses as a shell reports them, of a program that is not there or cannot be run."""
_TAR: Final = {"Content-Type": "application/x-tar"}

Feed = Callable[[str, bytes], None]
"""Takes what a build prints: the name of the stream, and bytes."""


class _Volume(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    labels: dict[str, str] | None = None


class _Volumes(msgspec.Struct, frozen=True, rename="pascal"):
    volumes: list[_Volume] | None = None


class Workshop:
    """The container of one build."""

    def __init__(self, engine: Engine, containers: Containers, container: str) -> None:
        self._engine = engine
        self._containers = containers
        self._container = container

    async def put(self, archive: AsyncIterable[bytes] | bytes) -> None:
        """Unpack a tar at the root of the container, each member for the owner that it names.

        Raises:
            Unavailable: the engine does not take it.
            Exception: what `archive` raises.
        """
        path = f"containers/{self._container}/archive"
        try:
            async with self._engine.stream(
                "PUT", path, params={"path": "/"}, body=archive, headers=_TAR, answer_within=None
            ) as chunks:
                async for _ in chunks:
                    pass
        except Refused as refusal:
            raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal

    async def run(self, feed: Feed) -> int:
        """Start the program, give `feed` what it prints, and return its exit status. Has no deadline."""
        streams = {"stream": 1, "stdout": 1, "stderr": 1}
        reader = FrameReader()
        # Attached before it is started, so that not even the first byte is missed.
        async with open_raw(self._engine, "POST", f"containers/{self._container}/attach", params=streams) as stream:
            try:
                await self._containers.start(self._container)
            except (Refused, Faulted) as error:
                if "no such file" in error.detail or "not found" in error.detail:
                    return NOT_FOUND
                if "permission denied" in error.detail or "exec format" in error.detail:
                    return NOT_STARTED
                raise Unavailable("docker.unavailable", f"Docker cannot start a build: {error.detail}") from error
            while data := await stream.read():
                for name, payload in reader.feed(data):
                    feed(name, payload)
        return await self._containers.wait(self._container)

    @asynccontextmanager
    async def open_file(self, path: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Give the size and the content of a file of the container.

        Raises:
            FileNotFoundError: it is not there, or no file.
            Unavailable: no usable answer.
        """
        try:
            async with self._engine.stream(
                "GET", f"containers/{self._container}/archive", params={"path": path}
            ) as chunks:
                yield await only_file(chunks, path=path)
        except Refused as refusal:
            if refusal.status != 404:
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal
            raise FileNotFoundError(path) from refusal


class DockerWorkshops:
    """Fulfils ``agent.ports.images.Workshops``, and opens them for builders."""

    def __init__(self, engine: Engine, *, bridges: Bridges) -> None:
        self._engine = engine
        self._containers = Containers(engine)
        self._networks = Networks(engine, bridges=bridges)
        self._busy: set[str] = set()
        """Entries of the builds that this agent waits for."""

    @asynccontextmanager
    async def open(self, wish: BuildWish) -> AsyncIterator[Workshop]:
        """Give the container of a build that has not started yet; leaving ends and removes it.

        Raises:
            Unavailable: it cannot be made.
        """
        network = await self._networks.ensure(BRIDGE)
        self._busy.add(wish.entry)
        try:
            body = build_body(wish, instance=self._engine.instance, network=network)
            try:
                container = await self._containers.create_build(f"{wish.app_name}.build.{wish.entry}", body)
            except (NameTaken, Refused) as error:
                raise Unavailable(
                    "docker.unavailable", f"Docker cannot make the container of a build: {error}"
                ) from error
            yield Workshop(self._engine, self._containers, container)
        except Unavailable:
            # The bridge may be what is missing.
            self._networks.forget()
            raise
        finally:
            # By label, since a create that was cancelled or whose answer was lost has left a container of unknown id.
            await to_its_end(self._remove(wish.entry))
            self._busy.discard(wish.entry)

    async def read(self, image: str, paths: Sequence[str], *, app: AppId, app_name: str) -> Mapping[str, bytes]:
        """See ``Workshops``."""
        network, entry = await self._networks.ensure(BRIDGE), secrets.token_hex(6)
        body = look_body(
            image, app=app, app_name=app_name, entry=entry, instance=self._engine.instance, network=network
        )
        self._busy.add(entry)
        try:
            container = await self._containers.create(f"{app_name}.look.{entry}", body)
            shop = Workshop(self._engine, self._containers, container)
            return {path: content for path in paths if (content := await _content(shop, path)) is not None}
        except (NameTaken, Refused) as error:
            raise Unavailable("docker.unavailable", f"Docker cannot look into an image: {error}") from error
        except Unavailable:
            self._networks.forget()
            raise
        finally:
            await to_its_end(self._remove(entry))
            self._busy.discard(entry)

    def volume(self, app: AppId, kind: str) -> str:
        """Return the name of the volume that builds of `app` keep `kind` in. A build that names it has it made."""
        return volume_name(self._engine.instance, app, kind)

    @asynccontextmanager
    async def making(self, app: AppId, kind: str) -> AsyncIterator[str]:
        """Give the name of such a volume, for something new. It goes if that comes to nothing: the block raises."""
        name = self.volume(app, kind)
        is_made = False
        try:
            yield name
            is_made = True
        finally:
            if not is_made:
                await to_its_end(self.drop(name))

    async def kept(self, app: AppId) -> dict[str, str]:
        """Return what builds of `app` have kept: the names of the volumes by kind, sorted."""
        prefix = volume_name(self._engine.instance, app, "")
        found = await self._volumes({labels.APP_ID: app})
        return {name.removeprefix(prefix): name for name in sorted(volume.name for volume in found)}

    async def discard(self, volume: str) -> bool:
        """Remove a volume of builds, and tell whether it has gone by that. One that is in use stays.

        Raises:
            Unavailable: the engine does not answer.
        """
        try:
            await self._engine.json("DELETE", f"volumes/{volume}")
        except Refused as refusal:
            if refusal.status in (404, 409):
                return False
            raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal
        return True

    async def drop(self, volume: str) -> None:
        """Remove a volume that nobody needs. If that fails now, the next build of the app finds it."""
        try:
            await self.discard(volume)
        except Unavailable as error:
            log.warning("build.left-behind", volume=volume, reason=str(error))

    async def remove(self, app: AppId) -> int:
        """See ``Workshops``."""
        await self.clear(app)
        return sum([await self.discard(volume) for volume in (await self.kept(app)).values()])

    async def clear(self, app: AppId) -> None:
        """Remove containers of builds of `app` that this agent does not wait for."""
        await self._clear({labels.APP_ID: app})

    async def tidy(self, apps: Collection[AppId]) -> None:
        """See ``Workshops``."""
        await self._clear({})
        for volume in await self._volumes({}):
            if (volume.labels or {}).get(labels.APP_ID) not in apps:
                await self.discard(volume.name)

    async def _clear(self, wanted: Mapping[str, str]) -> None:
        for row in await self._containers.find({labels.KIND: labels.BUILD, **wanted}):
            if (row.labels or {}).get(labels.ENTRY) not in self._busy:
                await self._containers.remove(row.id)

    async def _volumes(self, wanted: Mapping[str, str]) -> list[_Volume]:
        mine = labels.filters({labels.INSTANCE: self._engine.instance, labels.KIND: labels.KEPT, **wanted})
        found = await self._engine.get("volumes", into=_Volumes, params={"filters": mine})
        return (found.volumes if found else None) or []

    async def _remove(self, entry: str) -> None:
        try:
            for row in await self._containers.find({labels.KIND: labels.BUILD, labels.ENTRY: entry}):
                await self._containers.remove(row.id)
        except (Unavailable, Refused) as error:
            # `tidy` removes it once the engine answers again.
            log.warning("build.left-behind", entry=entry, reason=str(error))


async def _content(shop: Workshop, path: str) -> bytes | None:
    """Return the content of a small file, or `None` if there is none.

    Raises:
        UserError: ``source.file-too-large``.
    """
    try:
        async with shop.open_file(path) as (size, pieces):
            if size > MAX_FILE_BYTES:
                message = f"{path} in the image has {size:,} bytes; Pushboat reads at most {MAX_FILE_BYTES:,} of it."
                raise UserError("source.file-too-large", message, "Is it really the file you mean?")
            return b"".join([piece async for piece in pieces])
    except FileNotFoundError:
        return None


async def only_file(chunks: AsyncIterator[bytes], *, path: str) -> tuple[int, AsyncIterator[bytes]]:
    """Return size and content of the one file in a tar stream.

    Raises:
        FileNotFoundError: it holds something else.
        Unavailable: it is no tar.
    """
    stream = TarStream(chunks)
    member = await stream.next()
    if member is None or not member.isreg():
        raise FileNotFoundError(path)
    return member.size, stream.content()
