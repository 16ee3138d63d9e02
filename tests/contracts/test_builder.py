"""What every image builder promises, asked of the fake, and of two builders with a real engine alike.

A Dockerfile is what all of them are given: the stand-in for buildpacks has one that does what RUN lines say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from agent.builders.buildpacks import BuildpacksBuilder
from agent.builders.dockerfile import DockerfileBuilder
from agent.docker import labels
from agent.docker.build_limits import BuildLimits
from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from agent.docker.workshops import DockerWorkshops
from agent.errors import UserError
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, ImageBuilder, Images
from agent.ports.source import SourceTree
from proto.names import AppId, DeployId
from scripts.house import engine as house
from tests.fakes.images import FakeBuilder, FakeImages
from tests.fakes.source import FakeTree
from tests.support.archived import ArchivedTree
from tests.support.base_image import BASE_IMAGE, ensure_base_image
from tests.support.docker import corner, token
from tests.support.stand_in_builder import ensure_stand_in

APP = AppId("abuildertest")


class Stage(msgspec.Struct, frozen=True):
    """A builder and the images it makes."""

    builder: ImageBuilder
    images: Images
    options: BuildOptions = BuildOptions()
    has_dockerfile: bool = True
    """Whether it follows a Dockerfile, which may EXPOSE ports."""

    def request(self, dockerfile: str) -> BuildRequest:
        """Return a wish for a build of nothing but this Dockerfile."""
        return BuildRequest(
            app=APP,
            app_name="blog",
            deploy=DeployId("d1"),
            tag=self.images.tag_for(APP, DeployId(token("d"))),
            labels={"com.pushboat.app-id": APP},
            source=ArchivedTree({"Dockerfile": f"FROM {BASE_IMAGE}\n{dockerfile}".encode()}),
            options=self.options,
        )


@asynccontextmanager
async def by_dockerfile() -> AsyncIterator[Stage]:
    async with Engine.open(instance=token("t")) as engine:
        await ensure_base_image(engine)
        images = DockerImages(engine)
        yield Stage(DockerfileBuilder(engine, images, BuildLimits(engine, memory_bytes=0)), images)
        for image in await images.ours():
            await engine.json("DELETE", f"images/{image.id}", params={"force": True})


@asynccontextmanager
async def by_buildpacks() -> AsyncIterator[Stage]:
    stand_in = await asyncio.to_thread(ensure_stand_in, house.Engine())
    async with corner() as c:
        images = DockerImages(c.engine)
        workshops = DockerWorkshops(c.engine, bridges=c.bridges)
        builder = BuildpacksBuilder(c.engine, images, workshops=workshops, trusted=[stand_in.builder])
        options = BuildOptions(selected="pack", builder_image=stand_in.builder)
        yield Stage(builder, images, options=options, has_dockerfile=False)
        assert await c.containers.find({labels.KIND: labels.BUILD}) == []
        await workshops.remove(APP)


REAL = [
    pytest.param(by_dockerfile, id="docker", marks=pytest.mark.real),
    pytest.param(by_buildpacks, id="buildpacks", marks=pytest.mark.real),
]


@pytest.fixture(params=[None, *REAL])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param is None:
        images = FakeImages()
        yield Stage(FakeBuilder(images), images)
        return
    async with request.param() as stage:
        yield stage


async def test_it_detects_what_it_can_build(stage: Stage) -> None:
    with_it: SourceTree = FakeTree("1" * 40, {"Dockerfile": b"FROM x"})
    without: SourceTree = FakeTree("1" * 40, {"other": b""})
    assert await stage.builder.detect(with_it, stage.options)
    assert not await stage.builder.detect(without, BuildOptions())
    if stage.has_dockerfile:
        assert await stage.builder.dockerfile(with_it, BuildOptions(), lambda line: None) == "FROM x"
    else:
        with pytest.raises(UserError, match="follow no Dockerfile"):
            await stage.builder.dockerfile(with_it, stage.options, lambda line: None)


async def test_what_it_built_is_found_under_its_tag(stage: Stage) -> None:
    request = stage.request("EXPOSE 8080\n")
    said: list[str] = []
    built = await stage.builder.build(request, said.append)
    found = await stage.images.find(request.tag)
    assert found is not None and found.id == built.image.id
    assert found.ports == ((8080,) if stage.has_dockerfile else ())
    assert said
    assert await stage.images.find(built.image.id) is not None


async def test_building_again_gives_the_same_image(stage: Stage) -> None:
    request = stage.request("EXPOSE 8081\n")
    first = await stage.builder.build(request, lambda line: None)
    second = await stage.builder.build(request, lambda line: None)
    assert first.image.id == second.image.id


async def test_what_another_build_took_the_name_from_is_found_and_dropped(stage: Stage) -> None:
    request = stage.request(f"RUN echo {token()} > one\n")
    first = await stage.builder.build(request, lambda line: None)
    again = msgspec.structs.replace(stage.request(f"RUN echo {token()} > two\n"), tag=request.tag)
    second = await stage.builder.build(again, lambda line: None)
    assert list(await stage.images.nameless(APP)) == [first.image.id]
    assert await stage.images.nameless(AppId("another")) == []
    for _ in range(2):
        await stage.images.drop(first.image.id)
    assert await stage.images.find(first.image.id) is None
    assert await stage.images.find(second.image.id) is not None


async def test_a_failing_step_is_the_apps_fault(stage: Stage) -> None:
    with pytest.raises(BuildFailed, match="RUN false"):
        await stage.builder.build(stage.request("RUN false\n"), lambda line: None)


async def test_it_can_be_cancelled(stage: Stage) -> None:
    if isinstance(stage.builder, FakeBuilder):
        stage.builder.gate.clear()
    has_begun = asyncio.Event()

    def hear(line: str) -> None:
        if "RUN echo" in line:
            has_begun.set()

    task = asyncio.create_task(stage.builder.build(stage.request(f"RUN echo {token()}; sleep 1000\n"), hear))
    if not isinstance(stage.builder, FakeBuilder):
        await asyncio.wait_for(has_begun.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
