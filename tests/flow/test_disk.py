"""The data folder's disk is full: what cannot be stored is refused, what is there goes on, and space mends it all."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flow import apps
from tests.support.docker import token
from tests.support.private_engine import private_engine
from tests.support.rig import Rig, rig

pytestmark = pytest.mark.real

DISK_BYTES = 64 << 20
ENGINE_BYTES = 160 << 20
READ = (
    ("apps:list",),
    ("apps:report", "blog"),
    ("ps:report", "blog"),
    ("domains:report", "blog"),
    ("releases:info", "blog"),
    ("urls", "blog"),
    ("events",),
    ("run", "blog", "echo", "blog"),
)
CHANGE = (
    ("apps:create", "other"),
    ("config:import", "--no-restart", "blog"),
    ("domains:add", "blog", *(f"{number}.{'x' * 60}.example.com" for number in range(100))),
    ("git:set", "blog", "rev-env-var", "REV"),
    ("ps:scale", "blog", "web=2"),
    ("ps:restart", "blog"),
)


@pytest.fixture
async def small_boat(short_folder: Path) -> AsyncIterator[Rig]:
    """A Pushboat whose data folder is a small disk of its own."""
    data = short_folder / "boat" / "data"
    data.mkdir(parents=True)
    await root("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(data))
    try:
        async with rig(short_folder) as r:
            yield r
    finally:
        await root("umount", "--lazy", str(data))


async def root(*command: str) -> None:
    """Do what only root can do."""
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


def fill(boat: Rig) -> Path:
    """Leave no room on the disk; return the file that takes it."""
    filler = boat.data / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4_096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    assert os.statvfs(boat.data).f_bavail == 0
    return filler


async def test_a_full_disk_refuses_clearly_serves_on_and_recovers(small_boat: Rig) -> None:
    app = small_boat.checkout("blog", apps.page("one"))
    assert (await small_boat.git_push(app)).status == 0
    filler = await asyncio.to_thread(fill, small_boat)
    app.write({"index.html": "version two\n"})
    pushed = await small_boat.git_push(app)
    assert pushed.status != 0
    assert "too little room on the disk for a push" in pushed.err and "disk:report" in pushed.err
    refused = await small_boat.ssh("config:set", "blog", f"BIG={'x' * 100_000}")
    assert refused.status == 75 and "disk" in refused.err
    assert (await small_boat.http("blog.localhost")).text == "version one\n"
    for words in READ:
        assert "blog" in await small_boat.must(*words)
    for words in CHANGE:
        # What is small enough for a page that the database has already is stored even now.
        done = await small_boat.ssh(*words, stdin=b"A=1\n")
        assert done.status == 0 or ("disk" in done.err and done.err.startswith(" !     ")), (words, done)
    filler.unlink()
    assert (await small_boat.ssh("config:get", "blog", "BIG")).status == 1
    assert not list(small_boat.data.glob("repos/**/tmp_objdir-*"))
    assert (await small_boat.git_push(app)).status == 0
    assert (await small_boat.http("blog.localhost")).text == "version two\n"
    assert await small_boat.is_tidy("blog")


async def test_a_disk_that_fills_up_during_a_deploy_holds_it_until_there_is_space(small_boat: Rig) -> None:
    app = small_boat.checkout("blog", apps.page("one", more=f"RUN echo {token()}; sleep 1\n"))
    push = asyncio.create_task(small_boat.git_push(app))
    await small_boat.until_deploy("blog", "building")
    filler = await asyncio.to_thread(fill, small_boat)
    async with asyncio.timeout(30):
        while "disk.full" not in small_boat.log:
            await asyncio.sleep(0.05)
    filler.unlink()
    pushed = await push
    assert pushed.status == 0, pushed.err
    assert (await small_boat.http("blog.localhost")).text == "version one\n"
    assert await small_boat.is_tidy("blog")
    assert "Traceback" not in small_boat.log


@pytest.fixture
async def small_engine(short_folder: Path) -> AsyncIterator[Rig]:
    """A Pushboat whose engine has a small disk, a third of which has to be free for a build."""
    dock = short_folder / "e"
    dock.mkdir()
    await root("mount", "-t", "tmpfs", "-o", f"size={ENGINE_BYTES}", "tmpfs", str(dock))
    try:
        async with (
            private_engine(dock) as engine,
            rig(short_folder, engine={"socket": engine.socket}, disk={"build_bytes": ENGINE_BYTES // 3}) as r,
        ):
            yield r
    finally:
        await root("umount", "--lazy", str(dock))


async def test_an_engine_s_full_disk_loses_nothing_and_cleaning_up_frees_what_nothing_needs(
    small_engine: Rig, short_folder: Path
) -> None:
    boat = small_engine
    app = boat.checkout("blog", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    # Too little is left for a build: told before it begins.
    filler = short_folder / "e" / "filler"
    await asyncio.to_thread(filler.write_bytes, bytes(ENGINE_BYTES * 3 // 4))
    app.write(apps.page("two"))
    refused = await boat.git_push(app)
    assert refused.status == 1 and "too little room on the disk for a build" in refused.err
    await asyncio.to_thread(filler.unlink)
    # A step that fills the disk ends its own build.
    app.write(apps.page("three", more=f"RUN echo {token()}; dd if=/dev/zero of=/big bs=1M count=1000\n"))
    failed = await boat.git_push(app)
    assert failed.status == 1, failed.err
    assert (await boat.http("blog.localhost")).text == "version one\n"
    # One that leaves no room for the image that is to come of it.
    app.write(apps.page("full", more=f"RUN echo {token()}; dd if=/dev/zero of=/big bs=64k || true\n"))
    failed = await boat.git_push(app)
    assert failed.status == 1 and "ran out of disk space" in failed.err and "disk:report" in failed.err, failed.err
    assert (await boat.http("blog.localhost")).text == "version one\n"
    assert "live" in await boat.must("releases", "blog")
    await boat.must("cleanup", "--build-cache")
    # One that just fits goes live, and leaves too little for the next one.
    app.write(apps.page("four", more=f"RUN echo {token()}; dd if=/dev/urandom of=/big bs=1M count=110\n"))
    assert (await boat.git_push(app)).status == 0
    left = json.loads(await boat.must("disk:report", "--format", "json"))
    assert left["build_cache"]["steps"] > 0
    app.write(apps.page("five"))
    assert (await boat.git_push(app)).status == 1, "less than a third is free"
    assert "image" not in await boat.must("cleanup", "--dry-run"), "both releases are kept"
    cleaned = json.loads(await boat.must("cleanup", "--build-cache", "--format", "json"))
    assert sum(one["bytes"] for one in cleaned["removed"] if one["kind"] == "build-cache") > 0
    # All that a kept release needs is there.
    back = await boat.ssh("releases:rollback", "blog", "v1")
    assert back.status == 0, back.err
    assert (await boat.http("blog.localhost")).text == "version one\n"
    assert "Traceback" not in boat.log
