"""One build by BuildKit, through the Engine API: ``POST /build?version=2`` with the context as a streamed tar.

No docker and no buildx binary: the one connection carries the context up and the trace down. Closing it is how a build
is cancelled. What the build asks for meanwhile goes over another (`agent.builders.session`). A build that fails still
answers 200; what went wrong is in the stream.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec
import structlog

from agent.builders.failure import Failure
from agent.builders.progress import Progress
from agent.builders.trace import read_trace
from agent.docker.engine import Engine, Refused
from agent.errors import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_MESSAGE: Final = 32 << 20
"""Bytes of one message of the answer. BuildKit cuts a step's output at 2 MiB."""
_TICK_SECONDS: Final = 1.0

_TRACE: Final = "moby.buildkit.trace"
_IMAGE: Final = "moby.image.id"


class Solve(msgspec.Struct, frozen=True, kw_only=True):
    """What to build, besides the context."""

    tag: str
    dockerfile: str
    """Path within the context."""
    target: str = ""
    build_args: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    no_cache: bool = False
    session: str = ""
    """Id of the session in which the build may ask for secrets and logins."""


class SolveFailed(Exception):
    """The engine took the build and could not finish it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Detail(msgspec.Struct, frozen=True):
    message: str = ""


class _Message(msgspec.Struct, frozen=True):
    id: str = ""
    aux: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    detail: _Detail | None = msgspec.field(name="errorDetail", default=None)


class _Image(msgspec.Struct, frozen=True, rename={"id": "ID"}):
    id: str


def parameters(solve: Solve) -> dict[str, str]:
    """Return the query of the call."""
    query = {
        "version": "2",
        "t": solve.tag,
        "dockerfile": solve.dockerfile,
        "buildargs": msgspec.json.encode(dict(solve.build_args)).decode(),
        "labels": msgspec.json.encode(dict(solve.labels)).decode(),
        "rm": "1",
    }
    if solve.target:
        query["target"] = solve.target
    if solve.no_cache:
        query["nocache"] = "1"
    if solve.session:
        query["session"] = solve.session
    return query


async def build(engine: Engine, solve: Solve, *, body: AsyncIterable[bytes], progress: Progress) -> str:
    """Build and return the id of the image. Cancelling the call cancels the build. `body`: as `read_ahead` gives it.

    Raises:
        SolveFailed: it could not be built.
        Unavailable: the engine does not answer, or left in the middle.
        Exception: what `body` raises.
    """
    headers = {"Content-Type": "application/x-tar"}
    try:
        async with (
            ticking(progress.tick),
            engine.stream(
                "POST", "build", params=parameters(solve), body=body, headers=headers, answer_within=None
            ) as chunks,
        ):
            return await _follow(chunks, progress)
    except Refused as refusal:
        raise SolveFailed(Failure(message=refusal.message)) from refusal


async def _follow(chunks: AsyncIterator[bytes], progress: Progress) -> str:
    image = ""
    async for line in lines_of(chunks):
        message = _decoded(line, _Message)
        if message.id == _TRACE:
            _show(message.aux, progress)
        elif message.id == _IMAGE:
            image = _decoded(message.aux, _Image).id
        elif message.error or message.detail:
            raise SolveFailed(_failure(message, progress))
    if not image:
        raise Unavailable("docker.unavailable", "Docker ended the build without a result.", "Try again.")
    return image


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield each line that is not blank.

    Raises:
        Unavailable: a line is longer than any that Docker writes.
    """
    rest = bytearray()
    async for chunk in chunks:
        head, newline, tail = chunk.rpartition(b"\n")
        rest += head if newline else tail
        if newline:
            complete, rest = bytes(rest), bytearray(tail)
            for line in complete.split(b"\n"):
                if line.strip():
                    yield line
        if len(rest) > MAX_MESSAGE:
            raise Unavailable("docker.unavailable", "Docker gave an answer about a build that makes no sense.")
    if rest.strip():
        yield bytes(rest)


def _show(aux: msgspec.Raw, progress: Progress) -> None:
    encoded = _decoded(aux, str)
    try:
        trace = read_trace(base64.b64decode(encoded, validate=True))
    except ValueError as error:
        # Only the picture of the build is incomplete; the build itself goes on.
        log.warning("build.trace-unreadable", reason=str(error))
        return
    progress.show(trace)


def _decoded(data: bytes | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable("docker.unavailable", "Docker gave an answer about a build that makes no sense.") from error


def _failure(message: _Message, progress: Progress) -> Failure:
    text = message.error or (message.detail.message if message.detail else "")
    failed = progress.failed
    if failed is None:
        return Failure(message=text)
    lines = progress.last_lines(failed.digest)
    return Failure(message=text, step=failed.name, reason=failed.error, last_lines=lines)


@asynccontextmanager
async def ticking(tick: Callable[[], None]) -> AsyncIterator[None]:
    """Call `tick` every second during the block."""

    async def run() -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            tick()

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait((running,))
