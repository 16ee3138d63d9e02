"""Builds what has a Dockerfile, by BuildKit.

The build folder of the commit is streamed to the engine as it comes out of git, without the files that
``.dockerignore`` names. Where a ``# syntax=`` image cannot be had, the build is done once more without that line,
and for a while no further try is made.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final

import msgspec

from agent.builders.ahead import begun, read_ahead
from agent.builders.buildkit import Solve, SolveFailed, build
from agent.builders.context import GIT_DIR_MARK, ContextPlan, context
from agent.builders.dockerignore import Ignore, parse_ignore
from agent.builders.exposed import in_order
from agent.builders.failure import explain
from agent.builders.frontend import Frontend, find_frontend
from agent.builders.progress import Progress, duration
from agent.builders.session import BuildSession, open_session
from agent.docker import labels
from agent.docker.build_cgroups import Bounds
from agent.docker.build_limits import BuildLimits, Held, OverLimit
from agent.docker.engine import Engine
from agent.docker.transfers import BUSY_PAUSES
from agent.errors import Unavailable, UserError
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, Built, Images
from agent.ports.registries import registry_of
from agent.ports.source import SourceTree
from agent.ports.world import Say

FRONTEND_RETRY_SECONDS: Final = 600.0
"""How long a frontend that could not be had is not asked for again: each try sends the whole context."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of the commit say about the build."""

    dockerfile: str
    """Within the build context."""
    content: bytes
    """Of it."""
    plan: ContextPlan
    frontend: Frontend | None = None
    on: tuple[str, ...] = ()
    """What was chosen to build on, as `Built` has it."""


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    """A build that is about to be made, and all that is open for it."""

    request: BuildRequest
    source: Prepared
    session: BuildSession
    held: Held
    say: Say


class DockerfileBuilder:
    """Implements ``ImageBuilder``."""

    name = "dockerfile"
    looks_for = "a Dockerfile"
    markers: tuple[str, ...] = ()

    def __init__(self, engine: Engine, images: Images, limits: BuildLimits) -> None:
        self._engine = engine
        self._images = images
        self._limits = limits
        self._lost_frontends: dict[str, float] = {}
        """When each may be asked for again, by the loop's clock."""

    async def detect(self, source: SourceTree, options: BuildOptions) -> str | None:
        """See ``ImageBuilder``."""
        path = posixpath.join(folder_of(options), dockerfile_of(options))
        is_there = any(entry.path == path and entry.mode & 0o170000 == 0o100000 for entry in await source.entries())
        return f"{path}, so what it says" if is_there else None

    async def dockerfile(self, source: SourceTree, options: BuildOptions, say: Say) -> str:
        """See ``ImageBuilder``: the app's own."""
        path = posixpath.join(folder_of(options), dockerfile_of(options))
        return (await source.read(path) or b"").decode("utf-8", "replace")

    async def build(self, request: BuildRequest, say: Say) -> Built:
        """See ``ImageBuilder``."""
        return await self.build_prepared(request, _read(request), say)

    async def build_prepared(self, request: BuildRequest, preparing: Coroutine[Any, Any, Prepared], say: Say) -> Built:
        """Build as `build` does, from what `preparing` gives. The time limit holds for both."""
        options, limit = request.options, request.options.timeout_seconds
        bounds = Bounds(memory_bytes=options.memory_bytes, cpus=options.cpus)
        session = BuildSession(app_name=options.app_name, secrets=options.secrets, logins=options.logins, say=say)
        try:
            async with asyncio.timeout(limit), AsyncExitStack() as beside:
                # Git reads the files while the limits are set and the session is opened.
                prepared = await beside.enter_async_context(begun(preparing))
                body = await beside.enter_async_context(read_ahead(_context(request, prepared)))
                async with self._limits.hold(request.app, bounds) as held, open_session(self._engine, session):
                    source = await prepared
                    if held.problem and bounds != Bounds():
                        say(f" !     {held.problem}")
                    work = _Work(request=request, source=source, session=session, held=held, say=say)
                    image = await held.watch(self._solve(work, body))
                    # The engine is asked while what held the build is taken down.
                    finding = await beside.enter_async_context(begun(self._images.find(image)))
                found = await finding
        except TimeoutError as error:
            raise BuildFailed(f"The build took longer than the limit of {duration(limit)}.") from error
        except OverLimit as error:
            raise BuildFailed(_out_of_memory(request)) from error
        if found is None:
            raise Unavailable("image.missing", "The image that was just built is gone.", "Deploy again.")
        info = msgspec.structs.replace(found, ports=in_order(found.ports, source.content))
        return Built(image=info, on=source.on)

    async def _solve(self, work: _Work, body: AsyncIterator[bytes]) -> str:
        frontend = work.source.frontend
        if frontend is None:
            return await self._attempt(work, body)
        now = asyncio.get_running_loop().time()
        if self._lost_frontends.get(frontend.image, 0.0) <= now:
            try:
                return await self._attempt(work, body)
            except SolveFailed as error:
                if not error.failure.is_of_frontend:
                    raise
                self._lost_frontends[frontend.image] = now + FRONTEND_RETRY_SECONDS
        work.say(f" !     {frontend.image} (the # syntax= line) cannot be had: building without it")
        source = _without_frontend(work.source, frontend)
        async with read_ahead(context(work.request.source, source.plan)) as again:
            without = msgspec.structs.replace(work, source=source)
            return await self._attempt(without, again, lost_frontend=frontend.image)

    async def _attempt(self, work: _Work, body: AsyncIterator[bytes], *, lost_frontend: str = "") -> str:
        source, session, options = work.source, work.session, work.request.options
        try:
            return await self._patiently(work, body, pauses=BUSY_PAUSES)
        except SolveFailed as error:
            if error.failure.is_of_frontend and not lost_frontend:
                raise
            path = posixpath.join(source.plan.folder, source.dockerfile)
            ignored = frozenset(posixpath.join(source.plan.inner, name) for name in source.plan.ignored)
            raise explain(
                error.failure,
                dockerfile=path,
                ignored=ignored,
                lost_frontend=lost_frontend,
                app_name=options.app_name,
                missing_secrets=session.missing,
            ) from error

    async def _patiently(self, work: _Work, body: AsyncIterator[bytes], *, pauses: tuple[float, ...]) -> str:
        """Build, and once more after each of the pauses while a registry is too busy to give a base image."""
        try:
            return await self._once(work, body)
        except SolveFailed as error:
            busy = error.failure.busy_base
            if not busy or not pauses:
                raise
        work.say(f"       {registry_of(busy)} is too busy to give {busy} just now: asking again in {pauses[0]:g} s")
        await asyncio.sleep(pauses[0])
        async with read_ahead(context(work.request.source, work.source.plan)) as again:
            return await self._patiently(work, again, pauses=pauses[1:])

    async def _once(self, work: _Work, body: AsyncIterator[bytes]) -> str:
        source, session, options = work.source, work.session, work.request.options
        progress = Progress(work.say, monotonic=asyncio.get_running_loop().time)
        solve = Solve(
            tag=work.request.tag,
            dockerfile=source.dockerfile,
            target=options.target,
            build_args=work.held.marked(options.build_args, dockerfile=source.content),
            labels={**work.request.labels, labels.INSTANCE: self._engine.instance},
            no_cache=options.no_cache,
            session=session.id,
        )
        return await session.unless_refused(build(self._engine, solve, body=body, progress=progress))


async def _context(request: BuildRequest, prepared: Awaitable[Prepared]) -> AsyncGenerator[bytes, None]:
    """Yield the build context, once it is known what becomes of the files."""
    plan = (await prepared).plan
    async with aclosing(context(request.source, plan)) as pieces:
        async for piece in pieces:
            yield piece


def _out_of_memory(request: BuildRequest) -> str:
    size, app = request.options.memory_bytes, request.options.app_name
    if not size:
        return (
            "The build was ended: it used more memory than builds may use on this machine (build.memory_percent of the "
            "settings)."
        )
    return (
        f"The build was ended: it used more than its limit of {size / (1 << 20):,.0f} MiB of memory. Give it more: "
        f"resource:limit --process-type build --memory <size> {app}"
    )


def folder_of(options: BuildOptions) -> str:
    """Return the build folder, relative to the root and without ``/`` at its ends; empty is the root.

    Raises:
        UserError: ``build.bad-path``, it leads out of the repository.
    """
    return _inside(options.build_folder, what="The build folder")


def has_git_dir(options: BuildOptions) -> bool:
    """Tell whether ``.git`` comes along. Below the root the files of the folder would be no work tree of it."""
    return options.keeps_git_dir and not folder_of(options)


def dockerfile_of(options: BuildOptions) -> str:
    """Return the Dockerfile's path within the build folder.

    Raises:
        UserError: ``build.bad-path``, it leads out of the build folder.
    """
    return _inside(options.dockerfile_path or "Dockerfile", what="The path of the Dockerfile")


def _inside(path: str, *, what: str) -> str:
    cleaned = posixpath.normpath(path.strip("/")) if path.strip("/") else "."
    if cleaned == ".." or cleaned.startswith("../"):
        raise UserError("build.bad-path", f"{what}, {path}, leads out of it.", 'Use a path without "..".')
    return "" if cleaned == "." else cleaned


async def _read(request: BuildRequest) -> Prepared:
    source, options = request.source, request.options
    folder, dockerfile = folder_of(options), dockerfile_of(options)
    path = posixpath.join(folder, dockerfile)
    content = await source.read(path)
    if content is None:
        raise BuildFailed(f"There is no file {path} in the commit.")
    frontend = find_frontend(content, path=path)
    ignored = await ignored_in(source, folder=folder, dockerfile=dockerfile)
    plan = ContextPlan(folder=folder, ignored=ignored, has_git_dir=has_git_dir(options))
    return Prepared(dockerfile=dockerfile, content=content, plan=plan, frontend=frontend)


async def ignored_in(source: SourceTree, *, folder: str, dockerfile: str) -> frozenset[str]:
    """Return the files of the build folder that ``.dockerignore`` keeps out of the build; never `dockerfile`."""
    ignore = await _ignore_file(source, folder=folder, dockerfile=dockerfile)
    prefix = f"{folder}/" if folder else ""
    paths = [entry.path.removeprefix(prefix) for entry in await source.entries() if entry.path.startswith(prefix)]
    paths.append(GIT_DIR_MARK)
    # In a thread: a hundred thousand files against a thousand patterns take a while.
    return await asyncio.to_thread(ignore.ignored, paths) - {dockerfile}


async def _ignore_file(source: SourceTree, *, folder: str, dockerfile: str) -> Ignore:
    for name in dict.fromkeys((f"{dockerfile}.dockerignore", ".dockerignore")):
        path = posixpath.join(folder, name)
        content = await source.read(path)
        if content is not None:
            return parse_ignore(content, name=path)
    return Ignore()


def _without_frontend(source: Prepared, frontend: Frontend) -> Prepared:
    plan = msgspec.structs.replace(source.plan, replaced={source.dockerfile: frontend.without})
    return msgspec.structs.replace(source, plan=plan, frontend=None)
