"""Tasks of deploys, on fakes: when they run, that they run once, and what becomes of the deploy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.handlers.tasks import Tasks
from agent.lifecycle import apps, config, deploys
from agent.lifecycle.properties import set_property
from agent.ports.logs import LogLine
from agent.ports.world import Stop
from proto.events import DeployLive, ReleaseCreated
from proto.names import ProcessType, TaskId
from tests.fakes.core import Core
from tests.handlers.migrating import AGAIN, MIGRATING, hasty, settled, until_running


@pytest.fixture
async def blog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    async with hasty(tmp_path, monkeypatch) as c:
        yield c


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
