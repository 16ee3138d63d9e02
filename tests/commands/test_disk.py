from __future__ import annotations

from agent.ports.disk import CacheUse, ImageUse
from agent.ports.scheduler import LeftOver
from proto.wire import Exit
from tests.commands.desk import Desk
from tests.fakes.disks import GB
from tests.fakes.session import FakeSession


async def test_the_report_tells_what_takes_how_much_by_app_and_kind(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    await desk.give("apps:create other")
    desk.core.disks.use = CacheUse(steps=GB, folders=2 * GB)
    desk.core.disks.free = 15 * GB
    desk.core.disks.unnamed = [ImageUse(id="sha256:1", app=app.id, own=5_000_000, shared=7_000_000)]
    desk.core.disks.kept = {app.id: 4_000_000, "agone": GB}
    told = await desk.give("disk:report")
    assert told.out.splitlines()[:4] == [
        "=====> /data: 15.0 GB of 100.0 GB free (15%)",
        "       5.0 GB more should be: see cleanup",
        "app    images   shared   buildpacks  repository  logs    transcripts  in all",
        "blog   5.0 MB   7.0 MB   4.0 MB      3.0 kB      2.0 kB  1.0 kB       9.0 MB",
    ]
    assert "Build cache of Docker, steps:    1.0 GB" in told.out and "folders:  2.0 GB" in told.out
    assert (await desk.give("disk:report blog --format json")).json() == {
        "disks": [{"path": "/data", "total": 100 * GB, "free": 15 * GB}],
        "apps": [
            {
                "app": "blog",
                "images": 5_000_000,
                "images_shared": 7_000_000,
                "buildpacks": 4_000_000,
                "repository": 3_000,
                "logs": 2_000,
                "transcripts": 1_000,
                "total": 9_006_000,
            }
        ],
    }
    assert (await desk.give("disk:report nobody")).status == Exit.NO_SUCH_APP


async def test_what_counts_against_a_limit_is_told_where_there_is_one(desk: Desk) -> None:
    await desk.deployed("blog")
    desk.core.disks.use = CacheUse(steps=GB)
    limited = Desk(desk.core, cleaner=desk.core.cleaner(max_bytes=5 * GB))
    assert "=====> Counted for max_bytes: 1.0 GB of 5.0 GB" in (await limited.give("disk:report")).out
    told = (await limited.give("disk:report --format json")).json()
    assert isinstance(told, dict) and told["budget"] == {"max_bytes": 5 * GB, "counted_bytes": GB + 10_000}
    assert "max_bytes" not in (await desk.give("disk:report")).out


async def test_a_dry_clean_up_says_what_a_real_one_does(desk: Desk) -> None:
    assert "There is nothing to remove." in (await desk.give("cleanup")).out
    desk.core.disks.unnamed = [ImageUse(id="sha256:left", app="", own=GB, shared=0)]
    desk.core.disks.use = CacheUse(steps=GB)
    dry = await desk.give("cleanup --dry-run")
    assert "layers          1.0 GB  sha256:left" in dry.out and "Nothing was removed yet." in dry.out
    assert desk.core.disks.unnamed
    done = await desk.give("cleanup --format json")
    layers = {"kind": "layers", "what": "sha256:left", "bytes": GB}
    assert done.json() == {"removed": [layers], "dry_run": False, "over_budget_bytes": 0}
    assert not desk.core.disks.unnamed and desk.core.disks.use.steps == GB
    assert "build-cache" in (await desk.give("cleanup --build-cache")).out
    assert desk.core.disks.use.steps == 0


async def test_a_dry_clean_up_tells_all_that_goes_with_its_size_and_in_that_order(desk: Desk) -> None:
    core = desk.core
    app, _ = await desk.deployed("blog")
    shop = await core.create("shop")
    await core.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8001\n"}, commit="d" * 40)
    await core.settle()
    limited = Desk(core, cleaner=core.cleaner(kept=1))
    core.disks.unnamed = [ImageUse(id="sha256:left", app="", own=3_000_000, shared=0)]
    left = [LeftOver(name=f"{name}.run.x1", size=4_000_000) for name in ("blog", "shop")]
    core.scheduler.one_offs_left = [(app.id, left[0]), (shop.id, left[1])]
    core.repos.left_by_pushes = {app.id: 5_000_000, shop.id: 6_000_000}
    await core.logs.append(app.id, "r1", ["a", "b"])  # type: ignore[arg-type, list-item]
    core.disks.free, core.disks.use = 15 * GB, CacheUse(steps=GB)
    dry = await limited.give("cleanup --dry-run")
    gone = core.images.tag_for(app.id, (await desk.database.read.deploys.of_app(app.id))[-1].id)
    assert dry.out.splitlines() == [
        f"       image          0 bytes  {gone}",
        "       layers          3.0 MB  sha256:left",
        "       build-cache     1.0 GB  what was not used for longest",
        "       one-off         4.0 MB  blog.run.x1",
        "       one-off         4.0 MB  shop.run.x1",
        "       repository      5.0 MB  blog",
        "       repository      6.0 MB  shop",
        "       logs           2 bytes  the oldest lines",
        "       Nothing was removed yet.",
    ]
    assert len(core.scheduler.one_offs_left) == 2 and len(core.repos.left_by_pushes) == 2, "nothing was"
    planned = (await limited.give("cleanup --dry-run --format json")).json()["removed"]  # type: ignore[index]
    of_app = (await limited.give("cleanup blog --dry-run --format json")).json()["removed"]  # type: ignore[index]
    assert [one["what"] for one in of_app] == [gone, "blog.run.x1", "blog"]
    assert (await limited.give("cleanup --format json")).json()["removed"] == planned  # type: ignore[index]
    assert core.scheduler.one_offs_left == [] and core.repos.left_by_pushes == {}
    assert (await limited.give("cleanup shop --format json")).json()["removed"] == []  # type: ignore[index]


async def test_a_clean_up_of_an_app_leaves_what_is_of_others_and_of_everybody(desk: Desk) -> None:
    blog, _ = await desk.deployed("blog")
    shop, _ = await desk.deployed("shop")
    of_blog = ImageUse(id="sha256:blog", app=blog.id, own=GB, shared=0)
    of_shop = ImageUse(id="sha256:shop", app=shop.id, own=GB, shared=0)
    desk.core.disks.unnamed = [of_blog, of_shop]
    desk.core.disks.free, desk.core.disks.use = GB, CacheUse(steps=GB)
    dry = await desk.give("cleanup blog --dry-run")
    assert "sha256:blog" in dry.out and "sha256:shop" not in dry.out and "build-cache" not in dry.out
    done = await desk.give("cleanup blog --format json")
    assert [one["what"] for one in done.json()["removed"]] == ["sha256:blog"]
    assert desk.core.disks.unnamed == [of_shop] and desk.core.disks.use.steps == GB
    refused = await desk.give("cleanup blog --build-cache")
    assert refused.status == Exit.FAILED and "repo:purge-cache blog" in refused.err
    assert (await desk.give("cleanup nobody")).status == Exit.NO_SUCH_APP


async def test_a_clean_up_that_does_not_suffice_says_so(desk: Desk) -> None:
    desk.core.disks.free = GB
    desk.core.disks.use = CacheUse(steps=GB)
    assert "The disk is still 18.0 GB over its budget: see disk:report" in (await desk.give("cleanup")).out


async def test_where_there_is_no_room_sources_are_refused_before_anything_is_read_or_fetched(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    url = "https://git.example.com/blog.git"
    desk.core.remotes.have(url, "1" * 40, {"Dockerfile": "FROM scratch\n"})
    tags, commits = dict(desk.core.images.tags), dict(desk.core.repos.commits)
    # Enough for a push; a loaded image needs what a build needs.
    desk.core.disks.free = GB // 2
    for line, what in (
        ("git:load-image blog shop:1.2", "an image"),
        ("git:from-archive blog", "an archive"),
        ("git:from-archive blog https://example.com/app.tar", "an archive"),
        (f"git:sync --build blog {url}", "a sync"),
    ):
        session = FakeSession(b"shop:1.2")
        answer = await desk.give_as(f"{line} --format json", session)
        assert answer.status != 0 and '"code":"disk.no-room"' in answer.err, answer
        assert f"too little room on the disk for {what}: " in answer.err and "cleanup" in answer.err
        assert await session.read() == b"shop:1.2"
        desk.core.disks.free = GB // 20
    assert desk.core.remotes.accesses == [] and desk.core.downloads.asked == []
    assert desk.core.images.tags == tags and desk.core.repos.commits == commits
    assert len(await desk.database.read.deploys.of_app(app.id)) == 1
