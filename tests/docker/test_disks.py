"""What the engine and the file systems say of the disk, read by the real thing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.docker import labels
from agent.docker.disks import MachineDisks
from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from proto.names import AppId, DeployId
from tests.support.docker import Corner, token

APP = AppId("ablog")


@pytest.mark.real
async def test_an_image_of_ours_goes_once_nothing_names_or_needs_it(docker: Corner, tmp_path: Path) -> None:
    disks, images = MachineDisks(docker.engine, tmp_path), DockerImages(docker.engine)
    mark = f"LABEL {labels.INSTANCE}={docker.engine.instance} {labels.APP_ID}={APP} token={token('t')}"
    image = await docker.import_image(mark)
    (use,) = [use for use in await disks.images() if use.id == image]
    assert (use.app, len(use.tags)) == (APP, 1) and use.own + use.shared > 1_000_000
    tag = images.tag_for(APP, DeployId(token("d")))
    await images.keep(image, tag=tag)
    assert not await disks.remove_image(image), "two names: the engine asks which"
    for name in (*use.tags, tag):
        await images.untag(name)
    assert image not in {use.id for use in await disks.images()}
    assert await disks.remove_image(image), "gone is fine"


@pytest.mark.real
async def test_the_disks_are_those_of_the_data_and_of_the_engine(docker: Corner, tmp_path: Path) -> None:
    rooms = await MachineDisks(docker.engine, tmp_path).rooms()
    assert [room.has_images for room in rooms].count(True) == 1
    assert all(0 < room.free <= room.total for room in rooms)
    assert (await MachineDisks(docker.engine, tmp_path).cache()).steps >= 0


async def test_without_an_engine_the_data_folder_is_still_looked_at(tmp_path: Path) -> None:
    async with Engine.open(f"unix://{tmp_path}/none.sock", instance="t") as engine:
        (room,) = await MachineDisks(engine, tmp_path).rooms()
    found = os.statvfs(tmp_path)
    assert (room.path, room.total, room.has_images) == (str(tmp_path), found.f_blocks * found.f_frsize, False)


async def test_folders_are_measured_as_they_lie_on_the_disk(tmp_path: Path) -> None:
    for name, size in (("repos/ablog/objects", 100_000), ("logs/ablog", 10_000), ("repos/aother", 50_000)):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"x" * size)
    (tmp_path / "logs/ablog/link").symlink_to(tmp_path / "repos")
    (tmp_path / "pushboat.db").write_bytes(b"x" * 5_000)
    async with Engine.open(f"unix://{tmp_path}/none.sock", instance="t") as engine:
        disks = MachineDisks(engine, tmp_path)
        folders = await disks.folders(APP)
        assert 100_000 <= folders["repository"] < 130_000 and 10_000 <= folders["logs"] < 30_000
        assert folders["transcripts"] == 0 and 5_000 <= await disks.database() < 10_000
