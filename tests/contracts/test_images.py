"""What is promised of the images that an engine holds, asked of the real one and of the fake alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from agent.docker.images import DockerImages
from agent.errors import Unavailable, UserError
from agent.ports.images import ImageInfo, Images
from proto.names import AppId, DeployId
from tests.fakes.images import FakeImages
from tests.support.docker import Corner, corner, token

APP = AppId("acontracttest")
NOWHERE = "127.0.0.1:9/none:latest"
"""Where no registry listens."""
GONE = f"sha256:{'0' * 64}"


class Stage(Protocol):
    """Images, and somebody who brings some."""

    images: Images

    async def bring(self) -> str:
        """Have a new image under a name that is not ours, `reference`; return its id."""
        ...

    reference: str


class FakeStage:
    """Fulfils `Stage` without an engine."""

    def __init__(self) -> None:
        self._fake = FakeImages()
        self.images: Images = self._fake
        self.reference = "registry.example.com/there:1"

    async def bring(self) -> str:
        image = ImageInfo(id=f"sha256:{1:064x}")
        self._fake.registry[self.reference] = image
        return (await self.images.pull(self.reference, lambda _: None)).id


class DockerStage:
    """Fulfils `Stage` on a real engine."""

    def __init__(self, docker: Corner) -> None:
        self.images: Images = DockerImages(docker.engine)
        self.reference = f"{token('x')}.example.com/there:1"
        self._docker = docker

    async def bring(self) -> str:
        image = await self._docker.import_image(f"LABEL token={token('t')}")
        named = await self.images.find(image)
        assert named is not None
        repository, _, tag = self.reference.rpartition(":")
        await self._docker.engine.json("POST", f"images/{image}/tag", params={"repo": repository, "tag": tag})
        for ours in named.tags:
            await self.images.untag(ours)
        return image


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.real)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    async with corner() as docker:
        made = DockerStage(docker)
        yield made
        await made.images.forget(made.reference)


def new_tag(stage: Stage) -> str:
    return stage.images.tag_for(APP, DeployId(token("d")))


async def ours(stage: Stage) -> dict[str, str]:
    """Return the id of each image of ours, by each of its tags that is one of ours."""
    found = await stage.images.ours()
    tags = {tag: image.id for image in found for tag in image.tags}
    return {tag: image for tag, image in tags.items() if f"/{APP}:" in tag}


async def test_an_image_is_there_until_its_last_name_goes(stage: Stage) -> None:
    image, one, two = await stage.bring(), new_tag(stage), new_tag(stage)
    assert await ours(stage) == {}, "what has none of our names is not ours"
    for tag in (one, one, two):
        await stage.images.keep(image, tag=tag)
    assert await ours(stage) == {one: image, two: image}
    found = await stage.images.find(one)
    assert found is not None and found.id == image and set(found.tags) == {one, two, stage.reference}
    for name in (stage.reference, stage.reference):
        await stage.images.forget(name)
    assert await stage.images.find(stage.reference) is None
    for tag in (one, one):
        await stage.images.untag(tag)
    assert await ours(stage) == {two: image}
    await stage.images.untag(two)
    assert await ours(stage) == {}
    assert await stage.images.find(image) is None


async def test_the_name_that_it_was_got_by_goes_as_it_is_kept(stage: Stage) -> None:
    image, tag = await stage.bring(), new_tag(stage)
    await stage.images.keep(image, tag=tag, instead_of=stage.reference)
    found = await stage.images.find(image)
    assert found is not None and found.tags == (tag,)
    assert await stage.images.find(stage.reference) is None


async def test_what_is_not_there_is_neither_found_nor_kept_nor_got(stage: Stage) -> None:
    assert await stage.images.find(GONE) is None
    assert await stage.images.find(new_tag(stage)) is None
    with pytest.raises(Unavailable) as missing:
        await stage.images.keep(GONE, tag=new_tag(stage), instead_of=stage.reference)
    assert missing.value.code == "image.missing"
    with pytest.raises(UserError) as refused:
        await stage.images.pull(NOWHERE, lambda _: None)
    assert refused.value.code == "image.not-found"
    await stage.images.untag(new_tag(stage))
    await stage.images.forget(NOWHERE)
