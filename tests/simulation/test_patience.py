"""How often a replica is asked whether it is ready, and for how long: in virtual time, to the millisecond."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.ports.scheduler import CheckSpec, Health, ReplicaStatus
from agent.state.deploys import Deploy
from proto.names import AppId
from tests.fakes.core import Core, core
from tests.simulation.mortal import Process
from tests.simulation.virtual import VirtualClock, run

WEB = "FROM scratch\nEXPOSE 8080\n"


class Asked:
    """Notes when each check was asked for, in seconds since the first time, and passes it late or never."""

    def __init__(self, *, passes_after: float = 1e9, health: Health = "none") -> None:
        self.at: list[float] = []
        self._first: float | None = None
        self._passes_after = passes_after
        self.health = health

    async def probe(self, check: CheckSpec, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        now = asyncio.get_running_loop().time()
        self._first = now if self._first is None else self._first
        self.at.append(round(now - self._first, 3))
        return None if self.at[-1] >= self._passes_after else "Nothing listens on port 8080."


def deployed(folder: Path, asked: Asked, files: dict[str, str], *, seconds: float = 1000.0) -> Deploy:
    """Push `files`, let so many seconds pass, and return what became of the deploy."""

    async def main() -> Deploy:
        async with core(folder, clock=VirtualClock(), opener=Process().open) as c:
            c.prober.probe = asked.probe  # type: ignore[method-assign]
            app = await c.create()
            async with c.bus.delivering():
                deploy = await c.push(app, files)
                await _set_health(c, asked.health)
                await asyncio.sleep(seconds)
            return await c.deploy(deploy)

    return run(main())


async def _set_health(c: Core, health: Health) -> None:
    while not c.scheduler.containers:
        await asyncio.sleep(0.001)
    for replica in c.scheduler.containers:
        c.scheduler.set_health(replica, health)


def test_a_port_is_asked_for_after_20_ms_then_less_and_less_often(tmp_path: Path) -> None:
    asked = Asked(passes_after=6.0)
    assert deployed(tmp_path, asked, {"Dockerfile": WEB}).status == "live"
    pauses = [round(later - earlier, 3) for earlier, later in zip(asked.at, asked.at[1:], strict=False)]
    assert pauses[:4] == pytest.approx([0.02, 0.03, 0.045, 0.0675], abs=0.001)
    assert pauses == sorted(pauses)
    assert pauses[-2:] == [1.0, 1.0]


def test_a_port_that_never_answers_fails_its_deploy_after_a_minute(tmp_path: Path) -> None:
    asked = Asked()
    deploy = deployed(tmp_path, asked, {"Dockerfile": WEB})
    assert (deploy.status, deploy.stage) == ("failed", "checks")
    assert deploy.reason == "web.1 is not ready: Nothing listens on port 8080. (waited 60 s)"
    assert 60.0 < asked.at[-1] < 62.0


def test_a_port_that_answers_within_the_minute_is_in_time(tmp_path: Path) -> None:
    asked = Asked(passes_after=59.0)
    assert deployed(tmp_path, asked, {"Dockerfile": WEB}).status == "live"
    assert 59.0 <= asked.at[-1] <= 60.0


@pytest.mark.parametrize(("health", "at_least", "at_most"), [("starting", 200.0, 202.0), ("unhealthy", 60.0, 62.0)])
def test_an_image_that_is_asked_seldom_has_the_time_it_needs_and_no_more(
    tmp_path: Path, health: Health, at_least: float, at_most: float
) -> None:
    asked = Asked(health=health)
    deploy = deployed(tmp_path, asked, {"Dockerfile": f"{WEB}HEALTHCHECK 200\n"})
    assert (deploy.status, deploy.stage) == ("failed", "checks")
    assert at_least < asked.at[-1] < at_most


def test_a_check_of_app_json_is_tried_as_often_as_it_says_with_its_own_pauses(tmp_path: Path) -> None:
    check = {"name": "up", "path": "/", "attempts": 4, "wait": 7, "initialDelay": 11}
    files = {"Dockerfile": WEB, "app.json": json.dumps({"healthchecks": {"web": [check]}})}
    asked = Asked()
    deploy = deployed(tmp_path, asked, files)
    assert deploy.reason == "web.1 is not ready: the check up failed 4 times: Nothing listens on port 8080."
    assert asked.at == pytest.approx([0.0, 7.0, 14.0, 21.0], abs=0.01)
    # The pause before the first try is within what the deploy took.
    assert deploy.ended_at is not None and deploy.ended_at - deploy.created_at >= 32.0


def pauses_of_an_app_that_dies(folder: Path, *, well: float, deaths: int) -> list[float]:
    """Let a replica die so often, each time when it was ready for so many seconds; return how long it was away."""

    async def main() -> list[float]:
        async with core(folder, clock=VirtualClock(), opener=Process().open) as c:
            app = await c.create()
            found: list[float] = []
            async with c.bus.delivering():
                await c.push(app, {"Dockerfile": WEB})
                await _until_ready(c, app.id)
                for _ in range(deaths):
                    await asyncio.sleep(well)
                    (running,) = c.scheduler.running(app.id)
                    c.scheduler.exit(running.replica, code=1)
                    c.bus.nudge(app.id)
                    died = asyncio.get_running_loop().time()
                    await _until_ready(c, app.id, after=c.clock.now())
                    found.append(asyncio.get_running_loop().time() - died)
            return found

    return run(main())


async def _until_ready(c: Core, app: AppId, *, after: float = 0.0) -> None:
    while not any(
        row.state == "ready" and (row.ready_at or 0.0) >= after for row in await c.database.read.replicas.of_app(app)
    ):
        await asyncio.sleep(0.05)


def test_an_app_that_dies_as_it_starts_waits_longer_and_longer(tmp_path: Path) -> None:
    pauses = pauses_of_an_app_that_dies(tmp_path, well=1.0, deaths=9)
    assert pauses == pytest.approx([0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 60.0, 60.0], abs=0.5)


def test_an_app_that_serves_for_a_while_before_it_dies_is_back_soon_however_often(tmp_path: Path) -> None:
    pauses = pauses_of_an_app_that_dies(tmp_path, well=25.0, deaths=12)
    assert pauses == pytest.approx([0.0, 1.0, 2.0, *[2.5] * 9], abs=0.5)
