"""Tasks of deploys, on fakes: when they run, that they run once, and what becomes of the deploy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.commands.watching import DeployWatcher
from agent.errors import Unavailable
from agent.handlers import tasks as handler
from agent.handlers.tasks import Tasks
from agent.lifecycle import apps, config, deploys
from agent.lifecycle.properties import set_property
from agent.ports.logs import LogLine
from agent.ports.world import Stop
from agent.state.apps import App
from agent.state.deploys import Deploy
from proto.events import DeployLive, ReleaseCreated
from proto.names import ProcessType, TaskId
from tests.commands.desk import FACTS
from tests.fakes.core import Core, core
from tests.fakes.terminal import FakeTerminal

MIGRATING = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nrelease: ./migrate --all\n"}
AGAIN = {**MIGRATING, "Dockerfile": "FROM scratch\nEXPOSE 8081\n"}


@pytest.fixture
async def blog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    monkeypatch.setattr(handler, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(handler, "TURN_SECONDS", 0.0)
    async with core(tmp_path) as c:
        await c.global_domain()
        yield c


async def until_running(c: Core) -> TaskId:
    """Return the task that runs, once one does; the bus delivers meanwhile."""
    while True:
        for task in c.scheduler.task_starts:
            if task in c.scheduler.containers and c.scheduler.containers[task].phase == "running":
                return task
        await c.database.read.apps.all()


async def settled(c: Core, app: App, deploy: Deploy) -> Deploy:
    await c.settle()
    assert await c.database.read.tasks.started(app.id) == []
    return await c.deploy(deploy)


async def test_a_release_task_runs_once_with_the_new_image_and_config_before_any_replica(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"DATABASE_URL": "postgres://"})
    deploy = await blog.push(app, MIGRATING)
    assert (await settled(blog, app, deploy)).status == "live"
    ((task, starts),) = blog.scheduler.task_starts.items()
    wish = blog.scheduler.task_wishes[task]
    assert starts == 1
    assert (wish.process, wish.release, wish.command) == ("release", 1, ("./migrate", "--all"))
    assert wish.env["DATABASE_URL"] == "postgres://" and wish.env["DYNO"] == "release.1" and wish.env["PORT"] == ""
    assert wish.image == (await blog.database.read.releases.of_app(app.id))[0].image
    names = [name for name, _ in blog.scheduler.calls]
    assert names.index("begin") < names.index("converge")
    assert task not in blog.scheduler.containers
    (row,) = await blog.database.read.tasks.of_deploy(deploy.id)
    assert (row.status, row.exit_code, row.reason) == ("ended", 0, None)
    lines = blog.transcripts.lines[deploy.id]
    assert "-----> Running the release task: ./migrate --all" in lines
    assert "-----> The release task has succeeded" in lines


async def test_what_a_task_prints_is_in_the_deploys_transcript(blog: Core) -> None:
    app = await blog.create()
    blog.logs.lines[app.id] = [
        LogLine(at=at, process=ProcessType("release"), number=1, release=1, stream="stdout", text=text)
        for at, text in enumerate(("one", "two", "three"))
    ]
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    lines = blog.transcripts.lines[deploy.id]
    start = lines.index("-----> Running the release task: ./migrate --all")
    assert lines[start + 1 : start + 4] == ["       one", "       two", "       three"]


async def test_a_release_task_that_fails_ends_the_deploy_and_starts_no_replica(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, MIGRATING)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    blog.scheduler.task_exits["release"] = 3
    deploy = await blog.push(app, AGAIN, commit="d" * 40)
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert found.reason == "The release task failed: it exited with status 3."
    assert blog.proxy.upstreams(app.id) == serving
    assert all(wish.release == 1 for wish in blog.scheduler.wishes.values())
    assert [status.release for status in blog.scheduler.containers.values()] == [1]


async def test_a_cancelled_deploy_ends_its_task_with_its_grace(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await set_property(tx, app=app.id, name="ps.stop-timeout-seconds", value="7")
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
        async with blog.database.transaction() as tx:
            assert await deploys.cancel(tx, deploy=await blog.deploy(deploy), by="ada")
        found = await settled(blog, app, deploy)
    assert found.status == "cancelled"
    assert blog.scheduler.stopped == [(task, 7.0)]
    assert blog.scheduler.containers == {}
    assert blog.scheduler.task_starts[task] == 1


async def test_the_task_of_a_newer_push_waits_for_the_end_of_the_one_it_supersedes(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    older = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        first = await until_running(blog)
        blog.scheduler.are_tasks_held = False
        newer = await blog.push(app, AGAIN, commit="d" * 40)
        found = await settled(blog, app, newer)
    assert found.status == "live"
    assert (await blog.deploy(older)).status == "superseded"
    calls = [name for name, about in blog.scheduler.calls if name == "begin" or about == first]
    assert calls.index("remove") < len(calls) - 1 - calls[::-1].index("begin")
    assert set(blog.scheduler.task_starts.values()) == {1} and len(blog.scheduler.task_starts) == 2


async def test_an_agent_that_comes_back_follows_a_running_task_and_does_not_run_it_again(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
    blog.new_bus()
    async with blog.bus.delivering():
        while ("wait", task) not in blog.scheduler.calls[-1:]:
            await blog.database.read.apps.all()
        blog.scheduler.exit(task, code=0)
        found = await settled(blog, app, deploy)
    assert found.status == "live"
    assert blog.scheduler.task_starts[task] == 1
    assert any("Pushboat was restarted" in line for line in blog.transcripts.lines[deploy.id])


async def test_lines_that_were_told_are_not_told_again_after_a_restart(blog: Core) -> None:
    app = await blog.create()

    def printed(*texts: str) -> list[LogLine]:
        made = (ProcessType("release"), 1, 1)
        return [
            LogLine(at=at, process=made[0], number=made[1], release=made[2], stream="stdout", text=text)
            for at, text in enumerate(texts)
        ]

    blog.logs.lines[app.id] = printed("one", "two")
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
        while "       two" not in blog.transcripts.lines[deploy.id]:
            await blog.database.read.apps.all()
    blog.logs.lines[app.id] = printed("one", "two", "three")
    blog.new_bus()
    blog.scheduler.exit(task, code=0)
    await blog.settle()
    told = [line for line in blog.transcripts.lines[deploy.id] if line.strip() in ("one", "two", "three")]
    assert told == ["       one", "       two", "       three"]


async def test_a_task_that_ended_while_no_agent_ran_counts_as_it_ended(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
    blog.scheduler.exit(task, code=4)
    blog.new_bus()
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert "status 4" in (found.reason or "")
    assert blog.scheduler.task_starts[task] == 1


async def test_a_task_whose_container_is_gone_may_have_run_and_fails_the_deploy(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
    blog.scheduler.vanish(task)
    blog.new_bus()
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert "Nobody knows how the release task ended" in (found.reason or "")
    assert "ps:rebuild" in (found.reason or "")
    assert blog.scheduler.task_starts[task] == 1


async def test_a_start_whose_answer_was_lost_is_not_repeated(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.loses_answers = 1
    deploy = await blog.push(app, MIGRATING)
    assert (await settled(blog, app, deploy)).status == "live"
    assert list(blog.scheduler.task_starts.values()) == [1]


async def test_a_start_that_never_came_about_fails_the_deploy_and_is_not_repeated(
    blog: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await blog.create()
    asked: list[TaskId] = []

    async def lost(task: TaskId) -> None:
        asked.append(task)
        raise Unavailable("docker.unavailable", "Docker does not answer.")

    monkeypatch.setattr(blog.scheduler, "begin", lost)
    deploy = await blog.push(app, MIGRATING)
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert "has not run" in (found.reason or "")
    assert len(asked) == 1
    assert blog.scheduler.containers == {}


async def test_a_task_that_cannot_start_fails_the_deploy_with_the_reason(blog: Core) -> None:
    app = await blog.create()
    await blog.push(app, {"Dockerfile": MIGRATING["Dockerfile"]})
    await blog.settle()
    image = (await blog.database.read.releases.of_app(app.id))[0].image
    blog.scheduler.start_failures[image] = "There is no such user."
    deploy = await blog.push(app, MIGRATING, commit="d" * 40)
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert found.reason == "The release task could not be started: There is no such user."


async def test_a_task_that_takes_too_long_is_ended(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await set_property(tx, app=app.id, name="ps.task-timeout-seconds", value="0.01")
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    found = await settled(blog, app, deploy)
    assert (found.status, found.stage) == ("failed", "release")
    assert "ps:set task-timeout-seconds" in (found.reason or "")
    assert blog.scheduler.containers == {}


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


async def test_destroying_an_app_ends_its_task(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        await until_running(blog)
        async with blog.database.transaction() as tx:
            await apps.destroy(tx, app=app)
        await blog.settle()
    assert blog.scheduler.containers == {}
    assert await blog.database.read.apps.get(app.id) is None
    assert await blog.database.read.tasks.unfinished() == []


async def test_repeated_events_change_nothing(blog: Core) -> None:
    app = await blog.create()
    deploy = await blog.push(app, MIGRATING)
    await blog.settle()
    tasks = next(one for one in blog._handlers() if isinstance(one, Tasks))
    rows = await blog.database.read.tasks.of_deploy(deploy.id)
    calls = len(blog.scheduler.calls)
    await tasks.before(ReleaseCreated(app=app.id, deploy=deploy.id, release=1), Stop())
    await tasks.after(DeployLive(app=app.id, deploy=deploy.id, release=1), Stop())
    assert await blog.database.read.tasks.of_deploy(deploy.id) == rows
    assert len(blog.scheduler.calls) == calls
    assert list(blog.scheduler.task_starts.values()) == [1]


async def test_a_candidates_replicas_are_not_wanted_while_its_task_runs(blog: Core) -> None:
    app = await blog.create()
    blog.scheduler.are_tasks_held = True
    deploy = await blog.push(app, MIGRATING)
    async with blog.bus.delivering():
        task = await until_running(blog)
        async with blog.database.transaction() as tx:
            await apps.scale(tx, app=app, quantities={ProcessType("web"): 2})
        blog.bus.nudge(app.id)
        async with asyncio.timeout(5):
            while ("wait", task) not in blog.scheduler.calls:
                await blog.database.read.apps.all()
        assert (await blog.deploy(deploy)).status == "releasing"
        assert list(blog.scheduler.containers) == [task]
        blog.scheduler.exit(task, code=0)
        await blog.settle()
    assert [status.number for status in blog.scheduler.running(app.id)] == [1, 2]
