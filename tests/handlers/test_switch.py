"""From the old replicas to the new: the route changes at once, and the old ones end in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.lifecycle import apps
from agent.lifecycle.properties import set_property
from proto.names import ProcessType
from tests.fakes.core import Core, core
from tests.fakes.world import FakeClock

ONE = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: serve\nworker: work\n"}
TWO = {**ONE, "Dockerfile": "FROM scratch\nEXPOSE 8081\n"}


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        await c.global_domain()
        yield c


async def test_all_at_once_the_route_goes_from_all_old_replicas_to_all_new_ones(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await set_property(tx, app=app.id, name="ps.strategy", value="all-at-once")
        await apps.scale(tx, app=app, quantities={ProcessType("web"): 3})
    await blog.push(app, ONE)
    await blog.settle()
    old = set(blog.proxy.upstreams(app.id))
    before = len(blog.proxy.tables)
    await blog.push(app, TWO, commit="d" * 40)
    await blog.settle()
    new = set(blog.proxy.upstreams(app.id))
    assert len(old) == len(new) == 3 and not old & new
    seen = [set(table[app.id].upstreams) for table in blog.proxy.tables[before:]]
    assert all(upstreams in (old, new) for upstreams in seen)
    assert seen[-1] == new


async def test_a_busy_replica_is_waited_for_and_a_restart_of_the_agent_does_not_change_its_deadline(blog: Core) -> None:
    assert isinstance(blog.clock, FakeClock)
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    (old,) = (status.replica for status in blog.scheduler.running(app.id))
    blog.proxy.sessions[old] = 1
    await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=30)
    (row,) = [row for row in await blog.database.read.replicas.of_app(app.id) if row.id == old]
    assert row.state == "draining"
    blog.new_bus()
    await blog.settle(within=10)
    (again,) = [row for row in await blog.database.read.replicas.of_app(app.id) if row.id == old]
    assert (again.state, again.drain_until) == ("draining", row.drain_until)
    await blog.settle(within=60)
    assert blog.scheduler.stopped == [(old, 30.0)]
    assert [row.release for row in await blog.database.read.replicas.of_app(app.id)] == [2]
    assert blog.clock.now() >= (row.drain_until or 0)


async def test_the_deadline_of_a_drain_can_be_set_for_an_app(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await set_property(tx, app=app.id, name="checks.wait-to-retire", value="7")
    await blog.push(app, ONE)
    await blog.settle()
    (old,) = (status.replica for status in blog.scheduler.running(app.id))
    blog.proxy.sessions[old] = 1
    await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=5)
    assert old in blog.scheduler.containers
    await blog.settle(within=5)
    assert old not in blog.scheduler.containers


async def test_a_deploy_is_live_only_when_its_route_serves(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    blog.proxy.is_available = False
    deploy = await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=10)

    async def told() -> list[str]:
        return [event.type for event in await blog.database.read.outbox.events(app=app.id, limit=100)]

    assert (await blog.deploy(deploy)).status == "switching"
    assert (await told()).count("deploy.live") == 1
    row = await blog.database.read.apps.get(app.id)
    assert row is not None and row.live_release == 1
    blog.proxy.is_available = True
    await blog.settle()
    assert (await told()).count("deploy.live") == 2
    (serving,) = blog.proxy.upstreams(app.id)
    assert serving.port == 8081


async def test_an_old_replica_is_stopped_then_its_log_ends_then_it_is_removed(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    (old,) = (status.replica for status in blog.scheduler.running(app.id))
    was_there: list[bool] = []
    drained = blog.logs.drained

    async def look_and_drain(*arguments: object) -> None:
        was_there.append(old in blog.scheduler.containers and blog.scheduler.containers[old].phase == "exited")
        await drained(*arguments)  # type: ignore[arg-type]

    blog.logs.drained = look_and_drain  # type: ignore[method-assign]
    await blog.push(app, TWO, commit="d" * 40)
    await blog.settle()
    assert was_there == [True]
    assert blog.logs.drained_replicas == [old]
    assert old not in blog.scheduler.containers


@pytest.mark.slow
async def test_workers_are_replaced_without_waiting_for_the_proxy(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await apps.scale(tx, app=app, quantities={ProcessType("web"): 1, ProcessType("worker"): 2})
    await blog.push(app, ONE)
    await blog.settle()
    (web,) = (status.replica for status in blog.scheduler.running(app.id) if status.process == "web")
    workers = {status.replica for status in blog.scheduler.running(app.id) if status.process == "worker"}
    blog.proxy.sessions[web] = 1
    await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=5)
    assert {replica for replica, _ in blog.scheduler.stopped} == workers
    running = sorted((status.process, status.release) for status in blog.scheduler.running(app.id))
    assert running == [("web", 1), ("web", 2), ("worker", 2), ("worker", 2)]
