"""Handlers while Docker or HAProxy does not answer, and when they are back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent.errors import Unavailable
from agent.handlers import checks
from agent.handlers.builder import PATIENCE_SECONDS
from agent.lifecycle import apps, deploys, replicas
from agent.ports.scheduler import CheckSpec, ReplicaStatus
from proto.names import ProcessType, ReplicaId
from tests.fakes.core import Core, core
from tests.fakes.world import FakeClock
from tests.simulation.mortal import Act, Kind, Process

ONE = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}
TWO = {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        await c.global_domain()
        yield c


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks wait in real time."""
    monkeypatch.setattr(checks, "SILENCE_SECONDS", 0.001)


async def test_a_replica_lost_while_its_deploy_switches_keeps_the_old_release_serving(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    blog.proxy.is_available = False
    deploy = await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=5)
    assert (await blog.deploy(deploy)).status == "switching"
    (candidate,) = (row for row in await blog.database.read.replicas.of_app(app.id) if row.release == 2)
    async with blog.database.transaction() as tx:
        await replicas.lost(tx, replica=candidate, reason="it exited", retry_at=blog.clock.now() + 40)
    blog.proxy.is_available = True
    tables_before = len(blog.proxy.tables)
    await blog.settle(within=30)
    assert len(blog.proxy.tables) > tables_before
    assert blog.proxy.upstreams(app.id) == serving
    assert (await blog.deploy(deploy)).status == "switching"
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert [upstream.name for upstream in blog.proxy.upstreams(app.id)] == [candidate.id]
    assert all(table[app.id].upstreams for table in blog.proxy.tables[tables_before:])


async def test_a_deploy_that_goes_live_while_its_app_is_looked_at_keeps_its_replicas(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    blog.proxy.is_available = False
    deploy = await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=5)
    look = blog.scheduler.look

    async def look_late(replica: ReplicaId) -> ReplicaStatus | None:
        async with blog.database.transaction() as tx:
            await deploys.live(tx, deploy=await blog.deploy(deploy), drain_seconds=60)
        return await look(replica)

    blog.scheduler.look = look_late  # type: ignore[method-assign]
    blog.bus.nudge(app.id, names=["scheduler.converge"])
    await blog.settle(within=5)
    rows = await blog.database.read.replicas.of_app(app.id)
    assert [(row.release, row.state) for row in rows] == [(1, "draining"), (2, "ready")]


async def test_replicas_that_may_have_been_switched_to_are_drained_when_the_switch_fails(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, ONE)
    await blog.settle()
    blog.proxy.is_available = False
    deploy = await blog.push(app, TWO, commit="d" * 40)
    await blog.settle(within=5)
    (candidate,) = (status.replica for status in blog.scheduler.running(app.id) if status.release == 2)
    async with blog.database.transaction() as tx:
        await deploys.fail(tx, deploy=await blog.deploy(deploy), stage="switch", reason="HAProxy does not answer.")
    blog.proxy.is_available = True
    blog.proxy.sessions[candidate] = 1
    await blog.settle(within=30)
    assert candidate in [status.replica for status in blog.scheduler.running(app.id)]
    blog.proxy.sessions.clear()
    await blog.settle()
    assert candidate not in [status.replica for status in blog.scheduler.running(app.id)]


async def test_a_restart_during_the_switch_begins_the_proxys_patience_anew(blog: Core) -> None:
    app = await blog.create()
    blog.proxy.is_available = False
    deploy = await blog.push(app, ONE)
    await blog.settle(within=5)
    assert isinstance(blog.clock, FakeClock)
    blog.clock.advance(3_600)
    blog.new_bus()
    await blog.settle(within=5)
    assert (await blog.deploy(deploy)).status == "switching"
    blog.proxy.is_available = True
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"


async def test_a_deploy_waits_for_a_silent_engine_says_so_once_and_goes_live(blog: Core) -> None:
    app = await blog.create()
    blog.builder.is_down = True
    deploy = await blog.push(app, ONE)
    await blog.settle(within=PATIENCE_SECONDS / 2)
    assert (await blog.deploy(deploy)).status == "building"
    said = [line for line in blog.transcripts.lines[deploy.id] if "Trying again" in line]
    assert len(said) == 1
    blog.builder.is_down = False
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"


async def test_a_deploy_fails_when_the_engine_stays_silent(blog: Core) -> None:
    app = await blog.create()
    blog.builder.is_down = True
    deploy = await blog.push(app, ONE)
    await blog.settle(within=PATIENCE_SECONDS + 10)
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "build")


async def test_a_live_replica_that_runs_and_never_gets_ready_is_started_afresh(blog: Core) -> None:
    app = await blog.create()
    await blog.push(
        app, {**ONE, "app.json": '{"healthchecks": {"web": [{"type": "startup", "path": "/", "wait": 0}]}}'}
    )
    await blog.settle()
    (replica,) = (status.replica for status in blog.scheduler.running(app.id))
    blog.prober.answers[replica] = "GET / was answered with status 500."
    blog.scheduler.exit(replica)
    blog.bus.nudge(app.id)
    await blog.settle(within=5)
    assert replica in [stopped for stopped, _ in blog.scheduler.stopped]
    del blog.prober.answers[replica]
    await blog.settle()
    assert [upstream.name for upstream in blog.proxy.upstreams(app.id)] == [replica]


async def test_a_candidate_that_the_engine_ended_while_it_was_away_is_started_again(blog: Core) -> None:
    app = await blog.create()
    deploy = await blog.push(app, ONE)
    listens = asyncio.Event()

    async def probe(check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        if listens.is_set():
            return None
        listens.set()
        # The engine is restarted just now: it does not answer, and what it ran has ended when it is back.
        blog.scheduler.exit(status.replica, code=143)
        raise Unavailable("docker.unavailable", "Docker does not answer.")

    blog.prober.probe = probe  # type: ignore[method-assign]
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert any("Docker does not answer" in line for line in blog.transcripts.lines[deploy.id])


class FullOnce(Kind):
    """The disk is full when the first replica's readiness is to be stored."""

    def __init__(self) -> None:
        self.is_full = True

    async def statement(self, text: str, act: Act) -> Any:
        if self.is_full and "state = 'ready'" in text:
            self.is_full = False
            raise Unavailable("disk.full", "The disk is full.")
        return await act()


async def test_a_full_disk_while_replicas_are_checked_is_waited_for_and_no_mistake(tmp_path: Path) -> None:
    process = Process(FullOnce())
    async with core(tmp_path, opener=process.open) as c:
        app = await c.create()
        async with c.database.transaction() as tx:
            await apps.scale(tx, app=app, quantities={ProcessType("web"): 2})
        deploy = await c.push(app, ONE)
        with structlog.testing.capture_logs() as logged:
            await c.settle()
        assert (await c.deploy(deploy)).status == "live"
        events = [entry["event"] for entry in logged]
        assert "handler.unavailable" in events
        assert "handler.failed" not in events
