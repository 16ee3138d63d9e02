"""Holds builds to their limits: in the agent where it is root, else through ``pushboat-builds.service``, which is.

The agent has no rights on this machine's control groups, so a small program of its own has them and nothing else::

    python -m agent.docker.build_limits

It listens on a socket that only the agent's group may open. For each build the agent connects and sends one line: whose
build it is, its mark, and its bounds. While the connection lasts, the steps of the build are kept in its group; the
program writes a line when one of them was killed for want of memory, and a last one after the agent has ended its half.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from agent.docker.build_cgroups import Bounds, Build, Trees, executor_of
from agent.docker.engine import Engine
from agent.errors import Unavailable
from proto.names import AppId

log = structlog.get_logger(__name__)

T = TypeVar("T")

SOCKET: Final = Path("/run/pushboat-builds/socket")
LOOK_SECONDS: Final = 0.02
"""Between two looks for new steps while a build runs; nothing looks when none does."""
CLOSING_LOOKS: Final = 50
"""How often a group is tried to be removed in which something still ends. What stays is the next build's."""
ANSWER_SECONDS: Final = 5.0
_MAX_LINE: Final = 4_096
_APP: Final = re.compile(r"[a-z0-9]{1,64}")
_ABOVE: Final = re.compile(r"pushboat-builds-[a-z0-9]{1,32}")

HINT: Final = "Start the unit that holds builds to them, as root: systemctl start pushboat-builds"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a build is to be held to."""

    above: str
    """The group of all builds of the agent."""
    app: str
    mark: str
    executor: str
    all_builds: Bounds
    this_build: Bounds


class _Word(msgspec.Struct, frozen=True):
    """A line of the program's: ``held`` at first, then whether the build is ``over``, or what went wrong."""

    is_held: bool = False
    is_over: bool = False
    problem: str = ""


class OverLimit(Exception):
    """A build was ended: it used more memory than it may."""


async def _nothing() -> None:
    """Nobody holds the build, so there is nothing to look at."""


class Held:
    """A build that is held to its limits; or is not, and `problem` says why."""

    def __init__(self, *, mark: str, problem: str = "") -> None:
        self.mark = mark
        self.problem = problem
        self.over = asyncio.Event()
        self.look: Callable[[], Awaitable[None]] = _nothing
        """Brings ``over`` up to date."""

    def marked(self, arguments: Mapping[str, str], *, dockerfile: bytes) -> Mapping[str, str]:
        """Return a build's arguments with the mark in them.

        BuildKit gives the proxy variables to each step and leaves them out of what its cache goes by. A host that no
        proxy shall be asked for does nothing by itself. Where the Dockerfile has a NO_PROXY of its own, which this
        one would replace, the mark is the proxy of FTP.
        """
        if self.problem:
            return arguments
        name = "FTP_PROXY" if b"no_proxy" in dockerfile.lower() and "NO_PROXY" not in arguments else "NO_PROXY"
        given = arguments.get(name, "")
        return {**arguments, name: f"{given},{self.mark}" if given else self.mark}

    async def watch(self, building: Awaitable[T]) -> T:
        """Return what `building` does; end it when the build goes over its limit.

        Raises:
            OverLimit: it has.
        """
        work = asyncio.ensure_future(building)
        over = asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait((work, over), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise OverLimit
            if work.exception():
                await self.look()
                if self.over.is_set():
                    raise OverLimit from work.exception()
            return work.result()
        finally:
            for task in (work, over):
                task.cancel()
            await asyncio.wait((work, over))


class BuildLimits:
    """Holds the builds of one agent. Safe to use for many at once."""

    def __init__(
        self, engine: Engine, *, memory_bytes: int, socket: Path = SOCKET, is_root: bool | None = None
    ) -> None:
        """`memory_bytes`: what all builds may use together."""
        self.memory_bytes = memory_bytes
        self._engine = engine
        self._all = Bounds(memory_bytes=memory_bytes)
        self._socket = socket
        self._is_root = os.geteuid() == 0 if is_root is None else is_root
        self._secret = secrets.token_bytes(16)
        """No build shall be able to make the mark of another one."""
        self._executor: Path | None = None
        """BuildKit's folder, once the engine has said where."""

    @asynccontextmanager
    async def hold(self, app: AppId, bounds: Bounds) -> AsyncIterator[Held]:
        """Hold the build of `app` that is made in the block.

        What keeps that from being done is in the answer: a build without limits is better than none.
        """
        mark = f"{hmac.digest(self._secret, app.encode(), hashlib.sha256).hex()[:24]}.build.invalid"
        async with AsyncExitStack() as stack:
            try:
                ask = await self._ask(app, mark, bounds)
                held = await stack.enter_async_context(_here(ask) if self._is_root else _there(ask, self._socket))
            except (OSError, TimeoutError, Unavailable, ValueError, msgspec.MsgspecError) as error:
                self._executor = None
                log.warning("build.not-limited", app=app, reason=str(error))
                held = Held(mark=mark, problem=f"The limits of builds do not hold: {error}.")
            yield held

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return why builds are not held to their limits, for ``doctor``. Never raises."""
        try:
            executor = await self._find_executor()
            if self._is_root:
                if not await asyncio.to_thread(executor.is_dir):
                    return [(f"Builds are not held to limits: {_no_steps(executor)}.", "See docs/builders.md.")]
            elif not await asyncio.to_thread(self._socket.exists):
                return [("Builds are not held to limits: pushboat-builds.service does not run.", HINT)]
        except (OSError, Unavailable) as error:
            return [(f"Whether builds are held to limits is unknown: {error}", HINT)]
        return []

    async def _ask(self, app: AppId, mark: str, bounds: Bounds) -> Ask:
        return Ask(
            above=f"pushboat-builds-{self._engine.instance}",
            app=app,
            mark=mark,
            executor=str(await self._find_executor()),
            all_builds=self._all,
            this_build=bounds,
        )

    async def _find_executor(self) -> Path:
        if self._executor is None:
            info = await self._engine.json("GET", "info")
            self._executor = executor_of(str(info["DockerRootDir"]))
        return self._executor


@asynccontextmanager
async def _here(ask: Ask) -> AsyncIterator[Held]:
    """Hold a build in this process."""
    build = await asyncio.to_thread(_begin, ask)
    held = Held(mark=ask.mark)

    async def look() -> None:
        await asyncio.to_thread(build.take)
        if await asyncio.to_thread(build.is_over):
            held.over.set()

    async def keep_looking() -> None:
        while True:
            await look()
            await asyncio.sleep(LOOK_SECONDS)

    held.look = look
    looking = asyncio.create_task(keep_looking())
    try:
        yield held
    finally:
        looking.cancel()
        await asyncio.wait((looking,))
        if not looking.cancelled() and (error := looking.exception()):
            log.warning("build.limits-lost", app=ask.app, reason=str(error))
        await _close(build, app=ask.app)


async def _close(build: Build, *, app: str) -> None:
    """Remove the group of a build that has ended; what its steps leave ends within moments."""
    try:
        for _ in range(CLOSING_LOOKS):
            if await asyncio.to_thread(build.close):
                return
            await asyncio.sleep(LOOK_SECONDS)
    except OSError as error:
        log.warning("build.group-left", app=app, reason=str(error))


@asynccontextmanager
async def _there(ask: Ask, socket: Path) -> AsyncIterator[Held]:
    """Hold a build by the program that has the rights."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=_MAX_LINE)
    except (OSError, TimeoutError) as error:
        raise OSError("pushboat-builds.service does not answer") from error
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(msgspec.json.encode(ask) + b"\n")
            first = msgspec.json.decode(await reader.readline() or b"{}", type=_Word)
        if not first.is_held:
            raise OSError(first.problem or "pushboat-builds.service does not answer")
        held = Held(mark=ask.mark)
        listening = asyncio.create_task(_listen(reader, held))

        async def look() -> None:
            writer.write_eof()  # After which the other side looks once more, tells, and closes.
            await asyncio.wait((listening,), timeout=ANSWER_SECONDS)

        held.look = look
        try:
            yield held
        finally:
            await look()  # The other side closes once the group has gone.
            listening.cancel()
            await asyncio.wait((listening,))
    finally:
        writer.close()


async def _listen(reader: asyncio.StreamReader, held: Held) -> None:
    while line := await reader.readline():
        if msgspec.json.decode(line, type=_Word).is_over:
            held.over.set()


def _begin(ask: Ask) -> Build:
    if not _APP.fullmatch(ask.app) or not _ABOVE.fullmatch(ask.above) or len(ask.mark) < 24:
        raise ValueError("that is no build of ours")
    executor = Path(ask.executor)
    if not executor.is_absolute() or not executor.is_dir():
        raise ValueError(_no_steps(executor))
    trees = Trees(inner=_own_group())
    return Build(
        trees,
        above=ask.above,
        all_builds=ask.all_builds,
        app=ask.app,
        bounds=ask.this_build,
        mark=ask.mark,
        executor=executor,
    )


def _no_steps(executor: Path) -> str:
    return f"Docker does not run their steps from {executor} (with its containerd image store it does not)"


def _own_group() -> str:
    """Return the group of version 2 that systemd has left to us, or empty: the root."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0" and path.endswith(".service"):
            return path.strip("/")
        if number == "0" and path.endswith(".service/self"):
            return path.strip("/").removesuffix("/self")
    return ""


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hold one build for the agent, until it closes the connection."""

    def tell(word: _Word) -> None:
        writer.write(msgspec.json.encode(word) + b"\n")

    try:
        ask = msgspec.json.decode(await reader.readline(), type=Ask)
        async with _here(ask) as held:
            tell(_Word(is_held=True))
            ended = asyncio.ensure_future(reader.read())
            over = asyncio.ensure_future(held.over.wait())
            await asyncio.wait((ended, over), return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                tell(_Word(is_over=True))
            over.cancel()
            await ended
            await held.look()
            if held.over.is_set():
                tell(_Word(is_over=True))
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        tell(_Word(problem=str(error)))
    finally:
        with suppress(OSError):
            await writer.drain()
        writer.close()


async def _listen_for_agent(socket: Path) -> None:
    server = await asyncio.start_unix_server(_serve, str(socket), limit=_MAX_LINE)
    async with server:
        await server.serve_forever()


def _step_aside() -> None:
    """Leave our group of version 2 to those below it: one with processes of its own cannot give limits to others."""
    trees = Trees()
    inner = _own_group()
    if trees.is_unified and inner:
        own = trees.roots[0] / inner / "self"
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text(str(os.getpid()))


def main() -> int:
    """Listen until ended; return the exit status."""
    socket = Path(sys.argv[1]) if len(sys.argv) > 1 else SOCKET
    _step_aside()
    socket.unlink(missing_ok=True)
    os.umask(0o007)  # The agent is of the socket's group.
    asyncio.run(_listen_for_agent(socket))
    return 0


if __name__ == "__main__":
    sys.exit(main())
