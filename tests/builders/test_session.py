"""What a build may ask us for, asked as BuildKit asks: by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from grpclib.client import UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.testing import ChannelFor

from agent.builders import protobuf
from agent.builders.session import (
    CHECK_AGENT,
    CREDENTIALS,
    GET_SECRET,
    HEALTH,
    TOKENS,
    BuildSession,
    Bytes,
    open_session,
)
from agent.docker.upgrade import session_head
from agent.errors import Unavailable
from agent.ports.images import BuildFailed
from agent.ports.registries import Login
from tests.support.protobuf import field
from tests.support.scripted_engine import always, http, scripted

GHCR = Login(server="ghcr.io", user="ada", password="hush")
HUB = Login(server="docker.io", user="eve", password="hush-hush")


def session(said: list[str] | None = None, **secrets: str) -> BuildSession:
    logins = {login.server: login for login in (GHCR, HUB)}
    return BuildSession(app_name="blog", secrets=secrets, logins=logins, say=(said if said is not None else []).append)


async def asked(of: BuildSession, method: str, request: bytes) -> Mapping[int, int | bytes]:
    async with ChannelFor([of], codec=Bytes()) as channel:
        call = UnaryUnaryMethod[bytes, bytes](channel, method, bytes, bytes)
        return dict(protobuf.fields(await call(request, timeout=10)))


async def refused(of: BuildSession, method: str, request: bytes) -> Status:
    with pytest.raises(GRPCError) as refusal:
        await asked(of, method, request)
    return refusal.value.status


async def test_a_secret_is_given_whole_by_its_name() -> None:
    value = "line\n" * 50_000 + "ünïcode"
    assert await asked(session(KEY=value), GET_SECRET, field(1, "KEY")) == {1: value.encode()}
    assert await asked(session(KEY=""), GET_SECRET, field(1, "KEY")) == {1: b""}


async def test_a_secret_that_is_not_set_is_not_found_and_that_is_said_once() -> None:
    said: list[str] = []
    one = session(said, KEY="x")
    for _ in range(2):
        assert await refused(one, GET_SECRET, field(1, "key")) is Status.NOT_FOUND
    assert one.missing == {"key"}
    assert said == [" !     The build asks for the secret key, which is not set"]


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("ghcr.io", {1: b"ada", 2: b"hush"}),
        ("registry-1.docker.io", {1: b"eve", 2: b"hush-hush"}),
        ("ghcr.io:443", {}),
        ("ghcr.io.evil.example", {}),
        ("", {}),
    ],
)
async def test_a_login_is_given_for_its_registry_alone(host: str, answer: Mapping[int, bytes]) -> None:
    assert await asked(session(), CREDENTIALS, field(1, host)) == answer


@pytest.mark.parametrize("method", TOKENS)
async def test_tokens_are_left_to_buildkit(method: str) -> None:
    # Another status is taken for a registry that refuses.
    assert await refused(session(), method, field(1, "ghcr.io")) is Status.UNIMPLEMENTED


async def test_it_says_that_it_lives() -> None:
    assert await asked(session(), HEALTH, b"") == {1: 1}


@pytest.mark.parametrize("request_", [b"\x0a\xff", b"\xff", b"\x08\x01"])
async def test_nonsense_is_refused(request_: bytes) -> None:
    assert await refused(session(), GET_SECRET, request_) is Status.INVALID_ARGUMENT


async def test_a_build_that_asks_for_an_ssh_agent_is_ended() -> None:
    one, was_cancelled = session(), asyncio.Event()

    async def building() -> str:
        try:
            await asked(one, CHECK_AGENT, b"")
        except GRPCError:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()
        return ""

    with pytest.raises(BuildFailed, match=r"forwards no ssh agent.*builder:secrets:set blog"):
        await asyncio.wait_for(one.unless_refused(building()), 10)
    assert was_cancelled.is_set()


async def test_a_build_that_does_not_ends_as_it_ends() -> None:
    async def built() -> str:
        return "sha256:1"

    async def broken() -> str:
        raise Unavailable("docker.unavailable", "gone")

    assert await session().unless_refused(built()) == "sha256:1"
    with pytest.raises(Unavailable):
        await session().unless_refused(broken())


@pytest.mark.parametrize(
    "answer", [http(404, b'{"message": "page not found"}'), http(500, b"{}"), b"HTTP/1.1 x\r\n\r\n"]
)
async def test_an_engine_that_does_not_want_to_ask_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    async with scripted(tmp_path, always(answer)) as (engine, seen):
        with pytest.raises(Unavailable):
            async with open_session(engine, session()):
                pass
    assert seen[1] == "POST /v1.41/session HTTP/1.1"


async def test_an_engine_that_hangs_up_is_unavailable(tmp_path: Path) -> None:
    async def hang_up(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with scripted(tmp_path, hang_up) as (engine, _):
        with pytest.raises(Unavailable):
            async with open_session(engine, session()):
                pass


def test_the_request_for_a_session_holds_no_secret_and_offers_no_tokens() -> None:
    head = session_head("v1.41", headers=[("X-Docker-Expose-Session-Uuid", "1")])
    assert head == (
        b"POST /v1.41/session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"X-Docker-Expose-Session-Uuid: 1\r\n\r\n"
    )


def test_a_login_is_printed_without_its_password() -> None:
    assert "hush" not in f"{GHCR} {GHCR!r} {[GHCR]}"
