"""What the engine is asked about registries, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import msgspec
import pytest

from agent.docker import transfers
from agent.docker.registries import DockerRegistries, auth_header
from agent.errors import UserError
from agent.ports.registries import Login, canonical, digest_in, name_by_digest, registry_of
from tests.support.scripted_engine import Answer, always, http, scripted

LOGIN = Login(server="ghcr.io", user="ada", password="hush")


def engine_that(push: bytes) -> Answer:
    """Tag and untag well, and answer a push with these lines."""

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(push if "/push" in request else http(200, b"[]"))

    return answer


def test_who_to_be_is_told_in_a_header_and_nobody_in_none() -> None:
    told = msgspec.json.decode(base64.urlsafe_b64decode(auth_header(LOGIN)["X-Registry-Auth"]))
    assert told == {"username": "ada", "password": "hush", "serveraddress": "ghcr.io"}
    hub = msgspec.structs.replace(LOGIN, server="docker.io")
    told = msgspec.json.decode(base64.urlsafe_b64decode(auth_header(hub)["X-Registry-Auth"]))
    assert told["serveraddress"] == "https://index.docker.io/v1/"
    assert auth_header(None) == {}


@pytest.mark.parametrize(
    ("reference", "server"),
    [
        ("nginx", "docker.io"),
        ("ada/blog:1", "docker.io"),
        ("docker.io/ada/blog", "docker.io"),
        ("index.docker.io/ada/blog", "docker.io"),
        ("ghcr.io/ada/blog@sha256:0", "ghcr.io"),
        ("localhost/blog", "localhost"),
        ("host:5000/blog:1", "host:5000"),
    ],
)
def test_the_registry_of_an_image_is_in_its_name(reference: str, server: str) -> None:
    assert registry_of(reference) == server


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "nginx@sha256:1"),
        ("nginx:1.27", "nginx@sha256:1"),
        ("docker.io/library/nginx:1", "nginx@sha256:1"),
        ("docker.io/ada/blog:1", "ada/blog@sha256:2"),
        ("ghcr.io/ada/blog:1", "ghcr.io/ada/blog@sha256:3"),
        ("host:5000/blog", "host:5000/blog@sha256:4"),
        ("host:5000/blog@sha256:4", "host:5000/blog@sha256:4"),
        ("sha256:5", ""),
        ("library/other", ""),
    ],
)
def test_a_name_by_digest_is_that_of_the_repository_that_was_asked_for(reference: str, name: str) -> None:
    known = ("nginx@sha256:1", "ada/blog@sha256:2", "ghcr.io/ada/blog@sha256:3", "host:5000/blog@sha256:4")
    assert name_by_digest(reference, known) == name
    assert digest_in(name) == name.partition("@")[2]


@pytest.mark.parametrize(
    ("answer", "digest"),
    [
        (http(200, b'{"Descriptor": {"digest": "sha256:1", "size": 5}, "Platforms": []}'), "sha256:1"),
        (http(404, b'{"message": "manifest unknown"}'), ""),
        (http(403, b'{"message": "unauthorized"}'), ""),
        (http(500, b'{"message": "dial tcp: connection refused"}'), ""),
    ],
)
async def test_a_registry_says_what_a_name_means_or_nothing(tmp_path: Path, answer: bytes, digest: str) -> None:
    async with scripted(tmp_path, always(answer)) as (engine, seen):
        assert await DockerRegistries(engine).digest("ghcr.io/ada/blog", login=LOGIN) == digest
    assert seen[1].split()[1].endswith("/distribution/ghcr.io/ada/blog:latest/json")


@pytest.mark.parametrize("name", ["https://index.docker.io/v1/", "hub.docker.com", "Docker.IO", "registry-1.docker.io"])
def test_docker_hub_goes_by_many_names(name: str) -> None:
    assert canonical(name) == "docker.io"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (http(401, b'{"message": "Get https://ghcr.io/v2/: unauthorized"}'), "registry.refused"),
        (http(500, b'{"message": "login attempt to https://ghcr.io/v2/ failed with status: 401 Unauthorized"}'),
         "registry.refused"),
        (http(500, b'{"message": "Get https://ghcr.io/v2/: dial tcp: no such host"}'), "registry.unreachable"),
    ],
)  # fmt: skip
async def test_a_login_that_is_not_good_is_told_from_a_registry_that_is_gone(
    tmp_path: Path, answer: bytes, code: str
) -> None:
    async with scripted(tmp_path, always(answer)) as (engine, seen):
        with pytest.raises(UserError) as caught:
            await DockerRegistries(engine).check(LOGIN)
    assert caught.value.code == code
    assert "hush" not in f"{caught.value.message} {caught.value.hint} {seen}"


async def test_each_name_is_pushed_and_taken_away_again(tmp_path: Path) -> None:
    pushed = http(200, b'{"status": "Pushed", "id": "1"}\r\n')
    async with scripted(tmp_path, engine_that(pushed)) as (engine, seen):
        await DockerRegistries(engine).push(
            "sha256:1", ("ghcr.io/a/b:1", "ghcr.io/a/b:latest"), login=LOGIN, say=lambda line: None
        )
    calls = [line.replace("%2F", "/").replace("/v1.41", "").rsplit(" ", 1)[0] for line in seen[1:]]
    assert calls == [
        call
        for tag in ("1", "latest")
        for call in (
            f"POST /images/sha256:1/tag?repo=ghcr.io/a/b&tag={tag}",
            f"POST /images/ghcr.io/a/b/push?tag={tag}",
            f"DELETE /images/ghcr.io/a/b:{tag}",
        )
    ]


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b'{"status": "Preparing"}\r\n{"errorDetail": {}, "error": "denied: not yours"}\r\n'),
        http(500, b'{"message": "denied: not yours"}'),
        http(404, b'{"message": "denied: not yours"}'),
    ],
)
async def test_a_push_that_is_refused_says_why_and_leaves_no_name(tmp_path: Path, answer: bytes) -> None:
    async with scripted(tmp_path, engine_that(answer)) as (engine, seen):
        with pytest.raises(UserError) as caught:
            await DockerRegistries(engine).push("sha256:1", ("ghcr.io/a/b:1", "ghcr.io/a/b:x"), login=None, say=print)
    assert caught.value.code == "registry.push-failed" and "denied: not yours" in caught.value.message
    assert seen[-1].startswith("DELETE /v1.41/images/ghcr.io/a/b:1 ")


async def test_a_push_under_way_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "REPORT_SECONDS", 0.0)
    steps = (
        b'{"status": "Pushing", "id": "1", "progressDetail": {"current": 1000000, "total": 4000000}}\r\n'
        b'{"status": "Pushing", "id": "2", "progressDetail": {"current": 9000000, "total": 8000000}}\r\n'
    )
    said: list[str] = []
    async with scripted(tmp_path, engine_that(http(200, steps))) as (engine, _):
        await DockerRegistries(engine).push("sha256:1", ("ghcr.io/a/b:1",), login=None, say=said.append)
    assert said[-1] == "       Pushing ghcr.io/a/b:1: 9 of 12 MB"
