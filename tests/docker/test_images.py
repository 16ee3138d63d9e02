"""Images: what they say of themselves, which of them are ours, and that no other is touched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.docker import images
from agent.docker.images import DockerImages, exposed_ports
from agent.errors import UserError
from agent.schedulers.docker import DockerScheduler
from proto.names import AppId, DeployId
from tests.support.docker import Corner, busybox_tar, token
from tests.support.scripted_engine import always, http, scripted


def test_only_tcp_ports_count() -> None:
    assert exposed_ports({"8080/tcp": {}, "53/udp": {}, "90": {}, "x/tcp": {}}) == (90, 8080)


DIGITS = "0123456789abcdef" * 4
HOSTILE = [
    "../containers/json",
    "a/../../x",
    "-x",
    "",
    "a b",
    "A/B",
    "a?b=c",
    "a:b:c",
    "x" * 500,
    "a@sha256:1",
    "a%2f..",
]


@pytest.mark.parametrize("reference", HOSTILE)
async def test_what_cannot_name_an_image_never_reaches_the_engine(tmp_path: Path, reference: str) -> None:
    async with scripted(tmp_path, always(http(200, b"{}"))) as (engine, seen):
        assert await DockerImages(engine).find(reference) is None
        with pytest.raises(UserError) as caught:
            await DockerImages(engine).pull(reference, lambda _: None)
        assert caught.value.code == "image.bad-reference"
    assert seen == []


@pytest.mark.parametrize(
    "reference",
    [
        "busybox",
        "busybox:1.36",
        "a/busybox",
        "localhost:5000/a/b_c.d-e:t",
        f"a.b/c@sha256:{DIGITS}",
        f"sha256:{DIGITS}",
    ],
)
async def test_what_can_name_an_image_is_looked_for(tmp_path: Path, reference: str) -> None:
    async with scripted(tmp_path, always(http(404, b'{"message": "no"}'))) as (engine, seen):
        assert await DockerImages(engine).find(reference) is None
    assert seen[1].split()[1] == f"/v1.41/images/{reference}/json"


@pytest.mark.parametrize(
    "answer",
    [
        http(404, b'{"message": "pull access denied for x"}'),
        http(500, b'{"message": "Get https://x/v2/: dial tcp: lookup x: no such host"}'),
        http(200, b'{"status": "Pulling"}\r\n{"error": "manifest unknown", "errorDetail": {}}\r\n'),
    ],
)
async def test_an_image_that_no_registry_gives_is_the_users_affair(tmp_path: Path, answer: bytes) -> None:
    async with scripted(tmp_path, always(answer)) as (engine, seen):
        with pytest.raises(UserError) as caught:
            await DockerImages(engine).pull("x", lambda _: None)
    assert caught.value.code == "image.not-found"
    assert "fromImage=x:latest" in seen[1].replace("%3A", ":")


@pytest.mark.parametrize(
    "answer",
    [
        # As engine 20.10 passes on 429 with and without the registry's own words, and 5xx.
        http(500, b'{"message": "toomanyrequests: You have reached your pull rate limit."}'),
        http(500, b'{"message": "error parsing HTTP 429 response body: unexpected end of JSON input: \\"\\""}'),
        http(500, b'{"message": "received unexpected HTTP status: 503 Service Unavailable"}'),
        http(200, b'{"error": "unexpected status from HEAD request to https://x/v2/y: 502 Bad Gateway"}\r\n'),
    ],
)
async def test_a_registry_that_cannot_answer_just_now_is_not_one_without_the_image(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "BUSY_PAUSES", (0.01, 0.02))
    said = list[str]()
    async with scripted(tmp_path, always(answer)) as (engine, seen):
        with pytest.raises(UserError) as caught:
            await DockerImages(engine).pull("ghcr.io/a/b:1", said.append)
    assert sum("images/create" in each for each in seen) == 3
    busy = "ghcr.io is too busy to give ghcr.io/a/b:1 just now: asking again in"
    assert [line for line in said if "busy" in line] == [f"{busy} 0.01 s", f"{busy} 0.02 s"]
    assert (
        caught.value.code == "registry.busy" and "ghcr.io gave no image ghcr.io/a/b:1 just now" in caught.value.message
    )
    assert "Try again later" in caught.value.hint and "registry:login --global ghcr.io" in caught.value.hint


async def test_a_registry_that_was_busy_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "BUSY_PAUSES", (0.01,))
    answers = [http(500, b'{"message": "toomanyrequests: slow down"}'), http(200, b'{"status": "Pulling"}\r\n')]

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0) if "images/create" in request else http(200, b'{"Id": "sha256:1"}'))

    async with scripted(tmp_path, answer) as (engine, _):
        assert (await DockerImages(engine).pull("ghcr.io/a/b:1", lambda _: None)).id == "sha256:1"
    assert answers == []


async def test_who_stops_waiting_for_a_busy_registry_asks_it_no_more(tmp_path: Path) -> None:
    said = asyncio.Queue[str]()
    async with scripted(tmp_path, always(http(500, b'{"message": "toomanyrequests"}'))) as (engine, seen):
        pulling = asyncio.create_task(DockerImages(engine).pull("ghcr.io/a/b:1", said.put_nowait))
        assert "asking again in 2 s" in await said.get()
        pulling.cancel()
        await asyncio.wait((pulling,))
        assert pulling.cancelled() and sum("images/create" in each for each in seen) == 1


@pytest.mark.real
async def test_an_image_tells_what_it_runs_and_where_it_listens(docker: Corner) -> None:
    image = await docker.import_image(
        'ENTRYPOINT ["/bin/sh", "-c"]', 'CMD ["httpd"]', "EXPOSE 8080 53/udp 80", "ENV A=b=c", "LABEL x=y"
    )
    found = await DockerImages(docker.engine).find(image)
    assert found is not None
    assert (found.id, found.entrypoint, found.command) == (image, ("/bin/sh", "-c"), ("httpd",))
    assert (found.ports, found.env["A"], found.labels) == ((80, 8080), "b=c", {"x": "y"})
    assert not found.has_healthcheck and found.size > 100_000 and found.created_at > 1e9


@pytest.mark.real
async def test_a_healthcheck_is_seen_and_so_is_its_absence(docker: Corner) -> None:
    images = DockerImages(docker.engine)
    checked = await images.find(await docker.import_image("HEALTHCHECK CMD true"))
    unchecked = await images.find(await docker.import_image("HEALTHCHECK NONE"))
    assert checked is not None and checked.has_healthcheck
    assert unchecked is not None and not unchecked.has_healthcheck


@pytest.mark.real
async def test_an_image_without_a_name_is_told_from_one_with_a_name(docker: Corner) -> None:
    images = DockerImages(docker.engine)
    tag = images.tag_for(AppId(token("a")), DeployId(token("d")))
    async with docker.engine.stream("POST", "images/create?fromSrc=-", body=busybox_tar()) as chunks:
        said = b"".join([chunk async for chunk in chunks])
    id_ = str(msgspec.json.decode(said.strip().rpartition(b"\n")[2])["status"])
    found = await images.find(id_)
    assert found is not None and found.id == id_ and found.is_nameless
    await images.keep(id_, tag=tag)
    named = await images.find(id_)
    assert named is not None and not named.is_nameless
    await images.untag(tag)
    assert await images.find(id_) is None, "which is why one without a name gets none of ours"


@pytest.mark.real
async def test_an_image_in_use_keeps_its_tag_until_its_container_is_gone(docker: Corner) -> None:
    images, scheduler = DockerImages(docker.engine), DockerScheduler(docker.engine, bridges=docker.bridges)
    wish = docker.wish(image=await docker.import_image("ENV UNIQUE=1"))
    await scheduler.converge(docker.app, [wish], lambda _: None)
    (tag,) = next(image.tags for image in await images.ours() if image.id == wish.image)
    await images.untag(tag)
    assert await images.find(wish.image) is not None
    await scheduler.remove(wish.replica)
    await images.untag(tag)
    assert await images.find(wish.image) is None


@pytest.mark.parametrize("tag", ["busybox:latest", "pushboat-other/a:b", "pushboat-i23456789abc/a", "x"])
async def test_a_tag_that_is_not_ours_is_never_removed(tmp_path: Path, tag: str) -> None:
    async with scripted(tmp_path, always(http(200, b"[]"))) as (engine, seen):
        with pytest.raises(ValueError):
            await DockerImages(engine).untag(tag)
    assert seen == []
