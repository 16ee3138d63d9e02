"""Releases that go to a registry, on fakes: when they are pushed, and what becomes of the deploy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.handlers import tasks as task_handler
from agent.handlers.registry import ImagePusher
from agent.lifecycle import apps, config, deploys, registries
from agent.lifecycle.properties import set_property
from agent.ports.registries import Login
from agent.ports.world import Stop
from agent.state.apps import App
from agent.state.deploys import Deploy
from proto.events import ImagePushed, ImagePushFailed, ReleaseCreated, tag_of
from proto.names import SERVER
from tests.fakes.core import Core, core

MIGRATING = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nrelease: ./migrate\n"}
AGAIN = {**MIGRATING, "Dockerfile": "FROM scratch\nEXPOSE 8081\n"}
HUB = "registry.example.com"


@pytest.fixture
async def blog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    monkeypatch.setattr(task_handler, "TURN_SECONDS", 0.0)
    async with core(tmp_path) as c:
        await c.global_domain()
        yield c


async def pushing(c: Core, **more: str) -> App:
    """Return an app whose releases go to a registry."""
    app = await c.create()
    async with c.database.transaction() as tx:
        await set_property(tx, app=SERVER, name="registry.server", value=HUB)
        await set_property(tx, app=app.id, name="registry.push-on-release", value="true")
        for key, value in more.items():
            await set_property(tx, app=app.id, name=f"registry.{key.replace('_', '-')}", value=value)
    return app


async def told(c: Core, kind: type[ImagePushed | ImagePushFailed]) -> int:
    """Return how many events of that kind there were."""
    return sum(event.type == tag_of(kind) for event in await c.database.read.outbox.events(limit=1000))


def said(c: Core, deploy: Deploy) -> str:
    return "\n".join(c.transcripts.lines[deploy.id])


async def until_pushing(c: Core, pushes: int = 1) -> None:
    while c.registries.pushes < pushes:
        await c.database.read.apps.all()


async def test_a_release_is_pushed_under_its_number_and_the_extra_tags_before_anything_of_it_runs(blog: Core) -> None:
    app = await pushing(blog, push_extra_tags="latest,stable")
    blog.registries.gate.clear()
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        await until_pushing(blog)
        assert (await blog.deploy(deploy)).status == "releasing"
        assert blog.scheduler.task_starts == {} and blog.scheduler.running(app.id) == []
        blog.registries.gate.set()
        await blog.settle()
    live = await blog.deploy(deploy)
    assert live.status == "live" and len(blog.scheduler.task_starts) == 1
    names = [f"{HUB}/pushboat/blog:{tag}" for tag in ("1", "latest", "stable")]
    assert blog.registries.pushed == dict.fromkeys(names, live.image)
    text = said(blog, deploy)
    assert text.index(f"Pushing the image to {HUB}") < text.index(f"Pushed {names[0]}") < text.index("migrate")


async def test_a_push_that_fails_ends_the_deploy_before_its_tasks_and_the_old_release_serves(blog: Core) -> None:
    app = await pushing(blog)
    await blog.push(app, MIGRATING)
    await blog.settle()
    serving, tasks_run = blog.proxy.upstreams(app.id), dict(blog.scheduler.task_starts)
    blog.registries.is_refusing = True
    deploy = await blog.push(app, AGAIN, commit="d" * 40)
    await blog.settle()
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert f"could not be pushed as {HUB}/pushboat/blog:2" in (found.reason or "")
    assert blog.proxy.upstreams(app.id) == serving and blog.scheduler.task_starts == tasks_run
    push = await blog.database.read.pushes.newest(app.id)
    assert push and (push.release, push.status) == (2, "failed")


async def test_what_served_before_waits_for_no_registry(blog: Core) -> None:
    app = await pushing(blog)
    await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
    await blog.settle()
    await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}, commit="d" * 40)
    await blog.settle()
    blog.registries.is_refusing = True
    restart = await blog.accept(app, kind="restart")
    await blog.settle()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"A": "1"})
    change = await blog.accept(app, kind="config")
    await blog.settle()
    back = await blog.accept(app, kind="rollback", from_release=1)
    await blog.settle()
    for deploy in (restart, change, back):
        assert (await blog.deploy(deploy)).status == "live"
        assert "The deploy goes on without" in said(blog, deploy)
    assert await told(blog, ImagePushFailed) == 3
    assert sorted(blog.registries.pushed) == [f"{HUB}/pushboat/blog:1", f"{HUB}/pushboat/blog:2"]


async def test_a_config_change_that_overtakes_a_push_waits_in_its_place(blog: Core) -> None:
    app = await pushing(blog)
    await blog.push(app, MIGRATING)
    await blog.settle()
    blog.registries.gate.clear()
    overtaken = await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}, commit="d" * 40)
    async with blog.bus.delivering():
        await until_pushing(blog, 2)
        change = await blog.accept(app, kind="config")
        blog.registries.is_refusing = True
        blog.registries.gate.set()
        await blog.settle()
    assert (await blog.deploy(overtaken)).status == "superseded"
    assert ((await blog.deploy(change)).status, (await blog.deploy(change)).stage) == ("failed", "release")


async def test_nobody_said_where_to(blog: Core) -> None:
    app = await pushing(blog)
    async with blog.database.transaction() as tx:
        await set_property(tx, app=SERVER, name="registry.server", value=None)
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    found = await blog.deploy(deploy)
    assert found.status == "failed" and "registry:set --global server" in (found.reason or "")
    assert blog.registries.pushes == 0


async def test_an_app_s_own_login_comes_first(blog: Core) -> None:
    app = await pushing(blog, image_repo="team/blog")
    blog.registries.known = {(HUB, "ada", "right")}
    async with blog.database.transaction() as tx:
        await registries.log_in(tx, app=SERVER, login=Login(server=HUB, user="ada", password="old"))
        await registries.log_in(tx, app=app.id, login=Login(server=HUB, user="ada", password="right"))
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert list(blog.registries.pushed) == [f"{HUB}/team/blog:1"]


async def test_a_push_is_made_once_however_often_it_is_told(blog: Core) -> None:
    app = await pushing(blog)
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    pusher = ImagePusher(blog.database, registries=blog.registries, transcripts=blog.transcripts, clock=blog.clock)
    before = said(blog, deploy)
    for _ in range(2):
        await pusher.push(ReleaseCreated(app=app.id, deploy=deploy.id, release=1), Stop())
    assert blog.registries.pushes == 1 and said(blog, deploy) == before
    assert await told(blog, ImagePushed) == 1


async def test_a_deploy_that_is_cancelled_is_pushed_no_further_and_its_names_are_taken_away(blog: Core) -> None:
    app = await pushing(blog)
    blog.registries.gate.clear()
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        await until_pushing(blog)
        async with blog.database.transaction() as tx:
            row = await tx.deploys.get(deploy.id)
            assert row and await deploys.cancel(tx, deploy=row, by="ada")
        await blog.settle()
    push = await blog.database.read.pushes.get(deploy.id)
    assert push and push.status == "dropped" and blog.registries.pushed == {}
    # As after an agent that died in the middle of it.
    pusher = ImagePusher(blog.database, registries=blog.registries, transcripts=blog.transcripts, clock=blog.clock)
    await pusher.push(ReleaseCreated(app=app.id, deploy=deploy.id, release=1), Stop())
    assert f"{HUB}/pushboat/blog:1" in blog.registries.forgotten
    assert await told(blog, ImagePushFailed) == 0


@pytest.mark.slow
async def test_an_engine_that_does_not_answer_is_waited_for_and_then_the_deploy_fails(blog: Core) -> None:
    app = await pushing(blog)
    blog.registries.is_down = True
    deploy = await blog.push(app, MIGRATING)
    await blog.settle(within=60)
    assert (await blog.deploy(deploy)).status == "releasing"
    await blog.settle(within=120)
    assert (await blog.deploy(deploy)).status == "failed"
    blog.registries.is_down = False
    deploy = await blog.push(app, MIGRATING, commit="d" * 40)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"


async def test_nothing_of_a_push_is_left_of_a_destroyed_app(blog: Core) -> None:
    app = await pushing(blog)
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    async with blog.database.transaction() as tx:
        row = await tx.apps.get(app.id)
        assert row
        await apps.destroy(tx, app=row)
    await blog.settle()
    assert await blog.database.read.pushes.get(deploy.id) is None
    assert await blog.database.read.apps.get(app.id) is None


async def test_an_app_whose_releases_go_nowhere_is_not_pushed(blog: Core) -> None:
    app = await blog.create()
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live" and blog.registries.pushes == 0
