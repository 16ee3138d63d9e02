"""What the builder for buildpacks decides before it asks the engine for anything."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from agent.builders.buildpacks import BuildpacksBuilder, furniture
from agent.docker.engine import Engine
from agent.docker.workshops import DockerWorkshops
from agent.errors import UserError
from agent.ports.addresses import Bridges
from agent.ports.images import BuildFailed, BuildOptions, BuildRequest, ImageInfo
from agent.ports.registries import Login
from agent.ports.world import Say
from proto.names import AppId, DeployId
from tests.fakes.images import FakeImages
from tests.fakes.source import FakeTree

APP = AppId("abuildertest")
HOUSE = "house/builder:1"


class Asked(FakeImages):
    """Notes what is looked for; with `is_silent`, never answers."""

    def __init__(self, *, is_silent: bool = False) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.logins: dict[str, Login | None] = {}
        """Of what was fetched."""
        self.is_silent = is_silent

    async def find(self, reference: str) -> ImageInfo | None:
        self.asked.append(reference)
        if self.is_silent:
            await asyncio.Event().wait()
        return await super().find(reference)

    async def pull(self, reference: str, say: Say, *, login: Login | None = None) -> ImageInfo:
        self.logins[reference] = login
        return await super().pull(reference, say, login=login)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine.open(f"unix://{tmp_path}/none.sock", instance="t") as engine:
        yield engine


async def build(engine: Engine, images: Asked, files: Mapping[str, str], **options: object) -> None:
    workshops = DockerWorkshops(engine, bridges=Bridges())
    builder = BuildpacksBuilder(engine, images, workshops=workshops, trusted=["house/builder"])
    request = BuildRequest(
        app=APP,
        app_name="blog",
        deploy=DeployId("d1"),
        tag=images.tag_for(APP, DeployId("d1")),
        labels={},
        source=FakeTree("1" * 40, {name: text.encode() for name, text in files.items()}),
        options=BuildOptions(selected="pack", **options),  # type: ignore[arg-type]
    )
    await builder.build(request, lambda line: None)


PROJECT = {"index.html": "x", "project.toml": '[io.buildpacks]\nbuilder = "house/builder:2"\n'}


@pytest.mark.parametrize(
    ("files", "options", "image"),
    [
        ({"index.html": "x"}, {"usual_builder_image": "house/builder:3"}, "house/builder:3"),
        (PROJECT, {"usual_builder_image": "house/builder:3"}, "house/builder:2"),
        (PROJECT, {"builder_image": "house/builder:1"}, "house/builder:1"),
        ({"deploy/p.toml": PROJECT["project.toml"]}, {"project_toml": "deploy/p.toml"}, "house/builder:2"),
    ],
)
async def test_the_apps_own_setting_comes_before_its_descriptor_and_that_before_the_servers(
    engine: Engine, files: dict[str, str], options: dict[str, object], image: str
) -> None:
    images = Asked()
    with pytest.raises(UserError, match=f"There is no image {image}"):
        await build(engine, images, files, **options)
    assert images.asked == [image]


async def test_a_builder_that_is_not_trusted_is_not_even_looked_for(engine: Engine) -> None:
    images = Asked()
    with pytest.raises(UserError) as refused:
        await build(engine, images, {"index.html": "x"}, builder_image="stranger/builder:1")
    assert refused.value.code == "builder.untrusted"
    assert refused.value.hint.startswith("Trusted are: house/builder. Whoever runs the server can add it to")
    assert images.asked == []


async def test_builder_and_run_image_are_fetched_as_whom_their_registries_know(engine: Engine) -> None:
    images, run = Asked(), "run.example.com/house/run:1"
    login = Login(server="run.example.com", user="ada", password="x")
    house = Login(server="docker.io", user="bob", password="x")
    images.registry[HOUSE] = ImageInfo(
        id="sha256:1",
        labels={
            "io.buildpacks.builder.metadata": json.dumps({"stack": {"runImage": {"image": run}}}),
            "io.buildpacks.lifecycle.apis": json.dumps({"platform": {"supported": ["0.14"]}}),
        },
        env={"CNB_USER_ID": "1000", "CNB_GROUP_ID": "1000"},
    )
    with pytest.raises(UserError, match=f"There is no image {run}"):
        logins = {one.server: one for one in (login, house)}
        await build(engine, images, {"index.html": "x"}, builder_image=HOUSE, logins=logins)
    assert images.logins == {HOUSE: house, run: login}


async def test_an_image_that_is_no_builder_is_refused(engine: Engine) -> None:
    images = Asked()
    images.have(ImageInfo(id="sha256:1"), HOUSE)
    with pytest.raises(UserError, match="house/builder:1 is no builder of Cloud Native Buildpacks"):
        await build(engine, images, {"index.html": "x"}, builder_image=HOUSE)


async def test_a_descriptor_with_a_mistake_is_told_with_its_place(engine: Engine) -> None:
    with pytest.raises(UserError, match=r"web/project\.toml has both include and exclude"):
        text = '[io.buildpacks]\ninclude = ["a"]\nexclude = ["b"]\n'
        await build(engine, Asked(), {"web/project.toml": text}, build_folder="web")


async def test_a_build_ends_at_its_time_limit(engine: Engine) -> None:
    with pytest.raises(BuildFailed, match=r"The build took longer than the limit of 0\.1 s"):
        await build(engine, Asked(is_silent=True), {"index.html": "x"}, builder_image=HOUSE, timeout_seconds=0.1)


def test_what_is_put_into_a_container_belongs_to_the_builders_user_with_all_folders_above_it() -> None:
    data = furniture(["/cache"], {"/platform/env/A": b"1"}, owner=(1000, 1001))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    assert [(member.name, member.isdir()) for member in members] == [
        ("cache", True),
        ("platform", True),
        ("platform/env", True),
        ("platform/env/A", False),
    ]
    assert {(member.uid, member.gid) for member in members} == {(1000, 1001)}
