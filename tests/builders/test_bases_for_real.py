"""Official images, fetched by the real engine from a real registry; and one that cannot be reached."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent.builders.bases import Bases, Need
from agent.builders.python_manifests import PYTHON
from agent.builders.versions import parse_range
from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from agent.errors import UserError
from tests.support.base_image import ensure_base_image
from tests.support.docker import token
from tests.support.registry import registry

pytestmark = pytest.mark.real


async def docker(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "docker", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()


def need(version: str, *, official: str) -> Need:
    return Need(runtime=msgspec.structs.replace(PYTHON, official=official), wanted=parse_range(version), said_in="x")


async def test_an_official_image_is_fetched_and_what_its_registry_has_not_is_named() -> None:
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        async with registry(Path(folder)) as shelf, Engine.open(instance=token("t")) as engine:
            official = f"{shelf.address}/python:{{}}-slim-bookworm"
            image = official.format("3.12")
            await docker("tag", await ensure_base_image(engine), image)
            await docker("push", "--quiet", image)
            await docker("rmi", image)
            bases = Bases(DockerImages(engine))
            try:
                base = await bases.find(
                    need("~=3.12.0", official=official), chosen="", app="blog", say=lambda line: None
                )
                assert (base.image, base.packages) == (image, None)
                with pytest.raises(UserError) as refused:
                    await bases.find(need("3.11", official=official), chosen="", app="blog", say=lambda line: None)
            finally:
                await docker("rmi", image)
    assert refused.value.code == "base.none"
    assert "there is nothing to build that on" in refused.value.message
    assert official.format("3.11") in refused.value.message and "cannot be reached" not in refused.value.message


async def test_a_registry_that_cannot_be_reached_is_told_from_one_without_the_image() -> None:
    official = "127.0.0.1:9/python:{}-slim-bookworm"
    async with Engine.open(instance=token("t")) as engine:
        with pytest.raises(UserError) as refused:
            # A version that no Debian has, whatever images of it the machine holds.
            await Bases(DockerImages(engine)).find(
                need("3.12", official=official), chosen="", app="blog", say=lambda line: None
            )
    assert (
        "127.0.0.1:9/python:3.12-slim-bookworm cannot be had, as its registry cannot be reached"
        in refused.value.message
    )
