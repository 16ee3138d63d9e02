"""``git:from-archive`` and ``git:load-image``: what they deploy, what they answer, what they refuse."""

from __future__ import annotations

import io
import tarfile

import pytest

from agent.lifecycle.old_images import STRAY_SECONDS
from agent.ports.images import ImageInfo
from proto.names import AppId, DeployId
from proto.wire import Exit
from tests.commands.desk import DOCKERFILE, Desk
from tests.fakes.world import FakeClock


def archive(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


APP = archive(DOCKERFILE)


async def test_an_archive_on_standard_input_goes_live(desk: Desk) -> None:
    app = await desk.core.create("blog")
    answer = await desk.meanwhile("git:from-archive blog", APP)
    assert answer.status == 0, answer.err
    assert "-----> Reading the archive from standard input" in answer.out
    assert await desk.database.read.properties.get(app.id, "git.deploy-branch") == "main"
    assert desk.core.repos.heads[app.id] == "main"
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and newest.status == "live" and newest.why == "archive from standard input"
    assert newest.commit_id == await desk.core.repos.tip(app.id, "main")


async def test_an_archive_at_an_address_goes_live_and_its_query_is_told_nobody(desk: Desk) -> None:
    app = await desk.core.create("blog")
    desk.core.downloads.pages["https://example.com/a.tar?token=hunter2"] = APP
    answer = await desk.meanwhile("git:from-archive blog https://example.com/a.tar?token=hunter2")
    assert answer.status == 0, answer.err
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and newest.why == "archive from https://example.com/a.tar"
    assert "hunter2" not in answer.out + answer.err


async def test_an_archive_goes_onto_the_deploy_branch(desk: Desk) -> None:
    app = await desk.core.create("blog")
    assert (await desk.give("git:set blog deploy-branch production")).status == 0
    assert (await desk.meanwhile("git:from-archive blog", APP)).status == 0
    assert await desk.core.repos.branches(app.id) == ["production"]


async def test_the_same_archive_again_says_that_it_is_live(desk: Desk) -> None:
    app = await desk.core.create("blog")
    assert (await desk.meanwhile("git:from-archive blog", APP)).status == 0
    again = await desk.meanwhile("git:from-archive blog", APP)
    assert again.status == 0
    assert "No changes detected: blog runs just what the archive holds" in again.out and "ps:rebuild blog" in again.out
    told = await desk.meanwhile("git:from-archive blog --format json", APP)
    assert told.status == 0 and told.json() == {"app": "blog", "changed": False}
    assert len(await desk.database.read.deploys.of_app(app.id)) == 1
    assert (await desk.meanwhile("git:from-archive blog --force", APP)).status == 0
    assert len(await desk.database.read.deploys.of_app(app.id)) == 2


async def test_the_same_archive_is_deployed_again_after_a_failure_and_after_a_rollback(desk: Desk) -> None:
    app = await desk.core.create("blog")
    broken = archive({"Dockerfile": "RUN false"})
    assert (await desk.meanwhile("git:from-archive blog", APP)).status == 0
    for _ in range(2):
        assert (await desk.meanwhile("git:from-archive blog", broken)).status == Exit.FAILED
    other = archive({**DOCKERFILE, "more": "1"})
    assert (await desk.meanwhile("git:from-archive blog", other)).status == 0
    assert (await desk.meanwhile("releases:rollback blog v1")).status == 0
    assert (await desk.meanwhile("git:from-archive blog", other)).status == 0
    assert [deploy.status for deploy in await desk.database.read.deploys.of_app(app.id)] == [
        "live",
        "live",
        "live",
        "failed",
        "failed",
        "live",
    ]


async def test_what_was_committed_and_not_recorded_is_deployed_by_asking_again(desk: Desk) -> None:
    app = await desk.core.create("blog")
    assert (await desk.meanwhile("git:from-archive blog", APP)).status == 0
    other = archive({**DOCKERFILE, "more": "1"})
    # As a crash between git and the database leaves it.
    desk.core.repos.put(app.id, "e" * 40, {**DOCKERFILE, "more": "1"})
    assert (await desk.meanwhile("git:from-archive blog", other)).status == 0
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and newest.commit_id == "e" * 40 and newest.status == "live"


async def test_a_terminal_is_no_archive(desk: Desk) -> None:
    await desk.core.create("blog")
    answer = await desk.give("git:from-archive blog", is_tty=True)
    assert answer.status == Exit.FAILED and "git:from-archive blog < app.tar.gz" in answer.err


async def test_words_that_make_no_sense_are_refused(desk: Desk) -> None:
    await desk.core.create("blog")
    assert (await desk.give("git:from-archive blog --archive-type rar", APP)).status != 0
    assert (await desk.give("git:from-archive none", APP)).status == Exit.NO_SUCH_APP
    gone = await desk.give("git:from-archive blog https://example.com/none.zip")
    assert gone.status == Exit.FAILED and "cannot be fetched" in gone.err


async def test_scripts_get_the_outcome(desk: Desk) -> None:
    await desk.core.create("blog")
    answer = await desk.meanwhile("git:from-archive blog --format json", APP)
    assert answer.status == 0
    assert answer.json()["deploy"]["status"] == "live"  # type: ignore[index]


async def test_a_loaded_image_goes_live_under_the_deploys_own_tag(desk: Desk) -> None:
    app = await desk.core.create("blog")
    answer = await desk.meanwhile("git:load-image blog shop:1.2", b"shop:1.2")
    assert answer.status == 0, answer.err
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest and newest.status == "live" and newest.why == "Loaded shop:1.2"
    assert newest.image == desk.core.images.tags[desk.core.images.tag_for(app.id, newest.id)]


async def test_an_image_that_is_loaded_once_more_says_that_it_is_live_and_leaves_no_name(desk: Desk) -> None:
    app = await desk.core.create("blog")
    assert (await desk.meanwhile("git:load-image blog shop:1.2", b"shop:1.2")).status == 0
    tags = dict(desk.core.images.tags)
    same = await desk.meanwhile("git:load-image blog shop:1.2", b"shop:1.2")
    assert same.status == 0 and "No changes detected: blog runs shop:1.2 already" in same.out
    assert "git:load-image blog shop:1.2 --force < image.tar" in same.out
    assert desk.core.images.tags == tags
    assert (await desk.meanwhile("git:load-image blog shop:1.2 --force", b"shop:1.2")).status == 0
    assert (await desk.meanwhile("git:load-image blog shop:1.2", b"shop:1.2 anew")).status == 0
    assert len(await desk.database.read.deploys.of_app(app.id)) == 3


async def test_an_archive_without_that_image_deploys_nothing(desk: Desk) -> None:
    app = await desk.core.create("blog")
    for line, stdin in (("shop:1.2", b"else"), ("'-x'", b"-x"), ("Shop/..", b"")):
        answer = await desk.give(f"git:load-image blog {line}", stdin)
        assert answer.status != 0 and "Traceback" not in answer.err
    assert (await desk.give("git:load-image blog shop:1", is_tty=True)).status == Exit.FAILED
    assert await desk.database.read.deploys.of_app(app.id) == []
    assert desk.core.images.tags == {}


async def test_an_image_that_was_loaded_for_no_deploy_is_collected_in_time(desk: Desk) -> None:
    app, _ = await desk.deployed()
    images = desk.core.images
    stray = images.tag_for(app.id, DeployId("dstray"))
    await images.keep(next(iter(images.by_id)), tag=stray)
    images.have(ImageInfo(id="sha256:stray"), stray)
    assert (await desk.meanwhile("git:from-archive blog", archive({**DOCKERFILE, "more": "1"}))).status == 0
    assert stray in images.tags
    assert isinstance(desk.core.clock, FakeClock)
    desk.core.clock.advance(STRAY_SECONDS)
    assert (await desk.meanwhile("git:from-archive blog", archive({**DOCKERFILE, "more": "2"}))).status == 0
    assert stray not in images.tags


async def test_a_name_that_an_agent_left_that_died_over_an_unchanged_image_is_collected_in_time(desk: Desk) -> None:
    app = await desk.core.create("blog")
    assert (await desk.meanwhile("git:load-image blog shop:1.2", b"shop:1.2")).status == 0
    images, tags = desk.core.images, dict(desk.core.images.tags)
    ((mine, image),) = tags.items()
    # As a death between loading the image and finding that it is live leaves it.
    stray = images.tag_for(app.id, DeployId("dstray"))
    await images.keep(image, tag=stray)
    assert isinstance(desk.core.clock, FakeClock)
    for kept in (True, False):
        assert (await desk.meanwhile("ps:restart blog")).status == 0
        assert (stray in images.tags) == kept
        desk.core.clock.advance(STRAY_SECONDS)
    assert images.tags[mine] == image, "the deploy's own name stays"


@pytest.mark.parametrize(
    ("line", "stdin", "verb"),
    [("git:from-image blog shop:1.2", b"", "Deployed"), ("git:load-image blog shop:1.2", b"shop:1.2", "Loaded")],
)
async def test_for_whom_an_image_is_deployed_is_noted_beside_who_did_it(
    desk: Desk, line: str, stdin: bytes, verb: str
) -> None:
    await desk.core.create("blog")
    desk.core.images.have(ImageInfo(id="sha256:shop"), "shop:1.2")
    assert (await desk.meanwhile(f"{line} 'Ann A.' ann@example.com", stdin)).status == 0
    release = (await desk.give("releases:info blog --format json")).json()
    assert isinstance(release, dict)
    assert release["why"] == f"{verb} shop:1.2 for Ann A. <ann@example.com>"
    assert release["by"] == (await desk.database.read.deploys.of_app(await id_of(desk)))[0].by != "Ann A."
    assert (await desk.meanwhile(f"{line} Bob --force", stdin)).status == 0
    assert (await desk.database.read.deploys.of_app(await id_of(desk)))[0].why == f"{verb} shop:1.2 for Bob"


async def id_of(desk: Desk) -> AppId:
    app = await desk.database.read.apps.by_name("blog")
    assert app is not None
    return app.id


@pytest.mark.parametrize("command", ["git:from-image", "git:load-image"])
async def test_a_folder_is_never_added_to_an_image_and_the_way_out_is_told(desk: Desk, command: str) -> None:
    app = await desk.core.create("blog")
    answer = await desk.give(f"{command} --build-dir src blog shop:1.2", b"shop:1.2")
    assert answer.status == Exit.FAILED
    assert "no folder can be added" in answer.err and "FROM shop:1.2" in answer.err
    assert await desk.database.read.deploys.of_app(app.id) == [] and desk.core.images.tags == {}
