"""HAProxy killed, frozen and edited by hand, while apps are deployed and visited."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.proxies.haproxy.control import Master
from tests.flow import apps
from tests.support.figures import Record, timed
from tests.support.rig import Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

DRIFT_SECONDS = 60.0
"""Until a hand's work is undone. The proxy is looked at every 30 s."""


@contextmanager
def frozen(boat: Rig) -> Iterator[None]:
    """Make HAProxy hang, all its processes, for the block."""
    pids = boat.proxy_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def by_hand(boat: Rig, order: str) -> None:
    """Give HAProxy's worker an order behind the agent's back."""
    master = Master(boat.data / "proxy" / "sockets" / "master.sock")
    async with master.worker((await master.processes()).current.pid) as worker:
        await worker.order(order)


async def test_a_proxy_killed_during_a_deploy_comes_back_and_the_deploy_goes_live(
    boat: Rig, record_property: Record
) -> None:
    app = boat.checkout("killed", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.page("two", more="RUN sleep 1\n"))
    push = asyncio.create_task(boat.git_push(app))
    await boat.until_deploy("killed", "building")
    for pid in boat.proxy_pids():
        os.kill(pid, signal.SIGKILL)
    with timed(record_property, "HAProxy killed, until the page is there"):
        await boat.page("killed.localhost", "version ")
    pushed = await push
    assert pushed.status == 0, pushed.err
    assert (await boat.page("killed.localhost", "version two")).status == 200


async def test_new_apps_deploys_scales_and_config_changes_need_no_reload(boat: Rig) -> None:
    master = Master(boat.data / "proxy" / "sockets" / "master.sock")
    before = await master.processes()
    for name in ("fresh", "fresher"):
        app = boat.checkout(name, apps.page("one"))
        assert (await boat.git_push(app)).status == 0
        app.write({"index.html": "version two\n"})
        assert (await boat.git_push(app)).status == 0
        await boat.must("config:set", name, "A=1")
        await boat.must("ps:scale", name, "web=2")
        await boat.must("domains:add", name, f"*.{name}.example.com")
        assert (await boat.page(f"www.{name}.example.com", "version two")).status == 200
    after = await master.processes()
    assert (after.master, after.reloads, after.current.pid) == (before.master, before.reloads, before.current.pid)


async def test_a_proxy_that_hangs_fails_the_deploy_before_it_switches(boat: Rig) -> None:
    app = boat.checkout("hangs", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write({"index.html": "version two\n"})
    await app.commit()
    with frozen(boat):
        push = await boat.spawn("git", "push", boat.boat.remote("hangs"), "main", folder=app.folder)
        assert push.stderr is not None
        said = ""
        async with asyncio.timeout(60):
            while "the deploy fails, and what serves now goes on serving" not in said:
                said += (await push.stderr.readline()).decode()
            # The pusher knows what he waits for while there is still something to wait for.
            assert " !     The proxy has not answered for 3 s.\n" in said
            assert json.loads(await boat.must("deploys", "hangs", "--format", "json"))[0]["status"] == "switching"
            said += (await push.stderr.read()).decode()
            assert await push.wait() == 1
    assert "The deploy failed (switch): " in said and "v1 goes on serving" in said
    assert (await boat.http("hangs.localhost")).text == "version one\n"
    # The same commit again, now that it answers.
    assert (await boat.git_push(app)).status == 0
    assert (await boat.http("hangs.localhost")).text == "version two\n"


async def test_commands_are_answered_while_the_proxy_hangs_and_the_doctor_names_it(boat: Rig) -> None:
    assert (await boat.git_push(boat.checkout("answered", apps.page("one")))).status == 0
    await _the_doctor_looks_at_the_machine_too(boat)
    with frozen(boat):
        told = await boat.ssh("doctor")
        assert told.status == 1
        problems = told.out.partition("=====> HAProxy: not in order\n")[2]
        assert problems.startswith(" !     ") and "\n       " in problems, "with what to do"
        await boat.must("domains:add", "answered", "new.example.com")
        assert "new.example.com" in await boat.must("urls", "answered")
        assert "running" in await boat.must("ps:report", "answered")
        await boat.must("ps:scale", "answered", "web=2")
    assert (await boat.page("new.example.com", "version one")).status == 200


async def _the_doctor_looks_at_the_machine_too(boat: Rig) -> None:
    key = boat.data / "key"
    key.chmod(0o644)
    told = await boat.ssh("doctor")
    key.chmod(0o600)
    assert told.status == 1
    assert "=====> HAProxy: in order\n" in told.out
    problems = told.out.partition("=====> Machine: not in order\n")[2].partition("=====>")[0]
    assert f" !     Others may read {key}.\n       Take that back: chmod go= {key}\n" in problems
    assert "Nothing answers at" not in problems, "ssh and HTTP do"


async def test_what_a_hand_changes_in_the_proxy_is_undone(boat: Rig, record_property: Record) -> None:
    assert (await boat.git_push(boat.checkout("edited", apps.page("one")))).status == 0
    (map_file,) = [path for path in (boat.data / "proxy").glob("*.map") if "edited.localhost" in path.read_text()]
    kept = map_file.read_bytes()
    map_file.write_bytes(b"")
    await by_hand(boat, f"del map {map_file} edited.localhost")
    assert (await boat.http("edited.localhost")).status == 404
    with timed(record_property, "HAProxy changed by hand, until the page is there again"):
        assert (await boat.page("edited.localhost", "version one", seconds=DRIFT_SECONDS)).status == 200
    async with asyncio.timeout(DRIFT_SECONDS):
        while map_file.read_bytes() != kept:
            await asyncio.sleep(0.1)
