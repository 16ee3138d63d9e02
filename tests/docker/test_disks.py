"""What the engine and the file systems say of the disk, read by the real thing."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from pathlib import Path

import msgspec
import pytest

from agent.docker import labels
from agent.docker.disks import MachineDisks
from agent.docker.engine import Engine
from agent.docker.images import DockerImages
from proto.names import AppId, DeployId
from scripts.house.engine import Engine as ByHand
from tests.support.docker import Corner, token
from tests.support.private_engine import short_lived_engine
from tests.support.rig import BASE
from tests.support.scripted_engine import always, http, scripted

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


async def test_what_buildpacks_keep_is_told_by_app_and_nobody_elses_volumes_are_counted(tmp_path: Path) -> None:
    def volume(size: int, *, instance: str = "i23456789abc", kind: str = labels.KEPT, app: str = APP) -> object:
        marks = {labels.INSTANCE: instance, labels.KIND: kind, labels.APP_ID: app}
        return {"Labels": marks, "UsageData": {"Size": size, "RefCount": 0}}

    use = {
        "Volumes": [
            volume(100),
            volume(20),
            volume(-1),
            volume(3, app="ashop"),
            volume(5_000, instance="iother"),
            volume(6_000, kind="other"),
            {"Labels": None, "UsageData": {"Size": 7_000, "RefCount": 1}},
        ]
    }
    async with scripted(tmp_path, always(http(200, msgspec.json.encode(use)))) as (engine, _):
        assert await MachineDisks(engine, tmp_path).volumes() == {APP: 120, "ashop": 3}


@pytest.mark.real
async def test_the_cache_goes_by_age_as_far_as_is_asked_and_package_managers_folders_last(tmp_path: Path) -> None:
    async with short_lived_engine() as private, Engine.open(private.socket, instance="t") as engine:
        by_hand = ByHand(private.path)

        def build(name: str, *steps: str) -> None:
            body = io.BytesIO()
            text = "\n".join((f"FROM {BASE}", *steps)).encode()
            with tarfile.open(fileobj=body, mode="w") as tar:
                entry = tarfile.TarInfo("Dockerfile")
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text))
            by_hand.call("POST", "/build", body.getvalue(), version=2, t=f"test/{name}:1")

        by_hand.make_base(BASE)
        disks = MachineDisks(engine, tmp_path)
        for name in ("old", "new"):
            step = f"RUN dd if=/dev/urandom of=/{name} bs=1M count=8"
            keep = f"RUN --mount=type=cache,id={name},target=/c dd if=/dev/urandom of=/c/{name} bs=1M count=2"
            await asyncio.to_thread(build, name, step, keep)
        for name in ("old", "new"):
            await asyncio.to_thread(by_hand.call, "DELETE", f"/images/test/{name}:1")
        before = await disks.cache()
        assert before.steps >= 16_000_000 and before.folders >= 4_000_000
        freed = await disks.prune_cache(bytes=4_000_000)
        after = await disks.cache()
        assert 4_000_000 <= freed < before.steps
        assert after.folders == before.folders and 8_000_000 <= after.steps < before.steps
        assert await disks.prune_cache() >= after.folders
        assert (await disks.cache()).folders == 0
