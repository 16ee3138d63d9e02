"""What becomes of a deploy when the bus gives up on one of our own mistakes: it ends, and everybody is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.bus import timers
from agent.handlers import tasks as handler
from agent.state.deploys import Deploy
from tests.commands.desk import Desk
from tests.fakes.core import Core, core
from tests.fakes.log import captured

HELLO = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n"}
AGAIN = {"Dockerfile": "FROM scratch\nEXPOSE 8081\n"}
MIGRATING = {**AGAIN, "Procfile": "web: ./serve\nrelease: ./migrate\n"}


@pytest.fixture
async def blog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    monkeypatch.setattr(handler, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(timers, "BACKOFF", (1.0,))
    # Kept rather than printed: there is a long traceback for each try.
    with captured():
        async with core(tmp_path) as c:
            await c.global_domain()
            yield c


async def mistaken(*_: object, **__: object) -> None:
    """What a bug of ours does."""
    raise ZeroDivisionError("division by zero")


async def given_up(blog: Core, deploy: Deploy) -> Deploy:
    """Return the deploy once nobody works on it any more; it must have been failed, and its watchers told."""
    await blog.settle(within=20)
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "agent")
    watched = await Desk(blog).give(f"deploys:output blog {deploy.id}")
    assert watched.status == 1
    assert found.reason is not None and found.reason in watched.out + watched.err
    return found


async def test_a_mistake_of_ours_while_building_ends_the_deploy_and_no_later_one(
    blog: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    with monkeypatch.context() as broken:
        broken.setattr(blog.builder, "build", mistaken)
        found = await given_up(blog, await blog.push(app, AGAIN, commit="d" * 40))
    assert (found.reason or "").startswith("Pushboat itself failed (builder.build, event ")
    assert (found.reason or "").endswith("See the agent's log.")
    assert blog.proxy.upstreams(app.id) == serving
    assert [status.release for status in blog.scheduler.running(app.id)] == [1]
    later = await blog.push(app, AGAIN, commit="e" * 40)
    await blog.settle()
    assert (await blog.deploy(later)).status == "live"
    assert blog.proxy.upstreams(app.id) != serving


async def test_a_mistake_of_ours_while_a_task_runs_ends_the_task_and_its_deploy(
    blog: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await blog.create()
    await blog.push(app, HELLO)
    await blog.settle()
    serving = blog.proxy.upstreams(app.id)
    blog.scheduler.are_tasks_held = True
    with monkeypatch.context() as broken:
        broken.setattr(blog.scheduler, "wait", mistaken)
        deploy = await blog.push(app, MIGRATING, commit="d" * 40)
        found = await given_up(blog, deploy)
    assert (found.reason or "").startswith("Pushboat itself failed (tasks.before, event ")
    (task,) = await blog.database.read.tasks.of_deploy(deploy.id)
    assert task.reason == "Pushboat itself failed; nobody knows whether the release task has run."
    assert blog.scheduler.task_starts == {task.id: 1}
    assert blog.proxy.upstreams(app.id) == serving
    # Its container runs on until the survey finds that no row names it, and the next task waits for none that ended.
    blog.scheduler.are_tasks_held = False
    blog.bus.resurvey()
    later = await blog.push(app, MIGRATING, commit="e" * 40)
    await blog.settle()
    assert (await blog.deploy(later)).status == "live"
    assert task.id not in blog.scheduler.containers
    assert [status.release for status in blog.scheduler.running(app.id)] == [3]
