"""Tasks of deploys by their stages, on fakes: which come when, and which deploys run them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.commands.watching import DeployWatcher
from agent.lifecycle import config
from tests.commands.desk import FACTS
from tests.fakes.core import Core
from tests.fakes.terminal import FakeTerminal
from tests.handlers.migrating import AGAIN, MIGRATING, hasty, settled, until_running


@pytest.fixture
async def blog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    async with hasty(tmp_path, monkeypatch) as c:
        yield c


def scripted(dockerfile: str = MIGRATING["Dockerfile"], **scripts: object) -> dict[str, str]:
    return {**MIGRATING, "Dockerfile": dockerfile, "app.json": json.dumps({"scripts": scripts})}


async def test_predeploy_comes_before_the_release_task_and_the_others_after_the_switch(blog: Core) -> None:
    app = await blog.create()
    files = scripted(postdeploy="./seed", pushboat={"predeploy": "./check", "postdeploy": "./tell"})
    deploy = await blog.push(app, files)
    assert (await settled(blog, app, deploy)).status == "live"
    kinds = [wish.process for wish in blog.scheduler.task_wishes.values()]
    assert kinds == ["predeploy", "release", "setup", "postdeploy"]
    events = [stored.type for stored in await blog.database.read.outbox.events(app.id, limit=100)]
    live = events.index("deploy.live")
    assert [events[:live].count("task.ended"), events[live:].count("task.ended")] == [2, 2]
    assert all(count == 1 for count in blog.scheduler.task_starts.values())


async def test_setup_is_run_once_in_an_apps_life_and_postdeploy_each_time(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.task_exits["release"] = 1
    await blog.push(app, scripted(postdeploy="./seed", dokku={"postdeploy": "./tell"}))
    await blog.settle()
    blog.scheduler.task_exits.clear()
    for number in range(2):
        dockerfile = f"FROM scratch\nEXPOSE {number + 1}\n"
        await blog.push(app, scripted(dockerfile, postdeploy="./seed", dokku={"postdeploy": "./tell"}), commit="d" * 40)
        await blog.settle()
    ran = [(wish.process, wish.release) for wish in blog.scheduler.task_wishes.values()]
    assert [one for one in ran if one[0] != "release"] == [("setup", 2), ("postdeploy", 2), ("postdeploy", 3)]


async def test_a_predeploy_that_fails_ends_the_deploy_before_its_release_task(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.task_exits["predeploy"] = 1
    deploy = await blog.push(app, scripted(dokku={"predeploy": "./check", "postdeploy": "./tell"}))
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert [wish.process for wish in blog.scheduler.task_wishes.values()] == ["predeploy"]
    rows = await blog.database.read.tasks.of_deploy(deploy.id)
    assert [(row.kind, row.status, row.started_at is None) for row in rows] == [
        ("predeploy", "ended", False),
        ("release", "ended", True),
        ("postdeploy", "ended", True),
    ]


async def test_a_postdeploy_that_fails_is_told_and_changes_nothing(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.task_exits["postdeploy"] = 1
    deploy = await blog.push(app, scripted(pushboat={"postdeploy": "./tell"}))
    assert (await settled(blog, app, deploy)).status == "live"
    told = blog.transcripts.lines[deploy.id]
    assert " !     The postdeploy task failed: it exited with status 1." in told
    assert len(blog.proxy.upstreams(app.id)) == 1


async def test_a_newer_deploy_waits_for_the_postdeploy_task_of_the_one_before(blog: Core) -> None:
    app = await blog.create()
    files = scripted(pushboat={"postdeploy": "./tell"})
    older = await blog.push(app, files)
    async with blog.bus.delivering():
        while (await blog.deploy(older)).status != "live":
            await asyncio.sleep(0)
        blog.scheduler.are_tasks_held = True
        task = await until_running(blog)
        newer = await blog.push(app, {**files, **AGAIN}, commit="d" * 40)
        waiting = "       Waiting for the postdeploy task of v1 to end"
        while waiting not in blog.transcripts.lines[newer.id]:
            await asyncio.sleep(0)
        assert len(blog.scheduler.task_starts) == 2
        blog.scheduler.are_tasks_held = False
        blog.scheduler.exit(task, code=0)
        await blog.settle()
    assert (await blog.deploy(newer)).status == "live"
    assert blog.transcripts.lines[newer.id].count(waiting) == 1


async def test_whoever_watches_a_deploy_sees_its_last_task_to_the_end(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.task_seconds = 0.05
    watcher = DeployWatcher(blog.database, transcripts=blog.transcripts, server=FACTS)
    deploy = await blog.push(app, scripted(pushboat={"postdeploy": "./tell"}))
    terminal = FakeTerminal()
    watching = asyncio.create_task(watcher.watch(deploy.id, terminal))
    await blog.settle()
    assert await watching == 0
    told = terminal.out.decode()
    assert told.index("The postdeploy task has succeeded") < told.index("Application deployed")


async def test_config_changes_and_rollbacks_run_the_task_and_a_restart_does_not(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, MIGRATING)
    await blog.settle()
    await blog.accept(app, kind="restart")
    await blog.settle()
    assert len(blog.scheduler.task_starts) == 1
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
    await blog.accept(app, kind="config")
    await blog.settle()
    await blog.accept(app, kind="rollback", from_release=1)
    await blog.settle()
    wishes = list(blog.scheduler.task_wishes.values())
    assert [(wish.release, wish.env.get("COLOUR")) for wish in wishes] == [(1, None), (3, "blue"), (4, None)]
    assert (await blog.database.read.apps.get(app.id) or app).live_release == 4


async def test_a_restart_does_what_the_deploy_that_it_supersedes_still_owed(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.gate.clear()
    deploy = await blog.push(app, scripted(postdeploy="./seed", pushboat={"postdeploy": "./tell"}))
    async with blog.bus.delivering():
        while (await blog.deploy(deploy)).status != "starting":
            await asyncio.sleep(0)
        newer = await blog.accept(app, kind="restart")
        blog.scheduler.gate.set()
        await blog.settle()
    assert (await blog.deploy(deploy)).status == "superseded"
    assert (await blog.deploy(newer)).status == "live"
    ran = [(wish.process, wish.release) for wish in blog.scheduler.task_wishes.values()]
    assert ran == [("release", 1), ("setup", 2), ("postdeploy", 2)]
    await blog.accept(app, kind="restart")
    await blog.settle()
    assert len(blog.scheduler.task_wishes) == 3


async def test_a_restart_joins_a_deploy_whose_task_runs(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
        assert (await blog.accept(app, kind="restart")).id == deploy.id
        blog.scheduler.exit(task, code=0)
        await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"


async def test_config_set_while_a_task_runs_deploys_the_pushed_code_and_not_the_live_one(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, MIGRATING)
    await blog.settle()
    blog.scheduler.are_tasks_held = True
    await blog.push(app, AGAIN, commit="d" * 40)
    async with blog.bus.delivering():
        await until_running(blog)
        blog.scheduler.are_tasks_held = False
        newest = await blog.accept(app, kind="config")
        await blog.settle()
    found = await blog.deploy(newest)
    assert (found.status, found.commit_id) == ("live", "d" * 40)
