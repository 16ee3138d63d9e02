"""Checks that are off for some process types, and what must never run twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest

from agent.lifecycle import apps, checks
from agent.lifecycle.checks import Mode
from agent.lifecycle.properties import set_property
from agent.ports.scheduler import ReplicaStatus, ReplicaWish
from agent.ports.world import Say
from agent.state.apps import App
from proto.names import AppId, ProcessType
from tests.fakes.core import Core, core

pytestmark = pytest.mark.slow

WEB, WORKER = ProcessType("web"), ProcessType("worker")
PROCFILE = "web: ./serve\nworker: ./work\n"


def files(version: int, **more: str) -> dict[str, str]:
    return {"Dockerfile": f"FROM scratch\nEXPOSE {8000 + version}\n", "Procfile": PROCFILE, **more}


class Overlaps:
    """Notes each start of a replica beside one of another release and the same process type."""

    def __init__(self, c: Core) -> None:
        self.seen: set[str] = set()
        self._scheduler = c.scheduler
        self._converge = c.scheduler.converge
        c.scheduler.converge = self.converge  # type: ignore[method-assign]

    async def converge(self, app: AppId, wishes: Sequence[ReplicaWish], say: Say) -> Sequence[ReplicaStatus]:
        for wish in wishes:
            running = self._scheduler.running(app)
            if any(other.process == wish.process and other.release != wish.release for other in running):
                self.seen.add(wish.process)
        return await self._converge(app, wishes, say)


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        await c.global_domain()
        yield c


async def live_app(c: Core) -> App:
    """Return an app with one web and one worker."""
    app = await c.create()
    async with c.database.transaction() as tx:
        await apps.scale(tx, app=app, quantities={WORKER: 1})
    await c.push(app, files(1))
    await c.settle()
    assert sorted(status.process for status in c.scheduler.running(app.id)) == ["web", "worker"]
    return app


async def set_mode(c: Core, app: App, mode: Mode, types: Collection[ProcessType] = ()) -> None:
    async with c.database.transaction() as tx:
        await checks.set_mode(tx, app=app.id, mode=mode, types=types)


async def test_unless_told_otherwise_both_releases_run_beside_each_other(blog: Core) -> None:
    app = await live_app(blog)
    overlaps = Overlaps(blog)
    await blog.push(app, files(2), commit="d" * 40)
    await blog.settle()
    assert overlaps.seen == {"web", "worker"}


async def test_a_disabled_type_ends_before_its_successor_starts(blog: Core) -> None:
    app = await live_app(blog)
    await set_mode(blog, app, "disabled", [WORKER])
    overlaps = Overlaps(blog)
    deploy = await blog.push(app, files(2), commit="d" * 40)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert overlaps.seen == {"web"}
    assert [status.release for status in blog.scheduler.running(app.id)] == [2, 2]
    told = blog.transcripts.lines[deploy.id]
    assert told.count("       Waiting for the old worker to end first") == 1
    assert "       worker.1 runs; its checks are off" in told


async def test_a_type_that_is_stopped_first_is_checked_all_the_same(blog: Core) -> None:
    app = await live_app(blog)
    async with blog.database.transaction() as tx:
        await set_property(tx, app=app.id, name="ps.strategy.worker", value="stop-first")
    overlaps = Overlaps(blog)
    deploy = await blog.push(app, files(2), commit="d" * 40)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert overlaps.seen == {"web"}
    assert "       worker.1 is ready" in blog.transcripts.lines[deploy.id]


async def test_a_disabled_web_process_is_down_meanwhile_and_served_again(blog: Core) -> None:
    app = await live_app(blog)
    await set_mode(blog, app, "disabled")
    overlaps = Overlaps(blog)
    deploy = await blog.push(app, files(2), commit="d" * 40)
    await blog.settle(within=300)
    assert (await blog.deploy(deploy)).status == "live"
    assert overlaps.seen == set()
    assert len(blog.proxy.upstreams(app.id)) == 1


async def test_the_old_one_comes_back_if_the_new_release_fails(blog: Core) -> None:
    app = await live_app(blog)
    await set_mode(blog, app, "disabled", [WORKER])
    overlaps = Overlaps(blog)

    async def unwell(check: object, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        return "It answers 500." if status.release == 2 else None

    blog.prober.probe = unwell  # type: ignore[method-assign,assignment]
    manifest = json.dumps({"healthchecks": {"web": [{"path": "/", "attempts": 1}]}})
    deploy = await blog.push(app, files(2, **{"app.json": manifest}), commit="d" * 40)
    await blog.settle()
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "checks")
    assert {(status.process, status.release) for status in blog.scheduler.running(app.id)} == {
        ("web", 1),
        ("worker", 1),
    }
    assert "worker" not in overlaps.seen


async def test_a_skipped_type_is_asked_nothing(blog: Core) -> None:
    app = await live_app(blog)
    await set_mode(blog, app, "skipped")
    blog.prober.asked.clear()
    overlaps = Overlaps(blog)
    deploy = await blog.push(app, files(2), commit="d" * 40)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    assert blog.prober.asked == []
    assert overlaps.seen == {"web", "worker"}


async def test_a_worker_is_checked_by_its_command(blog: Core) -> None:
    app = await live_app(blog)
    check = {"command": ["./is-well"], "attempts": 2, "wait": 0, "name": "queue"}
    manifest = json.dumps({"healthchecks": {"worker": [check]}})
    deploy = await blog.push(app, files(2, **{"app.json": manifest}), commit="d" * 40)
    await blog.settle()
    assert (await blog.deploy(deploy)).status == "live"
    asked = [(one.kind, one.command) for _, one in blog.prober.asked if one.name == "queue"]
    assert asked == [("command", ("./is-well",))]

    async def unwell(check: object, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        return "The queue is not there." if status.process == "worker" else None

    blog.prober.probe = unwell  # type: ignore[method-assign,assignment]
    refused = await blog.push(app, files(3, **{"app.json": manifest}), commit="e" * 40)
    await blog.settle()
    found = await blog.deploy(refused)
    assert (found.status, found.stage) == ("failed", "checks")
    assert "worker.1 is not ready: the check queue failed 2 times: The queue is not there." in (found.reason or "")
    assert [status.release for status in blog.scheduler.running(app.id)] == [2, 2]
