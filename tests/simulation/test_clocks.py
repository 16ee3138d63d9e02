"""The machine's clock is set while replicas start, run and are lost. Each was found by a random walk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.lifecycle import apps, replicas
from agent.ports.scheduler import CheckSpec, ReplicaStatus
from agent.state.sql import InlineSql
from proto.names import ProcessType
from tests.fakes.core import Core, World, core
from tests.simulation.virtual import VirtualClock, run

FILES = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nworker: ./work\n"}
HOURS = 7_200.0

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
