"""Builds with Cloud Native Buildpacks: the lifecycle of a builder image does it, in a container of its own.

The container runs as the builder's own user, on one of our bridges, with nothing of this machine in it: files go in by
upload, the image comes out as an OCI layout. Between builds two kinds of volumes are kept for each app: what buildpacks
cache, and the last image as it was written, whose layers the next build takes over where they are still true.
"""

from __future__ import annotations

import asyncio
import io
import posixpath
import secrets
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import msgspec

from agent.builders import cnb, layouts
from agent.builders.ahead import read_ahead
from agent.builders.buildkit import ticking
from agent.builders.cnb import BuilderFacts
from agent.builders.context import ContextPlan, context
from agent.builders.dockerfile import folder_of
from agent.builders.files import Files
from agent.builders.layouts import RunImage
from agent.builders.phases import Phases
from agent.builders.progress import duration
from agent.builders.project_toml import Project, left_out, read_project, speaks_of_buildpacks
from agent.docker import labels
from agent.docker.build_spec import BuildWish, Keep
from agent.docker.engine import Engine
from agent.docker.saved_layers import saved_layers, wants_all_layers
from agent.docker.workshops import DockerWorkshops, Workshop
from agent.errors import Unavailable, UserError
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, Built, ImageInfo, Images
from agent.ports.registries import Logins, login_for
from agent.ports.scheduler import Resources
from agent.ports.source import SourceTree
from agent.ports.world import Say
from proto.names import DeployId

_CACHE: Final = "cache"
_RESULT: Final = "image-"
"""Begins the kind of volume that holds the image of a deploy, whose id follows."""
_NAME_IN_ARCHIVE: Final = "app:now"
_CONFIG_IN_ARCHIVE: Final = "config.json"


class _Build(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before the container is made."""

    image: str
    """The builder's name."""
    builder: ImageInfo
    facts: BuilderFacts
    project: Project
    run_image: RunImage
    skipped: frozenset[str]
    """Files of the build folder that stay out."""


class BuildpacksBuilder:
    """Implements ``ImageBuilder``."""

    name = "pack"
    looks_for = "project.toml with [io.buildpacks]"
    markers: tuple[str, ...] = ()

    def __init__(
        self,
        engine: Engine,
        images: Images,
        *,
        workshops: DockerWorkshops,
        trusted: Sequence[str],
        memory_bytes: int = 0,
    ) -> None:
        """`trusted`: the builder images that may be run, see ``is_trusted``. `memory_bytes`: of a build at most."""
        self._engine = engine
        self._images = images
        self._workshops = workshops
        self._trusted = trusted
        self._memory_bytes = memory_bytes

    async def detect(self, source: SourceTree, options: BuildOptions) -> str | None:
        """See ``ImageBuilder``. Who selects it needs no descriptor."""
        files = await Files.of(source, options)
        path = _descriptor(options)
        is_selected = options.selected == self.name
        if not is_selected and not speaks_of_buildpacks(await files.toml(path)):
            return None
        project = await _project(files, options)
        why = "it is selected" if is_selected and path not in files.names else files.path(path)
        return f"{why}, so buildpacks of {_image_of(project, options)}"

    async def dockerfile(self, source: SourceTree, options: BuildOptions, say: Say) -> str:
        """See ``ImageBuilder``: there is none."""
        raise UserError(
            "builder.no-dockerfile",
            "Buildpacks follow no Dockerfile: what they do is decided while they build.",
            f"See which builder image is taken with: builder:report {options.app_name}",
        )

    async def build(self, request: BuildRequest, say: Say) -> Built:
        """See ``ImageBuilder``."""
        seconds = request.options.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return Built(image=await self._build(request, say))
        except TimeoutError as error:
            raise BuildFailed(f"The build took longer than the limit of {duration(seconds)}.") from error

    async def _build(self, request: BuildRequest, say: Say) -> ImageInfo:
        build = await self._prepare(request, say)
        if request.options.no_cache:
            await self._workshops.remove(request.app)
        before = await self._previous(request)
        async with self._workshops.making(request.app, f"{_RESULT}{request.deploy}") as result:
            image = await self._made(build, request, say, result=result, before=before)
        if before:
            await self._workshops.drop(before)
        return image

    async def _made(self, build: _Build, request: BuildRequest, say: Say, *, result: str, before: str) -> ImageInfo:
        """Run the lifecycle, which writes into the volume `result`; `before`: one with the last image, or empty."""
        keeps = [
            Keep(volume=self._workshops.volume(request.app, _CACHE), target=cnb.CACHE),
            Keep(volume=result, target=cnb.folder(cnb.RESULT)),
        ]
        if before:
            keeps.append(Keep(volume=before, target=cnb.folder(cnb.PREVIOUS), is_read_only=True))
        wish = BuildWish(
            app=request.app,
            app_name=request.app_name,
            entry=secrets.token_hex(6),
            image=build.builder.id,
            user=build.facts.user,
            group=build.facts.group,
            arguments=cnb.arguments(has_previous=bool(before), has_order=bool(build.project.group)),
            env=cnb.environment(build.facts),
            keeps=tuple(keeps),
            resources=Resources(
                memory_bytes=request.options.memory_bytes or self._memory_bytes, cpus=request.options.cpus
            ),
        )
        async with self._workshops.open(wish) as workshop:
            await self._furnish(workshop, build, request)
            phases = Phases(say, monotonic=asyncio.get_running_loop().time)
            async with ticking(phases.tick):
                status = await workshop.run(phases.feed)
            phases.end()
            if status:
                raise phases.failure(status, builder=build.image)
            return await self._take(workshop, build, request)

    async def _prepare(self, request: BuildRequest, say: Say) -> _Build:
        options = request.options
        files = await Files.of(request.source, options)
        project = await _project(files, options)
        image = _image_of(project, options)
        if not cnb.is_trusted(image, self._trusted):
            raise UserError(
                "builder.untrusted",
                f"The builder image {image} is not trusted on this server.",
                f"Trusted are: {', '.join(self._trusted) or 'none'}. Whoever runs the server can add it to"
                " build.trusted_builders in the settings.",
            )
        builder = await self._image(image, say, logins=options.logins)
        facts = cnb.facts_of(builder, image=image)
        skipped = left_out(project, await _all_files(request.source, options))
        return _Build(
            image=image,
            builder=builder,
            facts=facts,
            project=project,
            run_image=await self._run_image(facts, say, logins=options.logins),
            skipped=skipped,
        )

    async def _image(self, reference: str, say: Say, *, logins: Logins) -> ImageInfo:
        """Return an image, fetching it if the machine has none of that name."""
        if found := await self._images.find(reference):
            return found
        say(f"       Getting {reference}")
        return await self._images.pull(reference, say, login=login_for(reference, logins))

    async def _run_image(self, facts: BuilderFacts, say: Say, *, logins: Logins) -> RunImage:
        """Return what the app is to run on: what is there, else what can be fetched."""
        for name in facts.run_images:
            if found := await self._images.find(name):
                break
        else:
            found = await self._image(facts.run_images[0], say, logins=logins)
        image = await self._engine.get(f"images/{found.id}/json", into=RunImage)
        if image is None:
            raise Unavailable("image.missing", "The run image is gone again.", "Deploy again.")
        return image

    async def _previous(self, request: BuildRequest) -> str:
        """Return the volume with the app's last image that was taken; remove those that were not, or are older."""
        # What a killed agent left would hold its volumes.
        await self._workshops.clear(request.app)
        found = ""
        for kind, volume in (await self._workshops.kept(request.app)).items():
            deploy = DeployId(kind.removeprefix(_RESULT))
            if not kind.startswith(_RESULT):
                continue
            tag = self._images.tag_for(request.app, deploy)
            if not found and deploy != request.deploy and await self._images.find(tag):
                found = volume
            else:
                await self._workshops.discard(volume)
        return found

    async def _furnish(self, workshop: Workshop, build: _Build, request: BuildRequest) -> None:
        """Put the app's files and what the lifecycle is told into the container."""
        owner = (build.facts.user, build.facts.group)
        folders = [cnb.LAYERS, cnb.PLATFORM, f"{cnb.PLATFORM}/env", cnb.CACHE, cnb.LAYOUTS]
        folders += [f"{cnb.LAYOUTS}/{cnb.HOUSE}", f"{cnb.LAYOUTS}/{cnb.HOUSE}/app", cnb.folder(cnb.RESULT)]
        env = {**request.options.buildpack_env, **build.project.env}
        files = {f"{cnb.PLATFORM}/env/{name}": value.encode() for name, value in env.items()}
        files |= {f"{cnb.folder(cnb.RUN_IMAGE)}/{name}": data for name, data in layouts.sparse(build.run_image).items()}
        if build.project.group:
            files[cnb.ORDER] = cnb.order_toml(build.project.group, build.facts, image=build.image)
        await workshop.put(furniture(folders, files, owner=owner))
        plan = ContextPlan(
            folder=folder_of(request.options), ignored=build.skipped, inner=cnb.APP.strip("/"), owner=owner
        )
        async with read_ahead(context(request.source, plan)) as upload:
            await workshop.put(upload)

    async def _take(self, workshop: Workshop, build: _Build, request: BuildRequest) -> ImageInfo:
        """Give the engine the image that the lifecycle wrote."""
        folder = cnb.folder(cnb.RESULT)
        index = await _document(workshop, f"{folder}/{layouts.INDEX}")
        manifest = await _document(workshop, f"{folder}/{layouts.manifest_in(index).path}")
        config = await _document(workshop, f"{folder}/{layouts.config_in(manifest).path}")
        marked = {**request.labels, labels.INSTANCE: self._engine.instance}
        image = layouts.exported(manifest, config, run_image=build.run_image, labels=marked)

        async def archive() -> AsyncGenerator[bytes, None]:
            below: list[str] = []
            if await wants_all_layers(self._engine):
                run_image = build.run_image
                layers = saved_layers(self._engine, run_image.id, paths=below, count=len(run_image.layers))
                async with aclosing(layers):
                    async for piece in layers:
                        yield piece
            for layer in image.own:
                async with _opened(workshop, f"{folder}/{layer.path}") as (size, content):
                    yield _header(layer.path, size)
                    async for piece in content:
                        yield piece
                    yield bytes(-size % tarfile.BLOCKSIZE)
            named = layouts.saved_manifest(image, name=_NAME_IN_ARCHIVE, config=_CONFIG_IN_ARCHIVE, below=below)
            yield _file("manifest.json", named) + _file(_CONFIG_IN_ARCHIVE, image.config)
            yield bytes(2 * tarfile.BLOCKSIZE)

        async with read_ahead(archive()) as upload:
            return await self._images.load(upload, name=_NAME_IN_ARCHIVE, tag=request.tag)


def furniture(folders: Sequence[str], files: Mapping[str, bytes], *, owner: tuple[int, int]) -> bytes:
    """Return a tar of `folders` and `files` (absolute paths), all of `owner`; the folders of the files are made too."""
    wanted = dict.fromkeys(folders)
    for name in files:
        parents = [name]
        while (parent := posixpath.dirname(parents[-1])) != "/":
            parents.append(parent)
        wanted |= dict.fromkeys(reversed(parents[1:]))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in wanted:
            archive.addfile(_member(name, owner=owner, kind=tarfile.DIRTYPE))
        for name, content in files.items():
            archive.addfile(_member(name, owner=owner, size=len(content)), io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, *, owner: tuple[int, int], kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name.strip("/"))
    member.type, member.size = kind, size
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.uid, member.gid = owner
    return member


def _header(name: str, size: int) -> bytes:
    return _member(name, owner=(0, 0), size=size).tobuf(tarfile.GNU_FORMAT)


def _file(name: str, content: bytes) -> bytes:
    return _header(name, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


@asynccontextmanager
async def _opened(workshop: Workshop, path: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    try:
        async with workshop.open_file(path) as opened:
            yield opened
    except FileNotFoundError as error:
        raise BuildFailed(f"The lifecycle of the builder said that all went well, and wrote no {path}.") from error


async def _document(workshop: Workshop, path: str) -> bytes:
    async with _opened(workshop, path) as (size, content):
        if size > layouts.MAX_DOCUMENT:
            raise BuildFailed(f"The lifecycle of the builder wrote {path} of {size:,} bytes, which is too much.")
        return b"".join([piece async for piece in content])


def _descriptor(options: BuildOptions) -> str:
    return options.project_toml or "project.toml"


async def _project(files: Files, options: BuildOptions) -> Project:
    path = _descriptor(options)
    return read_project(await files.toml(path), invalid=lambda problem: files.invalid(path, problem=problem))


def _image_of(project: Project, options: BuildOptions) -> str:
    """Return the builder image: the app's own setting, what the descriptor says, the server's, or the usual one."""
    return options.builder_image or project.builder or options.usual_builder_image


async def _all_files(source: SourceTree, options: BuildOptions) -> Sequence[str]:
    folder = folder_of(options)
    prefix = f"{folder}/" if folder else ""
    return [entry.path.removeprefix(prefix) for entry in await source.entries() if entry.path.startswith(prefix)]
