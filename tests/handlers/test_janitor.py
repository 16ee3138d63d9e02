"""What is collected, and what must not be, while deploys are under way. Each was found by a random walk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agent.errors import Unavailable, UserError
from agent.handlers.janitor import KEPT_TRANSCRIPTS, Janitor
from agent.lifecycle import apps, deploys
from agent.ports.images import ImageInfo
from agent.state.apps import App
from proto.names import AppId
from tests.fakes.core import Core, core
from tests.fakes.images import APP_ID

ONE = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}
TWO = {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        yield c


def janitor_of(c: Core, *, kept_releases: int = 5) -> Janitor:
    return Janitor(
        c.database,
        scheduler=c.scheduler,
        images=c.images,
        workshops=c.workshops,
        repos=c.repos,
        logs=c.logs,
        transcripts=c.transcripts,
        clock=c.clock,
        kept_releases=kept_releases,
    )


async def image_of(c: Core, app: App, version: int) -> str:
    release = await c.database.read.releases.get(app.id, version)
    assert release is not None
    return release.image


async def test_an_image_taken_over_from_a_superseded_deploy_is_kept(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    blog.proxy.is_available = False
    await blog.push(app, TWO, commit="d" * 40)
    blog.scheduler.is_down = True
    await blog.settle(within=2)
    taken = await image_of(blog, app, 2)
    await blog.accept(app, kind="config")
    await janitor_of(blog).clean(app.id)
    assert taken in blog.images.by_id


async def test_an_image_that_is_built_while_images_are_listed_is_kept(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    listed = blog.images.ours

    async def ours() -> Sequence[ImageInfo]:
        blog.images.ours = listed  # type: ignore[method-assign]
        await blog.push(app, TWO, commit="d" * 40)
        await blog.settle()
        return await listed()

    blog.images.ours = ours  # type: ignore[method-assign]
    await janitor_of(blog).clean(app.id)
    assert await image_of(blog, app, 2) in blog.images.by_id


async def test_a_rollback_to_an_image_that_is_being_removed_is_refused(blog: Core) -> None:
    app = await blog.create()
    for number in range(3):
        await blog.push(app, {"Dockerfile": f"FROM scratch\nEXPOSE {8000 + number}\n"}, commit=f"{number}" * 40)
        await blog.settle()
    untag, refused = blog.images.untag, []

    async def untagging(tag: str) -> None:
        for version in (1, 2):
            if await image_of(blog, app, version) == blog.images.tags[tag]:
                with pytest.raises(UserError) as caught:
                    await blog.accept(app, kind="rollback", from_release=version)
                refused.append(caught.value.code)
        await untag(tag)

    blog.images.untag = untagging  # type: ignore[method-assign]
    await janitor_of(blog, kept_releases=1).clean(app.id)
    assert refused == ["release.image-gone"] * 2
    assert list(blog.images.by_id) == [await image_of(blog, app, 3)]


PULLED = "registry.example.com/blog:1"


async def test_the_name_that_a_pull_gave_goes_with_a_deploy_that_ends_before_it_took_it_away(blog: Core) -> None:
    app = await blog.create()
    blog.images.registry[PULLED] = ImageInfo(id="sha256:pulled", ports=(8080,))

    async def keep(image: str, *, tag: str, instead_of: str = "") -> None:
        raise Unavailable("docker.unavailable", "Docker does not answer.")

    blog.images.keep = keep  # type: ignore[method-assign]
    deploy = await blog.accept(app, kind="image", image=PULLED)
    await blog.settle(within=1)
    assert PULLED in blog.images.tags
    async with blog.database.transaction() as tx:
        assert await deploys.cancel(tx, deploy=await blog.deploy(deploy), by="ada")
    await blog.settle()
    assert blog.images.tags == {} and blog.images.by_id == {}
    assert await blog.database.read.pulls.of_app(app.id) == {}


async def test_a_name_that_was_there_before_stays_through_a_deploy_and_its_end(blog: Core) -> None:
    app = await blog.create()
    blog.images.have(ImageInfo(id="sha256:theirs", ports=(8080,)), "shop:1.2")
    await blog.accept(app, kind="image", image="shop:1.2")
    await blog.settle()
    await blog.push(app, ONE)
    await blog.settle()
    await janitor_of(blog, kept_releases=1).clean(app.id)
    assert [tag for tag, image in blog.images.tags.items() if image == "sha256:theirs"] == ["shop:1.2"]


async def test_an_image_without_a_name_is_deployed_by_its_id_and_outlives_its_last_release(blog: Core) -> None:
    app = await blog.create()
    blog.images.have(ImageInfo(id="sha256:nameless", ports=(8080,)))
    deploy = await blog.accept(app, kind="image", image="sha256:nameless")
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert any("It has no name" in line for line in blog.transcripts.lines[deploy.id])
    await blog.push(app, ONE)
    await blog.settle()
    await janitor_of(blog, kept_releases=1).clean(app.id)
    assert "sha256:nameless" in blog.images.by_id
    async with blog.database.transaction() as tx:
        await apps.destroy(tx, app=app)
    await blog.settle()
    assert list(blog.images.by_id) == ["sha256:nameless"]


async def test_what_builds_of_a_destroyed_app_kept_goes_with_it(blog: Core) -> None:
    app, other = await blog.create(), await blog.create("other")
    blog.workshops.volumes = {app.id: {"cache"}, other.id: {"cache"}}
    async with blog.database.transaction() as tx:
        await apps.destroy(tx, app=app)
    await blog.settle()
    await janitor_of(blog).clean(app.id)
    assert blog.workshops.volumes == {other.id: {"cache"}}


async def test_a_survey_removes_what_builds_left_that_their_agent_or_app_did_not_outlive(blog: Core) -> None:
    app = await blog.create()
    blog.workshops.orphans = {"e1"}
    blog.workshops.volumes = {app.id: {"cache"}, AppId("agonefornow1"): {"cache"}}
    await janitor_of(blog).survey()
    assert blog.workshops.orphans == set()
    assert blog.workshops.volumes == {app.id: {"cache"}}


async def test_what_the_last_deploys_said_is_kept_failed_ones_and_what_is_under_way_included(blog: Core) -> None:
    app = await blog.create()
    said = []
    for number in range(KEPT_TRANSCRIPTS + 2):
        deploy = await blog.push(app, {"Procfile": "no dockerfile"}, commit=f"{number:040x}")
        blog.transcripts.say(app.id, deploy.id, "what a build says")
        await blog.settle()
        assert (await blog.deploy(deploy)).status == "failed"
        said.append(deploy.id)
    under_way = await blog.push(app, ONE, commit="f" * 40)
    blog.transcripts.say(app.id, under_way.id, "begun")
    await janitor_of(blog).clean(app.id)
    kept = [deploy for deploy in said if blog.transcripts.lines.get(deploy)]
    assert kept == said[-(KEPT_TRANSCRIPTS - 1) :]
    assert blog.transcripts.lines[under_way.id] == ["begun"]


async def test_what_a_build_made_that_was_repeated_goes_once_its_deploy_is_over(blog: Core) -> None:
    app, other = await blog.create(), await blog.create("other")
    lost = {of: ImageInfo(id=f"sha256:lost-{of.name}", labels={APP_ID: of.id}) for of in (app, other)}
    for image in lost.values():
        blog.images.have(image)
    blog.builder.gate.clear()
    await blog.push(app, ONE)
    await janitor_of(blog).clean(app.id)
    assert lost[app].id in blog.images.by_id, "what is being built has no name for a moment"
    blog.builder.gate.set()
    await blog.settle()
    assert set(blog.images.by_id) == {await image_of(blog, app, 1), lost[other].id}


async def test_an_image_whose_name_was_taken_away_is_kept_as_long_as_a_release_needs_it(blog: Core) -> None:
    app = await blog.create()
    for files, commit in ((ONE, "1" * 40), (TWO, "2" * 40)):
        await blog.push(app, files, commit=commit)
        await blog.settle()
    blog.images.tags.clear()
    await janitor_of(blog).clean(app.id)
    assert set(blog.images.by_id) == {await image_of(blog, app, version) for version in (1, 2)}
    async with blog.database.transaction() as tx:
        await tx.releases.forget_image(app.id, 1)
    await janitor_of(blog).clean(app.id)
    assert set(blog.images.by_id) == {await image_of(blog, app, 2)}
