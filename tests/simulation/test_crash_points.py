"""The process dies at each point of a push, a release task, a rollback, a scale, a config change, a stop and a destroy,
one after another; then it starts again. Whatever was acknowledged must be there, and everything must fit together.

Points lie before and after each SQL statement (commits included) and each call of a port. Each seventh is tried,
beginning elsewhere for each scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.lifecycle import apps, checks, config
from agent.state.apps import App
from proto.names import ProcessType
from tests.fakes.core import Core, World, core
from tests.simulation import promises
from tests.simulation.mortal import Death, Mortal
from tests.simulation.virtual import VirtualClock, run

CALM_SECONDS = 100.0
"""Virtual. Longer than a drain, a survey and most pauses together."""
STRIDE = 7

HELLO = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nworker: ./work\n"}
MIGRATING = {
    "Dockerfile": "FROM scratch\nEXPOSE 8082\n",
    "Procfile": "web: ./serve\nworker: ./work\nrelease: ./migrate\n",
}
TELLING = {
    "Dockerfile": "FROM scratch\nEXPOSE 8083\n",
    "Procfile": "web: ./serve\nworker: ./work\n",
    "app.json": '{"scripts": {"pushboat": {"predeploy": "./check", "postdeploy": "./tell"}}}',
}
OTHER = {"Dockerfile": "FROM scratch\nEXPOSE 8081\n", "Procfile": "web: ./serve\nworker: ./work\n"}

Act = Callable[[Core, App], Awaitable[None]]
Verify = Callable[[Core, App], Awaitable[None]]


async def push(c: Core, app: App) -> None:
    await c.push(app, OTHER, commit="d" * 40)


async def pushed(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.kind == "push" and newest.commit_id == "d" * 40 and newest.status == "live"


async def break_build(c: Core, app: App) -> None:
    await c.push(app, {"Dockerfile": "RUN false"}, commit="e" * 40)


async def broken(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    row = await c.database.read.apps.get(app.id)
    assert newest and newest.status == "failed" and row and row.live_release == 2


async def replace_alone(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await checks.set_mode(tx, app=app.id, mode="disabled", types=[])
    await push(c, app)


async def migrate(c: Core, app: App) -> None:
    c.scheduler.task_seconds = 3.0
    await c.push(app, MIGRATING, commit="f" * 40)


async def migrated(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.commit_id == "f" * 40
    if newest.status != "live":
        # It died between noting that the task is started and starting it, which is told and not tried again.
        assert (newest.status, newest.stage) == ("failed", "release")
        assert "has not run" in (newest.reason or "")
        assert c.scheduler.task_starts == {}


async def tell(c: Core, app: App) -> None:
    c.scheduler.task_seconds = 3.0
    await c.push(app, TELLING, commit="f" * 40)


async def break_migration(c: Core, app: App) -> None:
    c.scheduler.task_exits["release"] = 1
    await migrate(c, app)


async def not_migrated(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    row = await c.database.read.apps.get(app.id)
    assert newest and (newest.status, newest.stage) == ("failed", "release") and row and row.live_release == 2


async def roll_back(c: Core, app: App) -> None:
    await c.accept(app, kind="rollback", from_release=1)


async def rolled_back(c: Core, app: App) -> None:
    row = await c.database.read.apps.get(app.id)
    assert row and row.live_release == 3
    assert await c.database.read.configs.get(app.id) == {}


async def scale(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.scale(tx, app=app, quantities={ProcessType("web"): 3, ProcessType("worker"): 1})


async def scaled(c: Core, app: App) -> None:
    rows = await c.database.read.replicas.of_app(app.id)
    assert [row.label for row in rows] == ["web.1", "web.2", "web.3", "worker.1"]


async def configure(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "green"})
    await c.accept(app, kind="config")


async def configured(c: Core, app: App) -> None:
    for replica in c.scheduler.running(app.id):
        assert c.scheduler.wishes[replica.replica].env["COLOUR"] == "green"


async def stop(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.stop(tx, app=app)


async def stopped(c: Core, app: App) -> None:
    assert c.scheduler.running(app.id) == []


async def destroy(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.destroy(tx, app=app)


async def destroyed(c: Core, app: App) -> None:
    assert await c.database.read.apps.get(app.id) is None
    assert c.images.tags == {}


SCENARIOS: dict[str, tuple[Act, Verify, bool]] = {
    "push": (push, pushed, True),
    "failing build": (break_build, broken, True),
    "release task": (migrate, migrated, True),
    "tasks of app.json": (tell, migrated, True),
    "failing release task": (break_migration, not_migrated, True),
    "push without checks": (replace_alone, pushed, False),
    "rollback": (roll_back, rolled_back, True),
    "scale": (scale, scaled, True),
    "config": (configure, configured, True),
    "stop": (stop, stopped, False),
    "destroy": (destroy, destroyed, False),
}
"""What is done, what must be so once it was acknowledged, and whether the app must be served all the time."""


def live(folder: Path, name: str, dies_at: int | None) -> int:
    """Do the scenario, die at a point, start again, check. Return how many points were passed."""
    return run(_live(folder, name, dies_at))


async def _live(folder: Path, name: str, dies_at: int | None) -> int:
    act, verify, is_served = SCENARIOS[name]
    world, clock = World(), VirtualClock()
    cradle = Mortal(dies_at=None)
    async with core(folder, world=world, clock=clock, opener=cradle.open) as c:
        app = await _settled_app(c)
    since = len(world.proxy.tables)

    mortal = Mortal(dies_at=dies_at)
    is_acknowledged = False
    with contextlib.suppress(Death, BaseExceptionGroup):
        async with core(folder, world=world, clock=clock, opener=mortal.open, reach=mortal.reach) as c:
            async with c.bus.delivering():
                await act(c, app)
                is_acknowledged = True
                await asyncio.sleep(CALM_SECONDS)
    await mortal.bury()
    assert mortal.is_dead or dies_at is None

    heir = Mortal(dies_at=None)
    async with core(folder, world=world, clock=clock, opener=heir.open) as c:
        async with c.bus.delivering():
            await asyncio.sleep(2 * CALM_SECONDS)
        await promises.check(c)
        if is_acknowledged:
            await verify(c, app)
        if is_served:
            promises.check_no_gap(c, app.id, since=since)
    return mortal.points


async def _settled_app(c: Core) -> App:
    """Return an app with two releases behind it, the first without config."""
    await c.global_domain()
    app = await c.create()
    async with c.bus.delivering():
        await c.push(app, HELLO)
        await asyncio.sleep(CALM_SECONDS)
        async with c.database.transaction() as tx:
            await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
        await c.accept(app, kind="config")
        await asyncio.sleep(CALM_SECONDS)
    return app


def try_points(folder: Path, name: str, *, first: int, stride: int) -> int:
    """Die at each `stride`-th point from `first` on; return how many were tried."""
    last = live(_fresh(folder), name, None)
    tried = range(first, last + 1, stride)
    for point in tried:
        try:
            live(_fresh(folder), name, point)
        except AssertionError as error:
            raise AssertionError(f"{name}, dying at point {point} of {last}: {error}") from error
    return len(tried)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder / "life", ignore_errors=True)
    (folder / "life").mkdir()
    return folder / "life"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of the dead
@pytest.mark.parametrize("name", SCENARIOS)
def test_dying_at_any_point_loses_nothing(tmp_path: Path, name: str) -> None:
    first = 1 + list(SCENARIOS).index(name) % STRIDE
    assert try_points(tmp_path, name, first=first, stride=STRIDE) > 10
    gc.collect()  # What the dead left half done is complained about here, and not in some other test.
