"""What a build asks for while it runs: BuildKit's session, in which we are the server.

BuildKit keeps no secrets and knows no logins: a step with ``RUN --mount=type=secret`` and a pull from a registry ask
whoever started the build, by gRPC over a connection of their own (``POST /session``; moby/buildkit, ``session/``). So
what is asked for goes from the agent's memory to the engine's, into a file system in memory that only that step sees:
into no layer, no cache, no argument list and no label.

Asked and answered: secrets, logins, and whether we live. BuildKit can fetch the tokens that a registry wants by itself,
given a login, and does if it is told that we do not. An ssh agent is never forwarded: a build that asks for one is
ended, as it would fail in some odd way later.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Handler as Calls
from grpclib.server import Server, Stream

from agent.builders import protobuf
from agent.docker.engine import Engine
from agent.docker.upgrade import upgraded
from agent.ports.images import BuildFailed
from agent.ports.registries import Logins, canonical
from agent.ports.world import Say

T = TypeVar("T")

GET_SECRET: Final = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
CREDENTIALS: Final = "/moby.filesync.v1.Auth/Credentials"
CHECK_AGENT: Final = "/moby.sshforward.v1.SSH/CheckAgent"
HEALTH: Final = "/grpc.health.v1.Health/Check"

TOKENS: Final = tuple(
    f"/moby.filesync.v1.Auth/{name}" for name in ("FetchToken", "GetTokenAuthority", "VerifyTokenAuthority")
)
"""Asked by every BuildKit since 20.10, and left to it. To what grpclib does not know at all it gives an answer without
a content type, which the engine takes for a broken connection: so each is told in so many words."""

_SERVING: Final = 1
"""``HealthCheckResponse.ServingStatus``."""

NO_SSH: Final = (
    "The Dockerfile has a RUN --mount=type=ssh, and Pushboat forwards no ssh agent into builds. Give a token to that "
    "step instead, as a build secret: builder:secrets:set {app} TOKEN=…, and RUN --mount=type=secret,id=TOKEN"
)


class BuildSession:
    """Answers what one build asks."""

    def __init__(self, *, app_name: str, secrets: Mapping[str, str], logins: Logins, say: Say) -> None:
        """`app_name`: for messages that name a command. `say`: told of secrets that are asked for and not set."""
        self.id = str(uuid.uuid4())
        self.missing: set[str] = set()
        """Secrets that were asked for and are not set."""
        self._app_name = app_name
        self._secrets = secrets
        self._logins = logins
        self._say = say
        self._wants_ssh = asyncio.Event()

    def __mapping__(self) -> dict[str, Handler]:
        """Return what can be asked, as grpclib wants it."""
        return {
            GET_SECRET: _unary(self._secret),
            CREDENTIALS: _unary(self._credentials),
            CHECK_AGENT: _unary(self._agent),
            HEALTH: _unary(self._health),
            **dict.fromkeys(TOKENS, _unary(_unimplemented)),
        }

    async def unless_refused(self, building: Coroutine[Any, Any, T]) -> T:
        """Return what `building` does, which is the build of this session.

        Raises:
            BuildFailed: it asked for an ssh agent, and was cancelled.
        """
        build = asyncio.ensure_future(building)
        asked = asyncio.ensure_future(self._wants_ssh.wait())
        try:
            await asyncio.wait((build, asked), return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                raise BuildFailed(NO_SSH.format(app=self._app_name))
            return build.result()
        finally:
            build.cancel()
            asked.cancel()
            await asyncio.wait((build, asked))

    def _secret(self, request: dict[int, int | bytes]) -> bytes:
        """``GetSecretRequest``: 1 ID. ``GetSecretResponse``: 1 data."""
        name = protobuf.text(request.get(1))
        value = self._secrets.get(name)
        if value is None:
            if name not in self.missing:
                self.missing.add(name)
                self._say(f" !     The build asks for the secret {name[:100]}, which is not set")
            raise GRPCError(Status.NOT_FOUND, "not found")
        return protobuf.field(1, value)

    def _credentials(self, request: dict[int, int | bytes]) -> bytes:
        """``CredentialsRequest``: 1 Host. ``CredentialsResponse``: 1 Username, 2 Secret; empty for nobody."""
        login = self._logins.get(canonical(protobuf.text(request.get(1))))
        return protobuf.field(1, login.user) + protobuf.field(2, login.password) if login else b""

    def _agent(self, request: dict[int, int | bytes]) -> bytes:
        """``CheckAgentRequest``: an optional mount would be left out without a word."""
        self._wants_ssh.set()
        raise GRPCError(Status.NOT_FOUND, "no ssh agent is forwarded")

    def _health(self, request: dict[int, int | bytes]) -> bytes:
        return protobuf.field(1, _SERVING)


def _unimplemented(request: dict[int, int | bytes]) -> bytes:
    raise GRPCError(Status.UNIMPLEMENTED, "fetch the token yourself")


@asynccontextmanager
async def open_session(engine: Engine, session: BuildSession) -> AsyncIterator[None]:
    """Have `session` answer the engine during the block.

    Raises:
        Unavailable: the engine does not answer.
    """
    # grpclib opens its protocol on sockets that it listens at alone; this one was connected by us.
    protocol = Server([session], codec=Bytes())._protocol_factory()
    assert isinstance(protocol.handler, Calls)
    offered = [method for method in session.__mapping__() if method not in TOKENS]
    headers = [
        ("X-Docker-Expose-Session-Uuid", session.id),
        ("X-Docker-Expose-Session-Name", "pushboat"),
        ("X-Docker-Expose-Session-Sharedkey", ""),
        *(("X-Docker-Expose-Session-Grpc-Method", method) for method in offered),
    ]
    try:
        async with upgraded(engine, protocol, headers=headers):
            yield
    finally:
        protocol.handler.close()
        await protocol.handler.wait_closed()


class Bytes(CodecBase):
    """Leaves messages as they are: `agent.builders.protobuf` reads and writes them."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: object) -> bytes:
        """Return `message`."""
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        """Return `data`."""
        return data


def _unary(answer: Callable[[dict[int, int | bytes]], bytes]) -> Handler:
    async def call(stream: Stream[bytes, bytes]) -> None:
        message = await stream.recv_message()
        try:
            request = dict(protobuf.fields(message or b""))
            reply = answer(request)
        except ValueError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, "not a message of that kind") from error
        await stream.send_message(reply)

    return Handler(call, Cardinality.UNARY_UNARY, bytes, bytes)
