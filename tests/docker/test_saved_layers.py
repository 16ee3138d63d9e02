"""An image's layers out of one archive and into another."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncGenerator

import msgspec
import pytest

from agent.docker.images import DockerImages
from agent.docker.saved_layers import saved_layers, wants_all_layers
from proto.names import AppId, DeployId
from tests.support.docker import Corner, corner, token

pytestmark = pytest.mark.real


async def _layers(c: Corner, image: str) -> list[str]:
    found = await c.engine.get(f"images/{image}/json", into=dict[str, object])
    assert found is not None
    return msgspec.convert(found["RootFS"], dict[str, object])["Layers"]  # type: ignore[return-value]


def _file(name: str, content: bytes) -> bytes:
    output = io.BytesIO()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(fileobj=output, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


async def test_an_engine_that_has_lost_an_image_gets_its_layers_back() -> None:
    async with corner() as c:
        tag = DockerImages(c.engine).tag_for(AppId("a1"), DeployId(token("d")))
        # One layer that no other image of this machine has, so that it goes with the image.
        body = _file("mark", token().encode())
        repository, _, name = tag.rpartition(":")
        query = {"fromSrc": "-", "repo": repository, "tag": name}
        async with c.engine.stream("POST", "images/create", params=query, body=body) as chunks:
            assert [chunk async for chunk in chunks]
        layers = await _layers(c, tag)
        assert not await wants_all_layers(c.engine)
        paths: list[str] = []
        saved = saved_layers(c.engine, tag, paths=paths, count=len(layers))
        members = b"".join([piece async for piece in saved])
        await c.engine.json("DELETE", f"images/{tag}")

        config = msgspec.json.encode(
            {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": layers}}
        )
        manifest = msgspec.json.encode([{"Config": "c.json", "RepoTags": ["app:now"], "Layers": paths}])

        async def archive() -> AsyncGenerator[bytes, None]:
            yield members
            yield _file("c.json", config)[:1024]
            yield _file("manifest.json", manifest)

        loaded = await DockerImages(c.engine).load(archive(), name="app:now", tag=tag)
        assert await _layers(c, loaded.id) == layers
