"""An agent that may open no further file: what is new waits, what runs goes on, and it recovers by itself."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from tests.flow import apps
from tests.support.rig import Rig

pytestmark = pytest.mark.real


def agent_of(rig: Rig) -> int:
    assert rig.boat.agent is not None
    return rig.boat.agent.pid


async def test_without_a_file_to_be_had_new_work_waits_and_the_app_serves(lone_boat: Rig) -> None:
    rig = lone_boat
    app = rig.checkout("blog", apps.page("one"))
    assert (await rig.git_push(app)).status == 0
    agent = agent_of(rig)
    soft, hard = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    following = await rig.spawn(*rig.boat.ssh_command(("logs", "blog", "-t")))
    assert following.stdout is not None
    try:
        # Once it shows what the app says, the follower has every file that it needs.
        await rig.must("enter", "blog", "web.1", "--", "sh", "-c", "'echo followed >/proc/1/fd/1'")
        async with asyncio.timeout(60):
            while b"followed" not in await following.stdout.readline():
                assert not following.stdout.at_eof(), "it ended instead of following"
        resource.prlimit(agent, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{agent}/fd")), hard))
        asked = [asyncio.create_task(rig.ssh("apps:list")) for _ in range(3)]
        async with asyncio.timeout(60):
            while "ssh.cannot-accept" not in rig.log:
                assert (await rig.http("blog.localhost")).text == "version one\n"
                await asyncio.sleep(0.05)
        assert following.returncode is None and not all(task.done() for task in asked)
        resource.prlimit(agent, resource.RLIMIT_NOFILE, (soft, hard))
        assert [(await task).status for task in asked] == [0, 0, 0]
    finally:
        following.kill()
        await following.wait()
    app.write(apps.page("two"))
    assert (await rig.git_push(app)).status == 0
    assert (await rig.http("blog.localhost")).text == "version two\n"
    assert agent_of(rig) == agent, "it never ended"
    assert "Traceback" not in rig.log
