"""One client of the Docker engine, shared by every Docker adapter.

It wraps aiodocker's low-level query, because the calls we need most (BuildKit builds, raw log streams) are not among
its methods. What it adds is what an agent that must not hang or guess needs:

- **A deadline on every call.** An engine that accepts and never answers looks like one that is down.
- **Three outcomes, told apart by type.** No usable answer (refused, hung, cut, 5xx, not JSON): `Unavailable`, and the
  caller may not assume that nothing happened. A clear no (4xx): `Refused`. Else the decoded answer.
- **Version negotiation that repeats.** The engine may be replaced by another version while the agent runs, so the
  version is asked for again after every lost connection. Engines from 20.10 (API 1.41) to 29 (which refuses clients
  below 1.44) are spoken to; we never speak newer than 1.44, so the shapes of answers do not change under us.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import aiodocker
import aiohttp
import msgspec

from agent.docker.ping import Pinger
from agent.errors import Unavailable

T = TypeVar("T")

Params = Mapping[str, str | int | bool]

DEFAULT_SOCKET: Final = "unix:///var/run/docker.sock"
CONNECT_SECONDS: Final = 5.0
"""To be let in at the socket. The kernel does that for a living daemon; more means its backlog is full."""
CALL_SECONDS: Final = 30.0
"""For one ordinary call. A list of a thousand containers takes less than one; a loaded disk can take ten."""
OLDEST_API: Final = (1, 41)
"""Engine 20.10, of Debian 12."""
SPOKEN_API: Final = (1, 44)
"""Engine 25, and the oldest that engine 29 accepts."""
READ_BUFFER: Final = 256 * 1024
"""Bytes that may wait in one stream before the engine is made to wait."""

_HINT = "See whether it runs: systemctl status docker (or: docker version)."


class Refused(Exception):
    """The engine understood the call and said no. ``status`` is HTTP's (4xx), ``message`` its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def detail(self) -> str:
        """What it said, by the name that `Faulted` has for it too."""
        return self.message


class Faulted(Unavailable):
    """The engine answered with a fault of its own (5xx). ``detail`` is what it said."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__("docker.unavailable", f"Docker reports a fault ({status}): {detail}", _HINT)
        self.detail = detail


class EngineVersion(msgspec.Struct, frozen=True, rename="pascal"):
    """What ``GET /version`` tells."""

    version: str = ""
    api_version: str = ""
    min_a_p_i_version: str = "1.12"


class Engine:
    """Speaks to one engine on behalf of one agent. Safe to use from many tasks at once."""

    def __init__(self, docker: aiodocker.Docker, *, instance: str, socket: str) -> None:
        self._docker = docker
        self._is_negotiated = False
        self._pinger = Pinger(socket.removeprefix("unix://"))
        self.instance = instance
        """Labels what is ours: 12 characters, random per data folder."""
        self.socket = socket
        """Where the engine listens, ``unix:///…``."""
        self.whereabouts: dict[str, str] = {}
        """The container in which a replica or a task was last seen. A hint: see ``Containers.of_replica``."""
        self.went_silent = asyncio.Event()
        """Set by each call that got no answer. Whoever waits for the engine's return clears it."""

    @classmethod
    @asynccontextmanager
    async def open(cls, socket: str = DEFAULT_SOCKET, *, instance: str) -> AsyncIterator[Engine]:
        """Give a client of the engine at `socket` (``unix:///path``). Does not speak to it yet: it may be down."""
        # Each followed log holds a connection for as long as its container lives, so their number has no limit here.
        connector = aiohttp.UnixConnector(socket.removeprefix("unix://"), limit=0)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=READ_BUFFER) as session:
            # The host in the URL is for the HTTP Host header alone; the connector decides where bytes go.
            docker = aiodocker.Docker("http://docker", connector=connector, session=session, timeout=timeout)
            engine = cls(docker, instance=instance, socket=socket)
            try:
                yield engine
            finally:
                engine._pinger.close()
                await docker.close()

    async def json(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: object | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = CALL_SECONDS,
    ) -> Any:
        """Return the decoded JSON answer of one call, or `None` if it has no body. `data` is sent as JSON.

        Raises:
            Refused: a 4xx answer.
            Unavailable: no usable answer within `timeout` seconds (`None`: ever). The call may have had its effect.
        """
        body = await self.fetch(method, path, params=params, data=data, headers=headers, timeout=timeout)
        if not body.strip():
            return None
        with _translated(path):
            return msgspec.json.decode(body)

    async def get(
        self, path: str, *, into: type[T], params: Params | None = None, timeout: float | None = CALL_SECONDS
    ) -> T | None:
        """Return the answer of a GET as `into` (a msgspec type; unknown fields are skipped), or `None` on 404.

        Raises:
            Refused: another 4xx answer.
            Unavailable: no usable answer.
        """
        try:
            body = await self.fetch("GET", path, params=params, timeout=timeout)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        with _translated(path):
            return msgspec.json.decode(body, type=into)

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: object | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = CALL_SECONDS,
    ) -> bytes:
        """Return the body of the answer as it came. See `json`."""
        content = None if data is None else msgspec.json.encode(data)
        async with self._answer(
            method, path, params=params, content=content, headers=headers, within=timeout
        ) as answer:
            with _translated(path):
                async with asyncio.timeout(timeout):
                    return await answer.read()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: AsyncIterable[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answer_within: float | None = CALL_SECONDS,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the chunks of an answer that goes on for long, as they come; leaving closes the connection at once.

        `body` is sent while the answer is awaited. `answer_within`: seconds until the head of the answer, the whole
        `body` included; `None` leaves the limit to the caller. The chunks themselves have no deadline.

        Raises:
            Refused: a 4xx answer.
            Unavailable: no usable answer, also in the middle of the stream.
            Exception: whatever `body` raised.
        """
        upload = _Upload(body) if isinstance(body, AsyncIterable) else None
        content = body if upload is None else aiter(upload)
        try:
            async with self._answer(
                method, path, params=params, content=content, headers=headers, within=answer_within
            ) as answer:
                yield _chunks(answer, path=path)
        except Unavailable:
            if upload is not None and upload.failure is not None:
                raise upload.failure from None
            raise

    async def version(self) -> EngineVersion:
        """Return the engine's version, asked anew.

        Raises:
            Unavailable: no usable answer.
        """
        with _translated("version"):
            async with asyncio.timeout(CALL_SECONDS), self._docker._query("version", versioned_api=False) as answer:
                return msgspec.json.decode(await answer.read(), type=EngineVersion)

    async def answers(self) -> bool:
        """Tell whether the engine answers at all just now. Takes half a second at most, and never raises."""
        return await self._pinger.answers()

    async def api_version(self) -> str:
        """Return the version to speak, such as ``v1.41``; it is negotiated once per connection to the engine.

        Raises:
            Unavailable: no usable answer, or the engine is older than any we know.
        """
        if not self._is_negotiated:
            self._docker.api_version = spoken_version(await self.version())
            self._is_negotiated = True
        return self._docker.api_version

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        params: Params | None,
        content: AsyncIterable[bytes] | bytes | None,
        headers: Mapping[str, str] | None,
        within: float | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            await self.api_version()
            with _translated(path):
                async with asyncio.timeout(within):
                    # aiodocker has no public call for an arbitrary path; its own sub-clients use this one.
                    answer = await self._docker._do_query(
                        path, method, params=dict(params or {}), data=content, headers=headers
                    )
        except Unavailable as error:
            self._is_negotiated = False
            if not isinstance(error, Faulted):
                self.went_silent.set()
            raise
        except Refused as refusal:
            if not refusal.message.startswith("client version"):
                raise
            self._is_negotiated = False
            raise Unavailable("docker.unavailable", "Docker was replaced by another version just now.") from refusal
        try:
            yield answer
        finally:
            # A no-op once the body was read to its end (the connection went back to the pool); else it is closed,
            # which is how a build or a followed log is cancelled.
            answer.close()


class _Upload:
    """A request body that remembers why it broke off: aiohttp reports a lost connection instead."""

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._source = source
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                yield chunk
        except Exception as error:
            self.failure = error
            raise


def spoken_version(engine: EngineVersion) -> str:
    """Return the API version to speak with an engine: ours where it can, else the nearest that it accepts.

    Raises:
        Unavailable: ``docker.too-old``.
    """
    newest, oldest = _number(engine.api_version), _number(engine.min_a_p_i_version)
    if newest < OLDEST_API:
        raise Unavailable(
            "docker.too-old",
            f"The Docker engine {engine.version} is too old (API {engine.api_version}).",
            "Pushboat needs Docker 20.10 or newer.",
        )
    major, minor = max(oldest, min(newest, SPOKEN_API))
    return f"v{major}.{minor}"


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)


async def _chunks(answer: aiohttp.ClientResponse, *, path: str) -> AsyncIterator[bytes]:
    with _translated(path):
        async for chunk in answer.content.iter_any():
            yield chunk


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Turn what aiodocker, aiohttp and decoders raise into `Refused` and `Unavailable`."""
    try:
        yield
    except aiodocker.DockerError as error:
        if 400 <= error.status < 500:
            raise Refused(error.status, error.message) from error
        if 500 <= error.status < 600:
            raise Faulted(error.status, error.message) from error
        raise Unavailable("docker.unavailable", "Docker does not answer at its socket.", _HINT) from error
    except TimeoutError as error:
        raise Unavailable("docker.unavailable", "Docker took too long to answer.", _HINT) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable("docker.unavailable", "The connection to Docker was lost.", _HINT) from error
    except (msgspec.MsgspecError, json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        topic = path.partition("/")[0]
        raise Unavailable("docker.unavailable", f"Docker gave an answer about {topic} that makes no sense.") from error
