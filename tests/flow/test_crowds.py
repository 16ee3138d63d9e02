"""What crowds cost the agent, seen from outside: its memory. How many are served how soon stands in ``bench/ssh``."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.support.rig import Rig
from tests.support.watched_memory import Growth

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

PUSH_BYTES = 60 << 20
GROWTH_BYTES = 24 << 20
"""What a push may add: a window of 2 MiB, what is on its way to git, and what Python's memory loses between."""


async def test_a_large_push_is_not_held_in_memory_and_commands_are_answered_meanwhile(boat: Rig) -> None:
    checkout = boat.checkout("blog", {"index.html": "hello\n"})
    for number in range(6):
        (checkout.folder / f"noise-{number}").write_bytes(os.urandom(PUSH_BYTES // 6))
    await checkout.git("init", "-q", "-b", "main")
    await checkout.git("config", "core.compression", "0")
    await checkout.commit()
    await boat.must("apps:create", "blog")
    await boat.must("git:set", "blog", "deploy-branch", "other")
    agent = boat.boat.agent
    assert agent
    growth = Growth(agent.pid)
    command = ("git", "push", checkout.remote, "main")
    pushing = asyncio.create_task(boat.run(*command, folder=checkout.folder))
    while not list(boat.data.glob("repos/*/objects/tmp_objdir-*")):
        assert not pushing.done()
        await asyncio.sleep(0.01)
    answered_before_its_end = 0
    for _ in range(20):
        await boat.must("apps:report", "blog")
        answered_before_its_end += not pushing.done()
    pushed = await pushing
    assert pushed.status == 0, pushed.err
    assert answered_before_its_end > 0
    assert growth.most < GROWTH_BYTES < PUSH_BYTES
    tip = await checkout.git("rev-parse", "main")
    assert (await checkout.git("ls-remote", checkout.remote, "refs/heads/main")).split()[0] == tip.strip()
