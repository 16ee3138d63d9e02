"""The agent ends at a sync or write of a deploy, or its disk fails: nothing acknowledged is lost, all comes to rest."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.flow import apps
from tests.support.rig import ENDED, PAUSE_SECONDS, Checkout, Rig
from tests.support.straced import FAIL, KILL, SYNC, WRITE, Call, Straced

pytestmark = pytest.mark.real

STEP = int(os.environ.get("PUSHBOAT_TEST_SYNC_STEP", "10"))
"""1: every sync and write of a deploy is tried, as ``scripts/torture syncs`` does; 10: every tenth sync, few writes."""
FEW_WRITES = 2
"""There are some five before each sync, and SQLite promises nothing of them until that has come."""


async def test_an_agent_that_ends_or_meets_a_failing_disk_at_a_sync_or_a_write_loses_nothing(
    lone_boat: Rig, tmp_path: Path
) -> None:
    checkout = lone_boat.checkout("blog", apps.page("0"))
    assert (await lone_boat.git_push(checkout)).status == 0
    strace = Straced(lone_boat.boat, tmp_path)
    syncs, writes = await _calls_of_a_deploy(lone_boat, checkout, strace)
    assert len(syncs) > 5 and len(writes) > len(syncs)
    few = slice(len(writes) // (2 * FEW_WRITES), None, len(writes) // FEW_WRITES)
    tried: list[tuple[str, Call, int]] = [
        *((KILL, SYNC, at) for at in syncs[::STEP]),
        *((FAIL, SYNC, at) for at in syncs[1::STEP]),
        *((KILL, WRITE, at) for at in (writes if STEP == 1 else writes[few])),
    ]
    met = [await _deploy(lone_boat, checkout, strace, *what) for what in tried]
    print(f"syncs {syncs} and writes {writes} are a deploy's; met: {list(zip(tried, met, strict=True))}")
    # Work that nobody waits for (upkeep, the end of a drain) may come later than the time that a push takes.
    assert sum(met) >= len(met) * 2 / 3, list(zip(tried, met, strict=True))


async def _calls_of_a_deploy(rig: Rig, checkout: Checkout, strace: Straced) -> tuple[range, range]:
    """Return which syncs and which writes of a thread are of a push, counted from the agent's start on."""
    strace.on()
    await rig.restart_agent()
    # An agent that has just answered commits what its start is about: those syncs are none of a deploy.
    assert await rig.is_tidy("blog")
    await asyncio.sleep(1)
    started = [strace.count(call) for call in (SYNC, WRITE)]
    checkout.write({"index.html": "version counted\n"})
    assert (await rig.git_push(checkout)).status == 0
    assert await rig.is_tidy("blog")
    syncs, writes = (
        range(before + 1, strace.count(call) + 1) for before, call in zip(started, (SYNC, WRITE), strict=True)
    )
    return syncs, writes


async def _deploy(rig: Rig, checkout: Checkout, strace: Straced, meddling: str, call: Call, at: int) -> bool:
    """Push into an agent that meets its end at call `at`; start it again, and look. Return whether that end came."""
    strace.on(meddling, call=call, at=at)
    await rig.restart_agent()
    agent = rig.boat.agent
    version = f"{meddling} at {call} {at}"
    checkout.write({"index.html": f"version {version}\n"})
    pushed = await rig.git_push(checkout)
    strace.off()
    if is_met := await _ends(rig, seconds=3 if pushed.status == 0 else 30):
        await rig.start_agent()
    # None: it met its end as soon as it had answered.
    assert is_met != (agent is not None and agent.is_alive)
    assert await rig.is_tidy("blog"), version
    deploys = json.loads(await rig.must("deploys", "blog", "--format", "json"))
    assert all(deploy["status"] in ENDED for deploy in deploys)
    tip = (await checkout.git("rev-parse", "HEAD")).strip()
    is_accepted = deploys[0]["commit"] == tip
    assert is_accepted or pushed.status != 0, pushed
    stored = (await checkout.git("ls-remote", checkout.remote, "refs/heads/main")).split()[0]
    assert stored == deploys[0]["commit"], "the branch is at a commit that nobody deployed"
    live = next(one for one in json.loads(await rig.must("releases", "blog", "--format", "json")) if one["is_live"])
    page = (await rig.http("blog.localhost")).text
    assert page == await checkout.git("show", f"{live['commit']}:index.html")
    if is_accepted and deploys[0]["status"] == "live":
        assert live["commit"] == tip
    checked = await asyncio.to_thread(rig.boat.check)
    assert checked.returncode == 0, checked
    return is_met


async def _ends(rig: Rig, *, seconds: float) -> bool:
    """Wait for the agent's end; return whether it came."""
    for _ in range(int(seconds / PAUSE_SECONDS)):
        if rig.boat.agent is None:
            return True
        await asyncio.sleep(PAUSE_SECONDS)
    return False
