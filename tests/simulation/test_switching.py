"""What may happen while the proxy takes a new route."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.lifecycle import apps, deploys, replicas
from agent.ports.proxy import Table
from agent.state.deploys import Deploy
from proto.events import DeployLive, Event, ReplicaLost, ReplicaReady
from proto.names import ProcessType, ReplicaId
from tests.fakes.core import Core, core
from tests.simulation.mortal import Act, Kind, Process
from tests.simulation.virtual import VirtualClock, run

ONE = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: serve\nworker: work\n"}
TWO = {**ONE, "Dockerfile": "FROM scratch\nEXPOSE 8081\n"}
WORKER = ProcessType("worker")
READ_FOR_A_ROUTE = "SELECT domain FROM global_domains"
"""Begins what only whoever makes a table of routes reads, in the middle of it."""


def test_a_release_that_loses_a_replica_while_the_proxy_switches_is_live_only_once_it_is_whole(tmp_path: Path) -> None:
    told: list[Event] = []

    async def main() -> Deploy:
        async with core(tmp_path, clock=VirtualClock(), opener=Process().open) as c:
            app = await c.create()
            async with c.bus.delivering():
                await c.push(app, ONE)
                await asyncio.sleep(100.0)
                async with c.database.transaction() as tx:
                    await apps.scale(tx, app=app, quantities={WORKER: 1})
                await asyncio.sleep(100.0)
                c.database.listeners.append(lambda emitted: told.extend(event for _, event in emitted))
                c.proxy.apply = losing_a_worker(c, told)  # type: ignore[method-assign]
                deploy = await c.push(app, TWO, commit="d" * 40)
                await asyncio.sleep(100.0)
                return await c.deploy(deploy)

    assert run(main()).status == "live"
    of_worker = [type(event) for event in told if getattr(event, "process", WORKER) == WORKER]
    lost, live = of_worker.index(ReplicaLost), of_worker.index(DeployLive)
    assert ReplicaReady in of_worker[lost:live]


def losing_a_worker(c: Core, told: list[Event]):  # type: ignore[no-untyped-def]
    """Return what takes a table and loses the worker of the second release as soon as its route is served."""
    apply = c.proxy.apply

    async def lose(table: Table) -> None:
        await apply(table)
        rows = await c.database.read.replicas.all()
        workers = [row for row in rows if row.release == 2 and row.process == WORKER and row.state == "ready"]
        if workers and not any(isinstance(event, ReplicaLost) for event in told):
            c.scheduler.exit(workers[0].id)
            async with c.database.transaction() as tx:
                await replicas.lost(tx, replica=workers[0], reason="it ended", retry_at=tx.now)

    return lose


def test_what_drained_while_no_agent_ran_ends_only_when_no_request_goes_to_it_any_more(tmp_path: Path) -> None:
    routed_when_stopped: list[bool] = []

    async def main() -> None:
        async with core(tmp_path, clock=VirtualClock(), opener=Process().open) as c:
            app = await c.create()
            async with c.database.transaction() as tx:
                await apps.scale(tx, app=app, quantities={ProcessType("web"): 2})
            async with c.bus.delivering():
                await c.push(app, ONE)
                await asyncio.sleep(100.0)
            (second,) = [row for row in await c.database.read.replicas.of_app(app.id) if row.number == 2]
            async with c.database.transaction() as tx:
                await apps.scale(tx, app=app, quantities={ProcessType("web"): 1})
                await replicas.drain(tx, app=app.id, surplus=[second], until=tx.now + 60.0)
            await asyncio.sleep(100.0)
            stop = c.scheduler.stop

            async def noting(replica: ReplicaId, *, seconds: float) -> None:
                routed_when_stopped.append(replica in {upstream.name for upstream in c.proxy.upstreams(app.id)})
                await stop(replica, seconds=seconds)

            c.scheduler.stop = noting  # type: ignore[method-assign]
            c.proxy.is_available = False
            async with c.new_bus().delivering():
                await asyncio.sleep(5.0)
                c.proxy.is_available = True
                await asyncio.sleep(100.0)
            assert [row.label for row in await c.database.read.replicas.of_app(app.id)] == ["web.1"]

    run(main())
    assert routed_when_stopped == [False]


class WhileRoutesAreRead(Kind):
    """Has something happen, once, while a table of routes is made of what was committed before."""

    def __init__(self) -> None:
        self.then: Callable[[], Awaitable[bool]] | None = None
        """Tells whether it was the moment for it."""

    async def statement(self, text: str, act: Act) -> Any:
        answer = await super().statement(text, act)
        if self.then is not None and text.startswith(READ_FOR_A_ROUTE):
            then, self.then = self.then, None
            if not await then():
                self.then = then
        return answer


def test_what_is_given_up_while_a_table_with_it_is_made_is_not_ended_before_the_proxy_was_told_otherwise(
    tmp_path: Path,
) -> None:
    fate = WhileRoutesAreRead()
    routed_when_it_had_ended: list[ReplicaId] = []

    async def main() -> str:
        async with core(tmp_path, clock=VirtualClock(), opener=Process(fate).open) as c:
            app = await c.create()
            apply = c.proxy.apply

            async def look_and_apply(table: Table) -> None:
                routed = {ReplicaId(upstream.name) for route in table.values() for upstream in route.upstreams}
                routed_when_it_had_ended.extend(routed & {replica for replica, _ in c.scheduler.stopped})
                await apply(table)

            async def fail_what_switches() -> bool:
                deploy = await c.database.read.deploys.switching(app.id)
                if deploy is None:
                    return False
                async with c.database.transaction() as tx:
                    await deploys.fail(tx, deploy=deploy, stage="agent", reason="A handler gave up.")
                # Time for who ends replicas.
                await asyncio.sleep(20.0)
                return True

            c.proxy.apply = look_and_apply  # type: ignore[method-assign]
            async with c.bus.delivering():
                await c.push(app, ONE)
                await asyncio.sleep(100.0)
                fate.then = fail_what_switches
                deploy = await c.push(app, TWO, commit="d" * 40)
                await asyncio.sleep(100.0)
                assert [row.release for row in await c.database.read.replicas.of_app(app.id)] == [1]
                return (await c.deploy(deploy)).status

    assert run(main()) == "failed"
    assert routed_when_it_had_ended == []
