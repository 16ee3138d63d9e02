"""The agent ends, or its disk fails, at a sync of a deploy: nothing acknowledged is lost, and all comes to rest."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.flow import apps
from tests.support.rig import ENDED, PAUSE_SECONDS, Checkout, Rig
from tests.support.straced import FAIL, KILL, Straced

pytestmark = pytest.mark.real

STEP = int(os.environ.get("PUSHBOAT_TEST_SYNC_STEP", "10"))
"""1: every sync of a deploy is tried, as ``scripts/torture syncs`` does; 10: every tenth."""


async def test_an_agent_that_ends_or_meets_a_failing_disk_at_a_sync_loses_nothing(
    lone_boat: Rig, tmp_path: Path
) -> None:
    checkout = lone_boat.checkout("blog", apps.page("0"))
    assert (await lone_boat.git_push(checkout)).status == 0
    strace = Straced(lone_boat.boat, tmp_path)
    first, last = await _syncs_of_a_deploy(lone_boat, checkout, strace)
    assert last - first > 5
    met = [
        await _deploy(lone_boat, checkout, strace, meddling, at=at)
        for offset, meddling in enumerate((KILL, FAIL))
        for at in range(first + 1 + offset, last + 1, STEP)
    ]
    # Work that nobody waits for (upkeep, the end of a drain) may come later than the time that a push takes.
    assert sum(met) >= len(met) * 2 / 3, met


async def _syncs_of_a_deploy(rig: Rig, checkout: Checkout, strace: Straced) -> tuple[int, int]:
    """Return how many syncs a thread has made when the agent has started, and when a push was live and came to rest."""
    strace.on()
    await rig.restart_agent()
    # An agent that has just answered commits what its start is about: those syncs are none of a deploy.
    assert await rig.is_tidy("blog")
    await asyncio.sleep(1)
    started = strace.syncs
    checkout.write({"index.html": "version counted\n"})
    assert (await rig.git_push(checkout)).status == 0
    assert await rig.is_tidy("blog")
    return started, strace.syncs


async def _deploy(rig: Rig, checkout: Checkout, strace: Straced, meddling: str, *, at: int) -> bool:
    """Push into an agent that meets its end at sync `at`; start it again, and look. Return whether that end came."""
    strace.on(meddling, at=at)
    await rig.restart_agent()
    agent = rig.boat.agent
    version = f"{meddling} at {at}"
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
