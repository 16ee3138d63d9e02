"""A deploy from accepted to live, on fakes: what each handler does, and what happens when something goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.lifecycle import apps, config, deploys
from agent.lifecycle.properties import set_property
from agent.ports.logs import LogLine
from agent.vault import Vault
from proto.names import ProcessType
from tests.fakes.core import Core, core

HELLO = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        await c.global_domain()
        yield c


async def test_a_push_goes_live(blog: Core) -> None:
    app = await blog.create()
    deploy = await blog.push(app, HELLO)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    (upstream,) = blog.proxy.upstreams(app.id)
    assert upstream.port == 8080
    assert blog.proxy.served[app.id].domains == ("blog.example.com",)
    (running,) = blog.scheduler.running(app.id)
    assert (running.process, running.number, running.release) == ("web", 1, 1)
    wish = blog.scheduler.wishes[running.replica]
    assert wish.env["PORT"] == "8080" and wish.env["DYNO"] == "web.1" and wish.env["GIT_REV"] == "c" * 40


async def test_a_second_push_replaces_the_first_without_an_empty_route(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    first = blog.proxy.upstreams(app.id)
    tables_before = len(blog.proxy.tables)
    await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}, commit="d" * 40)
    await blog.settle()
    assert all(table[app.id].upstreams for table in blog.proxy.tables[tables_before:])
    assert blog.proxy.upstreams(app.id) != first
    assert [status.release for status in blog.scheduler.running(app.id)] == [2]
    assert [row.release for row in await blog.database.read.replicas.of_app(app.id)] == [2]


async def test_a_failed_build_keeps_the_old_release_serving(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    deploy = await blog.push(app, {"Dockerfile": "FROM scratch\nRUN false\n"}, commit="d" * 40)
    await blog.settle()
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "build")
    assert "RUN false" in (found.reason or "")
    assert blog.proxy.upstreams(app.id) == serving


async def test_a_replica_that_exits_fails_the_deploy_with_its_last_lines(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    blog.logs.lines[app.id] = [
        LogLine(at=1, process=ProcessType("web"), number=1, release=2, stream="stderr", text="no such file")
    ]
    bad = {"Dockerfile": "FROM scratch\nCMD nothing\n"}
    blog.repos.put(app.id, "e" * 40, bad)
    deploy = await blog.push(app, bad, commit="e" * 40)
    blog.builder.gate.clear()
    blog.scheduler.exits_at_start[f"sha256:{hashlib.sha256(bad['Dockerfile'].encode()).hexdigest()}"] = 3
    blog.builder.gate.set()
    await blog.settle()
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "checks")
    assert "exited with status 3" in (found.reason or "")
    assert "       no such file" in blog.transcripts.lines[deploy.id]
    assert blog.proxy.upstreams(app.id) == serving
    assert [status.release for status in blog.scheduler.running(app.id)] == [1]


async def test_a_newer_push_supersedes_a_build_under_way_and_stops_it(blog: Core) -> None:
    app = await blog.create()
    blog.builder.gate.clear()
    older = await blog.push(app, HELLO)
    async with blog.bus.delivering():
        while not blog.builder.builds:
            await blog.database.read.apps.all()
        newer = await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 9\n"}, commit="d" * 40)
        while not blog.builder.cancelled:
            await blog.database.read.apps.all()
        blog.builder.gate.set()
        await blog.settle()
    assert (await blog.deploy(older)).status == "superseded"
    assert (await blog.deploy(newer)).status == "live"


async def test_a_config_change_is_a_release_of_the_same_image(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
    await blog.accept(app, kind="config")
    await blog.settle()
    (running,) = blog.scheduler.running(app.id)
    assert running.release == 2
    assert blog.scheduler.wishes[running.replica].env["COLOUR"] == "blue"
    assert blog.builder.builds == 1


async def test_config_that_was_set_but_not_released_is_used_by_no_replica(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
        await apps.scale(tx, app=(await tx.apps.get(app.id)) or app, quantities={ProcessType("web"): 2})
    await blog.settle()
    running = blog.scheduler.running(app.id)
    assert [status.number for status in running] == [1, 2]
    assert not any("COLOUR" in blog.scheduler.wishes[status.replica].env for status in running)


async def test_what_heals_and_boots_again_uses_the_live_releases_config_and_not_the_draft(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
    await blog.push(app, HELLO)
    await blog.settle()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "red", "DRAFT": "1"})
    (before,) = blog.scheduler.running(app.id)
    # Removed by hand, then all gone with a new agent, as after a reboot.
    for again in (blog.bus.resurvey, blog.new_bus):
        blog.scheduler.vanish(before.replica)
        again()
        await blog.settle()
        (before,) = blog.scheduler.running(app.id)
        wish = blog.scheduler.wishes[before.replica]
        assert before.release == 1
        assert wish.env["COLOUR"] == "blue" and "DRAFT" not in wish.env
    assert (await blog.database.read.configs.get(app.id))["COLOUR"] == "red"


async def test_a_rollback_brings_back_image_and_config(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
    await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 9\n"}, commit="d" * 40)
    await blog.settle()
    await blog.accept(app, kind="rollback", from_release=1)
    await blog.settle()
    (running,) = blog.scheduler.running(app.id)
    wish = blog.scheduler.wishes[running.replica]
    assert running.release == 3
    assert "COLOUR" not in wish.env and wish.env["PORT"] == "8080" and wish.env["GIT_REV"] == "c" * 40
    assert await blog.database.read.configs.get(app.id) == {}


async def test_scaling_down_ends_no_replica_that_serves_before_one_that_stays_is_ready(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    async with blog.database.transaction() as tx:
        await apps.scale(tx, app=app, quantities={ProcessType("web"): 2})
    await blog.settle()
    first, second = sorted(blog.scheduler.running(app.id), key=lambda status: status.number)
    blog.scheduler.start_failures[first.replica] = "there is no room"
    blog.scheduler.exit(first.replica)
    blog.bus.nudge(app.id)
    await blog.settle(within=1)
    async with blog.database.transaction() as tx:
        await apps.scale(tx, app=app, quantities={ProcessType("web"): 1})
    await blog.settle(within=20)
    assert [upstream.name for upstream in blog.proxy.upstreams(app.id)] == [second.replica]
    blog.scheduler.start_failures.clear()
    since = len(blog.proxy.tables)
    await blog.settle()
    assert [upstream.name for upstream in blog.proxy.upstreams(app.id)] == [first.replica]
    assert [status.replica for status in blog.scheduler.running(app.id)] == [first.replica]
    assert all(table[app.id].upstreams for table in blog.proxy.tables[since:])


async def test_a_lost_replica_leaves_the_route_and_comes_back(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    (running,) = blog.scheduler.running(app.id)
    blog.scheduler.exit(running.replica, code=1)
    blog.bus.nudge(app.id)
    await blog.settle()
    (again,) = blog.scheduler.running(app.id)
    assert again.replica == running.replica
    assert len(blog.proxy.upstreams(app.id)) == 1
    types = [stored.type for stored in await blog.database.read.outbox.events(app=app.id, limit=100)]
    assert "replica.lost" in types
    assert any(not table[app.id].upstreams for table in blog.proxy.tables)


async def test_a_container_that_was_not_started_for_its_replica_is_replaced(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    (running,) = blog.scheduler.running(app.id)
    blog.scheduler.supplant(running.replica)
    blog.bus.resurvey()
    await blog.settle()
    (again,) = blog.scheduler.running(app.id)
    assert (again.replica, again.fingerprint) == (running.replica, running.fingerprint)
    assert again.container != running.container
    (lost,) = [e for e in await blog.database.read.outbox.events(app=app.id, limit=100) if e.type == "replica.lost"]
    assert b"its container is not the one that was started for it" in lost.body


async def test_an_agent_with_another_recipe_for_fingerprints_restarts_nothing(
    blog: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    before = blog.scheduler.running(app.id)
    monkeypatch.setattr(Vault, "fingerprint", lambda vault, data: hashlib.sha256(b"v2" + data).hexdigest())
    blog.new_bus()
    await blog.settle()
    assert blog.scheduler.running(app.id) == before
    assert not any(e.type == "replica.lost" for e in await blog.database.read.outbox.events(app=app.id, limit=100))


async def test_a_stopped_app_runs_nothing_and_a_started_one_its_live_release(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    async with blog.database.transaction() as tx:
        await apps.stop(tx, app=app)
    await blog.settle()
    assert blog.scheduler.containers == {}
    async with blog.database.transaction() as tx:
        await apps.start(tx, app=app)
    await blog.settle()
    assert [status.release for status in blog.scheduler.running(app.id)] == [1]
    assert len(blog.proxy.upstreams(app.id)) == 1


async def test_destroying_an_app_leaves_nothing_of_it(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    async with blog.database.transaction() as tx:
        await apps.destroy(tx, app=app)
    await blog.settle()
    assert blog.scheduler.containers == {}
    assert blog.images.tags == {}
    assert app.id not in blog.proxy.served
    assert await blog.database.read.apps.get(app.id) is None


async def test_only_the_images_of_the_last_releases_are_kept(blog: Core) -> None:
    app = await blog.create()
    for number in range(8):
        await blog.push(app, {"Dockerfile": f"FROM scratch\nEXPOSE {8000 + number}\n"}, commit=f"{number}" * 40)
        await blog.settle()
    assert len(blog.images.by_id) == 5
    kept = [release.version for release in await blog.database.read.releases.of_app(app.id) if release.is_image_kept]
    assert kept == [8, 7, 6, 5, 4]


async def test_a_proxy_that_stays_silent_fails_the_deploy_before_it_switches(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    blog.proxy.is_available = False
    deploy = await blog.push(app, {"Dockerfile": "FROM scratch\nEXPOSE 9\n"}, commit="d" * 40)
    await blog.settle()
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "switch")
    said = blog.transcripts.lines[deploy.id]
    told = said.index(" !     The proxy does not answer.")
    assert "Waiting up to 30 s for it. Should that not do, the deploy fails" in said[told + 1]
    assert sum("does not answer" in line for line in said) == 1
    blog.proxy.is_available = True
    blog.bus.resurvey()
    await blog.settle()
    assert blog.proxy.upstreams(app.id) == serving


async def test_a_restart_at_any_time_converges_to_the_same(blog: Core) -> None:
    app = await blog.create()
    deploy = await blog.push(app, HELLO)
    for _ in range(3):
        blog.new_bus()
        await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert len(blog.scheduler.running(app.id)) == 1
    assert [r.version for r in await blog.database.read.releases.of_app(app.id)] == [1]


async def test_an_empty_push_deploys_only_what_failed_or_was_never_recorded(blog: Core) -> None:
    app = await blog.create()
    read = blog.database.read
    assert await deploys.push_outcome(read, app=app, commit="c" * 40) == "deploy"
    deploy = await blog.push(app, HELLO)
    assert await deploys.push_outcome(read, app=app, commit="c" * 40) == await blog.deploy(deploy)
    await blog.settle()
    assert await deploys.push_outcome(read, app=app, commit="c" * 40) == "nothing"
    await blog.push(app, {"Dockerfile": "RUN false"}, commit="d" * 40)
    await blog.settle()
    assert await deploys.push_outcome(read, app=app, commit="d" * 40) == "deploy"
    await blog.accept(app, kind="rollback", from_release=1)
    await blog.settle()
    assert await deploys.push_outcome(read, app=app, commit="d" * 40) == "nothing"


async def test_a_refused_route_fails_its_own_deploy_and_no_other(blog: Core) -> None:
    app, other = await blog.create(), await blog.create("shop")
    blog.proxy.refused[app.id] = "it has a strange domain"
    deploy = await blog.push(app, HELLO)
    another = await blog.push(other, HELLO)
    await blog.settle()
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "switch")
    assert "strange domain" in (found.reason or "")
    assert (await blog.deploy(another)).status == "live"


async def test_what_a_build_says_has_no_secret_argument_in_it(blog: Core) -> None:
    app = await blog.create()
    arguments = {"NPM_TOKEN": "false", "DATABASE_PASSWORD": "line one\nline two", "VERSION": "RUN"}
    async with blog.database.transaction() as tx:
        await set_property(
            tx, app=app.id, name="builder-dockerfile.build-args", value=msgspec.json.encode(arguments).decode()
        )
    deploy = await blog.push(app, {"Dockerfile": "FROM scratch\nRUN false\n"})
    await blog.settle()
    assert (await blog.deploy(deploy)).reason == "RUN ******* ended with status 1"
    stored = await blog.database.read.outbox.events(app.id, after=0, limit=100)
    assert all(b"line one" not in event.body for event in stored)
