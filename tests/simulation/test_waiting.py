"""How long a deploy waits for an engine that is silent while its task is made or its replicas are checked, and what it
makes of checks that cannot decide."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.handlers import checks, tasks
from agent.ports.scheduler import CheckSpec, ReplicaStatus, TaskWish
from agent.state.deploys import Deploy
from proto.events import ReplicaLost
from tests.fakes.core import Core
from tests.simulation.test_clocks import FILES, LONGEST_PAUSE, in_virtual_time
from tests.simulation.virtual import VirtualClock

MIGRATING = {**FILES, "Procfile": f"{FILES['Procfile']}release: ./migrate\n"}
SILENT = Unavailable("docker.unavailable", "Docker does not answer.")


async def is_silent_for(c: Core, seconds: float) -> Deploy:
    """Push to an app that is live, let so many seconds pass, and return how that deploy stands."""
    app = await c.create()
    deploy = await c.push(app, MIGRATING, commit="d" * 40)
    await asyncio.sleep(seconds)
    return await c.deploy(deploy)


@pytest.mark.parametrize("is_longer", [False, True])
@pytest.mark.parametrize("stage", ["release", "checks"])
def test_a_silent_engine_is_waited_for_two_minutes(tmp_path: Path, stage: str, is_longer: bool) -> None:
    patience = tasks.PATIENCE_SECONDS if stage == "release" else checks.SILENCE_PATIENCE_SECONDS
    seconds = patience + (10 if is_longer else -10)

    async def test(c: Core, clock: VirtualClock) -> None:
        async def prepare(wish: TaskWish) -> None:
            raise SILENT

        async def probe(check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
            raise SILENT

        before = c.scheduler.prepare, c.prober.probe
        if stage == "release":
            c.scheduler.prepare = prepare  # type: ignore[method-assign]
        else:
            c.prober.probe = probe  # type: ignore[method-assign]
        deploy = await is_silent_for(c, seconds)
        if is_longer:
            assert (deploy.status, deploy.stage) == ("failed", stage)
            assert "Docker does not answer" in (deploy.reason or "")
            return
        assert not deploy.is_over
        c.scheduler.prepare, c.prober.probe = before  # type: ignore[method-assign]
        await asyncio.sleep(LONGEST_PAUSE)
        assert (await c.deploy(deploy)).status == "live"

    in_virtual_time(tmp_path, test)


def test_a_check_that_flaps_is_passed_once_it_passes_and_what_serves_is_not_touched(tmp_path: Path) -> None:
    """Every third answer is a good one, in the deploy and ever after."""

    async def test(c: Core, clock: VirtualClock) -> None:
        asked = 0

        async def probe(check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
            nonlocal asked
            asked += 1
            return None if asked % 3 == 0 else "It answers 500."

        app = await c.create()
        await c.push(app, FILES)
        await asyncio.sleep(LONGEST_PAUSE)
        c.prober.probe = probe  # type: ignore[method-assign]
        since = len(c.proxy.tables)
        deploy = await c.push(app, FILES | {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}, commit="d" * 40)
        await asyncio.sleep(10 * LONGEST_PAUSE)
        assert (await c.deploy(deploy)).status == "live"
        assert asked >= 3, "it failed before it passed"
        # Nobody was left unserved meanwhile, and nothing is started anew because of a check that fails later.
        assert all(table[app.id].upstreams for table in c.proxy.tables[since:] if app.id in table)
        events = await c.database.read.outbox.events(limit=1000)
        assert not any(event.type == ReplicaLost.__struct_config__.tag for event in events)
        (serving,) = c.proxy.upstreams(app.id)
        assert {row.id for row in await c.database.read.replicas.of_app(app.id) if row.port} == {serving.name}

    in_virtual_time(tmp_path, test)
