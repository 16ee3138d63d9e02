"""The machine's clock is set while replicas start, run, are lost and drain, and while a deploy waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.lifecycle import apps, replicas
from agent.ports.scheduler import CheckSpec, ReplicaStatus
from agent.state.sql import InlineSql
from proto.names import DeployId, ProcessType
from tests.fakes.core import Core, World, core
from tests.simulation.virtual import VirtualClock, run

FILES = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nworker: ./work\n"}
HOURS = 7_200.0
LONGEST_PAUSE = 80.0
"""Until what failed is tried again, if nothing says earlier that it may."""

Test = Callable[[Core, VirtualClock], Awaitable[None]]


def in_virtual_time(folder: Path, test: Test) -> None:
    """Run `test` beside a working bus."""

    async def main() -> None:
        world, clock = World(), VirtualClock()
        world.scheduler.now = clock.now
        async with core(folder, world=world, clock=clock, opener=InlineSql.open) as c:
            await c.global_domain()
            async with c.bus.delivering():
                await test(c, clock)

    run(main())


def test_a_replica_whose_clock_was_set_back_before_its_check_was_not_restarted(tmp_path: Path) -> None:
    async def test(c: Core, clock: VirtualClock) -> None:
        async def probe(check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
            clock.jumped -= HOURS
            return None

        c.prober.probe = probe  # type: ignore[method-assign]
        app = await c.create()
        await c.push(app, FILES)
        await asyncio.sleep(5)
        assert c.proxy.upstreams(app.id)
        tables = len(c.proxy.tables)
        await asyncio.sleep(100)
        assert all(table[app.id].upstreams for table in c.proxy.tables[tables:])
        types = [stored.type for stored in await c.database.read.outbox.events(app=app.id)]
        assert "replica.lost" not in types

    in_virtual_time(tmp_path, test)


def test_a_lost_replica_is_back_within_a_minute_of_a_clock_that_was_set_back(tmp_path: Path) -> None:
    async def test(c: Core, clock: VirtualClock) -> None:
        app = await c.create()
        await c.push(app, FILES)
        await asyncio.sleep(5)
        (row,) = await c.database.read.replicas.of_app(app.id)
        async with c.database.transaction() as tx:
            await replicas.lost(tx, replica=row, reason="it exited", retry_at=tx.now + 50)
        clock.jumped -= HOURS
        await asyncio.sleep(60)
        (row,) = await c.database.read.replicas.of_app(app.id)
        assert row.state == "ready"

    in_virtual_time(tmp_path, test)


def test_a_process_without_a_port_is_ready_soon_though_the_clock_is_set_back(tmp_path: Path) -> None:
    async def test(c: Core, clock: VirtualClock) -> None:
        app = await c.create()
        await c.push(app, FILES)
        await asyncio.sleep(5)
        async with c.database.transaction() as tx:
            await apps.scale(tx, app=app, quantities={ProcessType("worker"): 1})
        while not [row for row in await c.database.read.replicas.of_app(app.id) if row.state == "started"]:
            await asyncio.sleep(0)
        clock.jumped -= HOURS
        await asyncio.sleep(10)
        assert {row.label: row.state for row in await c.database.read.replicas.of_app(app.id)} == {
            "web.1": "ready",
            "worker.1": "ready",
        }

    in_virtual_time(tmp_path, test)


def test_a_clock_that_is_set_forward_fails_no_check_that_has_just_begun(tmp_path: Path) -> None:
    async def test(c: Core, clock: VirtualClock) -> None:
        answers = iter(["nothing listens there"] * 5)

        async def probe(check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
            if (answer := next(answers, None)) is not None:
                clock.jumped += HOURS
            return answer

        c.prober.probe = probe  # type: ignore[method-assign]
        app = await c.create()
        deploy = await c.push(app, FILES)
        await asyncio.sleep(20)
        assert (await c.deploy(deploy)).status == "live"

    in_virtual_time(tmp_path, test)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
def test_a_drain_lasts_as_long_whatever_the_clock_is_set_to(tmp_path: Path, jump: float) -> None:
    async def test(c: Core, clock: VirtualClock) -> None:
        app = await c.create()
        await c.push(app, FILES)
        await asyncio.sleep(5)
        (old,) = await c.database.read.replicas.of_app(app.id)
        c.proxy.sessions[old.id] = 1
        await c.push(app, FILES, commit="d" * 40)
        while (await c.database.read.replicas.get(old.id) or old).state != "draining":
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        clock.jumped += jump
        await asyncio.sleep(45)
        assert old.id in [status.replica for status in c.scheduler.running(app.id)]
        await asyncio.sleep(20)
        assert old.id not in [status.replica for status in c.scheduler.running(app.id)], "sixty seconds are over"

    in_virtual_time(tmp_path, test)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
@pytest.mark.parametrize("part", ["builder", "scheduler", "proxy"])
def test_what_a_deploy_waits_for_is_waited_for_as_long_whatever_the_clock_is_set_to(
    tmp_path: Path, part: str, jump: float
) -> None:
    """The builder and the engine for two minutes, the proxy for half a one."""
    patience = 30.0 if part == "proxy" else 120.0

    async def test(c: Core, clock: VirtualClock) -> None:
        def silence(is_silent: bool) -> None:
            if part == "proxy":
                c.proxy.is_available = not is_silent
            elif part == "builder":
                c.builder.is_down = is_silent
            else:
                c.scheduler.is_down = is_silent

        async def pushed(letter: str) -> DeployId:
            deploy = await c.push(app, FILES, commit=letter * 40)
            await asyncio.sleep(5)
            clock.jumped += jump
            return deploy

        app = await c.create()
        await c.push(app, FILES)
        await asyncio.sleep(5)
        silence(True)
        deploy = await pushed("d")
        await asyncio.sleep(patience / 2)
        assert (await c.deploy(deploy)).status != "failed"
        silence(False)
        await asyncio.sleep(LONGEST_PAUSE)
        assert (await c.deploy(deploy)).status == "live"
        silence(True)
        deploy = await pushed("e")
        await asyncio.sleep(patience + LONGEST_PAUSE)
        assert (await c.deploy(deploy)).status == "failed"

    in_virtual_time(tmp_path, test)
