"""The disk budget: what goes, in which order, what never does, and what is refused where there is no room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.handlers.disk import DiskBudget
from agent.lifecycle.cleaning import Doorkeeper
from agent.ports.disk import CacheUse, ImageUse
from tests.fakes.core import Core, core
from tests.fakes.disks import GB, FakeDisks

FILES = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        yield c


async def released(c: Core, count: int) -> list[str]:
    """Have an app with so many releases; return their images, the oldest first."""
    app = await c.create()
    for number in range(count):
        await c.push(app, {"Dockerfile": f"FROM scratch\nEXPOSE {8000 + number}\n"}, commit=f"{number}" * 40)
        await c.settle()
    return [release.image for release in reversed(await c.database.read.releases.of_app(app.id))]


def unnamed(id: str, *, size: int = GB) -> ImageUse:
    return ImageUse(id=id, app="", own=size, shared=0)


async def test_while_the_budget_is_kept_nothing_goes_that_anybody_could_want(blog: Core) -> None:
    images = await released(blog, 3)
    blog.disks.use = CacheUse(steps=10 * GB)
    assert await DiskBudget(blog.cleaner()).look()
    assert blog.disks.use.steps == 10 * GB and set(images) == set(blog.images.by_id)
    removed = await blog.cleaner().clean()
    assert removed == [] and set(images) == set(blog.images.by_id)


async def test_images_go_first_and_the_cache_only_as_far_as_the_budget_demands(blog: Core) -> None:
    images = await released(blog, 4)
    blog.disks.unnamed = [unnamed("sha256:left"), unnamed("sha256:used"), unnamed(images[-1])]
    blog.disks.used = {"sha256:used"}
    blog.disks.use = CacheUse(steps=5 * GB, folders=5 * GB)
    blog.disks.free = 13 * GB
    cleaner = blog.cleaner(kept=2)
    planned = await cleaner.plan()
    assert [(one.kind, one.size) for one in planned if one.kind == "build-cache"] == [("build-cache", 5 * GB)]
    assert set(images) == set(blog.images.by_id), "a plan changes nothing"
    removed = await cleaner.clean()
    assert [one.kind for one in removed] == ["image", "image", "layers", "build-cache"]
    assert set(blog.images.by_id) == set(images[-2:])
    # What a kept release has stays, named or not, and so does what a container needs.
    assert [image.id for image in blog.disks.unnamed] == ["sha256:used", images[-1]]
    assert blog.disks.use == CacheUse(steps=0, folders=4 * GB), "folders of package managers go last"
    assert await cleaner.excess() == 0
    assert await cleaner.clean() == [], "a second round finds nothing"


async def test_the_cache_of_an_engine_that_others_use_is_left_alone_and_the_logs_pay(blog: Core) -> None:
    await released(blog, 1)
    (app,) = await blog.database.read.apps.all()
    await blog.logs.append(app.id, "r1", ["a", "b"])  # type: ignore[arg-type, list-item]
    blog.disks.use = CacheUse(steps=50 * GB)
    blog.disks.free = 10 * GB
    cleaner = blog.cleaner(prunes=False)
    assert [one.kind for one in await cleaner.clean()] == ["logs"]
    assert blog.disks.use.steps == 50 * GB
    assert not await DiskBudget(cleaner).look(), "told as not kept"
    freed = await cleaner.clean(all_cache=True)
    assert [one.size for one in freed if one.kind == "build-cache"] == [50 * GB], "but to somebody who asks for it"


async def test_all_that_is_ours_may_have_a_limit_too(blog: Core) -> None:
    await released(blog, 1)
    blog.disks.use = CacheUse(steps=GB)
    cleaner = blog.cleaner(max_bytes=GB + 7_000)
    assert await cleaner.ours() == GB + 3_000 + 2_000 + 1_000 + 4_000
    assert await cleaner.excess() == 3_000
    assert [(one.kind, one.size) for one in await cleaner.clean()][:1] == [("build-cache", 3_000)]
    # What went counts: the next round finds the budget kept, and prunes nothing.
    assert await cleaner.excess() == 0 and await DiskBudget(cleaner).look()
    assert blog.disks.use.steps == GB - 3_000


async def test_a_cache_that_is_not_ours_to_prune_does_not_count_as_ours(blog: Core) -> None:
    await released(blog, 1)
    blog.disks.use = CacheUse(steps=GB)
    cleaner = blog.cleaner(max_bytes=10_000, prunes=False)
    assert await cleaner.ours() == 10_000 and await DiskBudget(cleaner).look()
    assert blog.disks.use.steps == GB


async def test_layers_that_images_share_count_as_ours_and_once(blog: Core) -> None:
    (image,) = await released(blog, 1)
    blog.disks.unnamed = [
        ImageUse(id=image, app="", own=1_000, shared=50_000, tags=("x",)),
        ImageUse(id=image, app="", own=2_000, shared=50_000, tags=("y",)),
    ]
    assert await blog.cleaner().ours() == 10_000 + 3_000 + 50_000


async def test_a_build_without_room_is_refused_and_says_what_to_do(blog: Core) -> None:
    await released(blog, 1)
    (app,) = await blog.database.read.apps.all()
    blog.disks.free = GB // 2
    deploy = await blog.push(app, FILES, commit="e" * 40)
    await blog.settle()
    failed = await blog.deploy(deploy)
    assert failed.status == "failed" and failed.reason is not None
    assert "too little room on the disk for a build: 500.0 MB are free at /data" in failed.reason
    assert "disk:report" in failed.reason and "cleanup" in failed.reason
    assert blog.builder.builds == 1
    live = await blog.database.read.apps.get(app.id)
    assert live is not None and live.live_release == 1
    # A release that needs no build needs no room either.
    restart = await blog.accept(app, kind="restart")
    await blog.settle()
    assert (await blog.deploy(restart)).status == "live"


async def test_with_as_much_room_as_it_takes_work_begins_and_with_a_byte_less_it_does_not() -> None:
    disks = FakeDisks()
    door = Doorkeeper(disks, build_bytes=GB, push_bytes=GB // 10)
    for least, admit, what in ((GB, door.admit_build, "a build"), (GB // 10, door.admit_push, "a push")):
        disks.free = least
        await admit()
        disks.free = least - 1
        with pytest.raises(UserError, match=f"too little room on the disk for {what}"):
            await admit()


async def test_the_free_part_of_a_disk_is_kept_to_the_byte(blog: Core) -> None:
    cleaner = blog.cleaner()
    least = int(blog.disks.total * cleaner.budget.free_share)
    blog.disks.use = CacheUse(steps=GB)
    for missing in (0, 1):
        blog.disks.free = least - missing
        assert await cleaner.excess() == missing
        assert sum(one.size for one in await cleaner.clean()) == missing


async def test_a_push_needs_less_room_and_on_a_small_disk_little() -> None:
    disks = FakeDisks()
    door = Doorkeeper(disks, build_bytes=GB, push_bytes=GB // 10)
    disks.free = GB // 2
    await door.admit_push()
    disks.free = GB // 20
    with pytest.raises(UserError, match=r"for a push: 50\.0 MB are free"):
        await door.admit_push()
    disks.total = GB
    await door.admit_push()
