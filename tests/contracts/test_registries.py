"""What every way to registries promises, asked of the fake and of the engine with a real registry alike."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from agent.docker.registries import DockerRegistries
from agent.errors import UserError
from agent.ports.images import Images
from agent.ports.registries import Login, Registries
from tests.fakes.images import FakeImages
from tests.fakes.registries import FakeRegistries
from tests.support.base_image import BASE_IMAGE, ensure_base_image
from tests.support.docker import token
from tests.support.registry import known_users, registry

USER, PASSWORD = "ada", "right"


class Stage(msgspec.Struct, frozen=True):
    """A way to registries, one that knows Ada, and an image to push there."""

    registries: Registries
    images: Images
    server: str
    image: str

    def login(self, *, password: str = PASSWORD, server: str = "") -> Login:
        return Login(server=server or self.server, user=USER, password=password)


def fake() -> Stage:
    registries = FakeRegistries()
    registries.known.add(("registry.example.com", USER, PASSWORD))
    return Stage(registries, FakeImages(), "registry.example.com", "sha256:1")


@asynccontextmanager
async def real() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        folder = Path(name)
        async with (
            Engine.open(instance=token("t")) as engine,
            registry(folder, auth=known_users(folder, {USER: PASSWORD})) as private,
        ):
            await ensure_base_image(engine)
            images = DockerImages(engine)
            base = await images.find(BASE_IMAGE)
            assert base
            yield Stage(DockerRegistries(engine), images, private.address, base.id)


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.real)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield fake()
        return
    async with real() as found:
        yield found


async def test_it_knows_who_is_let_in(stage: Stage) -> None:
    await stage.registries.check(stage.login())
    with pytest.raises(UserError) as refused:
        await stage.registries.check(stage.login(password="wrong"))
    assert refused.value.code == "registry.refused" and "wrong" not in refused.value.message


async def test_what_is_pushed_is_no_name_here_and_may_be_pushed_again(stage: Stage) -> None:
    names = (f"{stage.server}/team/blog:1", f"{stage.server}/team/blog:latest")
    for _ in range(2):
        await stage.registries.push(stage.image, names, login=stage.login(), say=lambda line: None)
        for name in names:
            assert await stage.images.find(name) is None
    await stage.registries.forget(names)


async def test_a_name_means_what_was_pushed_last_and_strangers_are_told_nothing(stage: Stage) -> None:
    name = f"{stage.server}/team/blog:2"
    assert await stage.registries.digest(name, login=stage.login()) == ""
    await stage.registries.push(stage.image, (name,), login=stage.login(), say=lambda line: None)
    found = await stage.registries.digest(name, login=stage.login())
    assert found.startswith("sha256:") and await stage.registries.digest(name, login=stage.login()) == found
    for login in (None, stage.login(password="wrong")):
        assert await stage.registries.digest(name, login=login) == ""
    assert await stage.images.find(name) is None


async def test_who_is_not_let_in_pushes_nothing(stage: Stage) -> None:
    name = f"{stage.server}/team/blog:1"
    for login in (None, stage.login(password="wrong")):
        with pytest.raises(UserError) as refused:
            await stage.registries.push(stage.image, (name,), login=login, say=lambda line: None)
        assert refused.value.code == "registry.push-failed" and name in refused.value.message
    assert await stage.images.find(name) is None
