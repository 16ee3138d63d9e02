"""Rolling deploys in virtual time: who serves at each moment, how many run, and what comes of a batch that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.lifecycle import apps, deploys, replicas
from agent.lifecycle.properties import set_property
from agent.state.apps import App
from agent.state.deploys import Deploy
from proto.names import WEB, ProcessType
from tests.fakes.core import Core, core
from tests.simulation.mortal import Process
from tests.simulation.virtual import VirtualClock, run

pytestmark = pytest.mark.slow

COUNT = 3
WORKER = ProcessType("worker")
PROCFILE = "web: ./serve\nworker: ./work\n"


def files(version: int, **more: str) -> dict[str, str]:
    return {"Dockerfile": f"FROM scratch\nEXPOSE {8000 + version}\n", "Procfile": PROCFILE, **more}


def in_virtual_time(act: Callable[[Core], Awaitable[None]]) -> Callable[[Path], None]:
    """Return a test that does `act` with an agent at work."""

    def test(tmp_path: Path) -> None:
        async def main() -> None:
            async with core(tmp_path, clock=VirtualClock(), opener=Process().open) as c:
                await c.global_domain()
                async with c.bus.delivering():
                    await act(c)

        run(main())

    return test


class Rollout:
    """An app with some replicas, and what is seen of its deploys."""

    def __init__(self, c: Core, app: App) -> None:
        self.core = c
        self.app = app
        self.since = 0

    async def push(self, version: int, **more: str) -> Deploy:
        """Push, and look from here on."""
        self.since = len(self.core.proxy.tables)
        self.core.scheduler.most.clear()
        return await self.core.push(self.app, files(version, **more), commit=f"{version}" * 40)

    async def scale(self, **quantities: int) -> None:
        async with self.core.database.transaction() as tx:
            wanted = {ProcessType(process): count for process, count in quantities.items()}
            await apps.scale(tx, app=self.app, quantities=wanted)

    async def set(self, name: str, value: str) -> None:
        async with self.core.database.transaction() as tx:
            await set_property(tx, app=self.app.id, name=name, value=value)

    def most(self, process: ProcessType) -> int:
        """Return how many containers of the type there were at most since the push."""
        return self.core.scheduler.most[self.app.id, process]

    def routed(self) -> list[list[int]]:
        """Return the releases of the upstreams in each table since the push, where these changed."""
        seen: list[list[int]] = []
        for table in self.core.proxy.tables[self.since :]:
            ports = sorted(upstream.port - 8000 for upstream in table[self.app.id].upstreams)
            if not seen or seen[-1] != ports:
                seen.append(ports)
        return seen

    def course(self, *, of: int) -> list[int]:
        """Return how many replicas of a release were routed, one after another. There were always enough in all."""
        counts: list[int] = []
        for releases in self.routed():
            assert len(releases) in (3, 4)
            if not counts or counts[-1] != releases.count(of):
                counts.append(releases.count(of))
        return counts

    def running(self) -> list[str]:
        """Return what runs, as ``web.1 v2``."""
        found = self.core.scheduler.running(self.app.id)
        return sorted(f"{status.process}.{status.number} v{status.release}" for status in found)


async def live(c: Core, *, web: int, worker: int = 0) -> Rollout:
    """Return an app whose first release is live with so many replicas."""
    rollout = Rollout(c, await c.create())
    await rollout.scale(web=web, worker=worker)
    await c.push(rollout.app, files(1))
    await asyncio.sleep(100.0)
    return rollout


@in_virtual_time
async def test_new_replicas_take_the_place_of_old_ones_batch_by_batch(blog: Core) -> None:
    rollout = await live(blog, web=3)
    deploy = await rollout.push(2)
    await asyncio.sleep(100.0)
    assert (await blog.deploy(deploy)).status == "live"
    assert rollout.course(of=2) == [0, 1, 2, 3]
    assert rollout.most(WEB) == 4
    assert rollout.running() == ["web.1 v2", "web.2 v2", "web.3 v2"]
    told = blog.transcripts.lines[deploy.id]
    assert told.count("-----> Starting v2 (web=1)") == 3
    assert told.count("       Batch by batch: the rest of web follows as those before take the place of old ones") == 1


@in_virtual_time
async def test_a_batch_is_as_large_as_app_json_says(blog: Core) -> None:
    rollout = await live(blog, web=4)
    manifest = json.dumps({"formation": {"web": {"max_parallel": 2}}})
    await rollout.push(2, **{"app.json": manifest})
    await asyncio.sleep(100.0)
    assert rollout.most(WEB) == 6
    assert rollout.running() == [f"web.{number} v2" for number in range(1, 5)]
    assert all(len(releases) >= 4 for releases in rollout.routed())


@in_virtual_time
async def test_workers_are_replaced_batch_by_batch_too(blog: Core) -> None:
    rollout = await live(blog, web=1, worker=3)
    deploy = await rollout.push(2)
    await asyncio.sleep(100.0)
    assert (await blog.deploy(deploy)).status == "live"
    assert rollout.most(WORKER) == 4
    assert rollout.running() == ["web.1 v2", "worker.1 v2", "worker.2 v2", "worker.3 v2"]


@in_virtual_time
async def test_a_single_web_process_serves_only_when_all_of_its_release_is_ready(blog: Core) -> None:
    rollout = await live(blog, web=1, worker=1)
    manifest = json.dumps({"healthchecks": {"worker": [{"command": ["./is-well"], "attempts": 2, "wait": 5}]}})
    blog.prober.refused[2, "worker.1"] = "The queue is not there."
    deploy = await rollout.push(2, **{"app.json": manifest})
    await asyncio.sleep(100.0)
    assert (await blog.deploy(deploy)).status == "failed"
    assert all(releases == [1] for releases in rollout.routed())
    assert rollout.running() == ["web.1 v1", "worker.1 v1"]


@in_virtual_time
async def test_a_batch_that_fails_brings_back_the_old_release_with_its_full_count(blog: Core) -> None:
    rollout = await live(blog, web=3)
    blog.prober.refused[2, "web.3"] = "It answers 500."
    deploy = await rollout.push(2)
    await asyncio.sleep(200.0)
    found = await blog.deploy(deploy)
    assert (found.status, found.stage) == ("failed", "checks")
    assert rollout.course(of=2) == [0, 1, 2, 1, 0]
    assert rollout.most(WEB) == 4
    assert rollout.running() == ["web.1 v1", "web.2 v1", "web.3 v1"]
    row = await blog.database.read.apps.get(rollout.app.id)
    assert row is not None and row.live_release == 1


@in_virtual_time
async def test_what_serves_in_place_of_old_ones_finishes_its_requests_when_its_release_is_given_up(blog: Core) -> None:
    rollout = await live(blog, web=2)
    blog.prober.refused[2, "web.2"] = "It answers 500."
    await rollout.push(2)
    await asyncio.sleep(20.0)
    (new,) = [status.replica for status in blog.scheduler.running(rollout.app.id) if status.number == 1]
    blog.proxy.sessions[new] = 1
    blog.prober.refused.clear()
    (under_way,) = await blog.database.read.deploys.under_way()
    async with blog.database.transaction() as tx:
        assert await deploys.cancel(tx, deploy=under_way, by="ada")
    await asyncio.sleep(20.0)
    assert rollout.routed()[-1] == [1, 1]
    assert new in blog.scheduler.containers
    await asyncio.sleep(100.0)
    assert rollout.running() == ["web.1 v1", "web.2 v1"]


@in_virtual_time
async def test_a_newer_push_in_the_middle_takes_the_place_of_both(blog: Core) -> None:
    rollout = await live(blog, web=3)
    blog.prober.refused[2, "web.2"] = "It answers 500."
    older = await rollout.push(2)
    await asyncio.sleep(10.0)
    assert rollout.routed()[-1] == [1, 1, 2]
    since, most = rollout.since, rollout.most(WEB)
    newer = await rollout.push(3)
    rollout.since = since
    await asyncio.sleep(100.0)
    assert (await blog.deploy(older)).status == "superseded"
    assert (await blog.deploy(newer)).status == "live"
    assert max(most, rollout.most(WEB)) == 4
    assert all(len(releases) >= 3 for releases in rollout.routed())
    assert rollout.running() == ["web.1 v3", "web.2 v3", "web.3 v3"]


def scaling_to(count: int, *, most: int) -> Callable[[Path], None]:
    @in_virtual_time
    async def test(blog: Core) -> None:
        rollout = await live(blog, web=COUNT)
        blog.prober.refused[2, "web.2"] = "It answers 500."
        deploy = await rollout.push(2)
        await asyncio.sleep(10.0)
        await rollout.scale(web=count)
        await asyncio.sleep(5.0)
        release = await blog.database.read.releases.get(rollout.app.id, 1)
        assert release is not None
        assert await replicas.are_enough(blog.database.read, release=release) == (count <= COUNT)
        blog.prober.refused.clear()
        await asyncio.sleep(100.0)
        assert (await blog.deploy(deploy)).status == "live"
        assert all(len(releases) >= min(COUNT, count) for releases in rollout.routed())
        assert rollout.most(WEB) <= most
        assert rollout.running() == [f"web.{number} v2" for number in range(1, count + 1)]

    return test


test_scaling_down_to_one_in_the_middle_ends_with_one_of_the_new_release = scaling_to(1, most=4)
test_scaling_down_in_the_middle_ends_with_as_many_of_the_new_release = scaling_to(2, most=4)
test_scaling_up_in_the_middle_ends_with_as_many_of_the_new_release = scaling_to(6, most=7)


def test_a_new_agent_goes_on_with_a_rollout_where_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with core(tmp_path, clock=VirtualClock(), opener=Process().open) as c:
            async with c.bus.delivering():
                rollout = await live(c, web=3)
                c.prober.refused[2, "web.2"] = "It answers 500."
                deploy = await rollout.push(2)
                await asyncio.sleep(10.0)
            before = set(c.scheduler.containers)
            assert len(before) == 4
            async with c.new_bus().delivering():
                await asyncio.sleep(5.0)
                assert set(c.scheduler.containers) == before
                c.prober.refused.clear()
                await asyncio.sleep(100.0)
            assert (await c.deploy(deploy)).status == "live"
            assert rollout.most(WEB) == 4
            assert all(len(releases) >= 3 for releases in rollout.routed())

    run(main())


@in_virtual_time
async def test_a_deploy_ends_by_the_strategy_that_it_began_with(blog: Core) -> None:
    rollout = await live(blog, web=3)
    blog.prober.refused[2, "web.2"] = "It answers 500."
    await rollout.push(2)
    await asyncio.sleep(10.0)
    await rollout.set("ps.strategy", "all-at-once")
    await asyncio.sleep(5.0)
    blog.prober.refused.clear()
    await asyncio.sleep(100.0)
    assert rollout.most(WEB) == 4
    await rollout.push(3)
    await asyncio.sleep(100.0)
    assert rollout.most(WEB) == 6
    assert rollout.routed() == [[2, 2, 2], [3, 3, 3]]


@in_virtual_time
async def test_what_is_stopped_or_destroyed_in_the_middle_leaves_nothing(blog: Core) -> None:
    rollout = await live(blog, web=3)
    blog.prober.refused[2, "web.2"] = "It answers 500."
    deploy = await rollout.push(2)
    await asyncio.sleep(10.0)
    async with blog.database.transaction() as tx:
        await apps.stop(tx, app=rollout.app)
        await deploys.cancel(tx, deploy=await blog.deploy(deploy), by="ada")
    await asyncio.sleep(100.0)
    assert rollout.running() == []
    async with blog.database.transaction() as tx:
        await apps.start(tx, app=rollout.app)
    await asyncio.sleep(100.0)
    assert rollout.running() == ["web.1 v1", "web.2 v1", "web.3 v1"]
    await rollout.push(2)
    await asyncio.sleep(10.0)
    async with blog.database.transaction() as tx:
        await apps.destroy(tx, app=rollout.app)
    await asyncio.sleep(100.0)
    assert blog.scheduler.containers == {}


@in_virtual_time
async def test_the_image_of_a_release_that_was_given_up_is_kept_while_its_replicas_serve(blog: Core) -> None:
    rollout = await live(blog, web=3)
    blog.prober.refused[2, "web.3"] = "It answers 500."
    deploy = await rollout.push(2)
    await asyncio.sleep(30.0)
    blog.prober.refused[1, "web.1"] = "It answers 500."
    async with blog.database.transaction() as tx:
        await deploys.cancel(tx, deploy=await blog.deploy(deploy), by="ada")
    await asyncio.sleep(20.0)
    assert {status.release for status in blog.scheduler.running(rollout.app.id)} == {1, 2}
    assert len(blog.images.by_id) == 2
    blog.prober.refused.clear()
    await asyncio.sleep(300.0)
    assert rollout.running() == ["web.1 v1", "web.2 v1", "web.3 v1"]
    assert len(blog.images.by_id) == 1


@in_virtual_time
async def test_a_check_goes_on_counting_its_attempts_while_others_are_replaced(blog: Core) -> None:
    rollout = await live(blog, web=4, worker=1)
    check = {"command": ["./is-well"], "attempts": 3, "wait": 4, "name": "queue"}
    blog.prober.refused[2, "worker.1"] = "The queue is not there."
    deploy = await rollout.push(2, **{"app.json": json.dumps({"healthchecks": {"worker": [check]}})})
    await asyncio.sleep(100.0)
    assert "the check queue failed 3 times" in ((await blog.deploy(deploy)).reason or "")
    told = [line for line in blog.transcripts.lines[deploy.id] if "queue, attempt" in line]
    assert [line.partition("attempt ")[2][:1] for line in told] == ["1", "2", "3"]
    assert rollout.running() == ["web.1 v1", "web.2 v1", "web.3 v1", "web.4 v1", "worker.1 v1"]
