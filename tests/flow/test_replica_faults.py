"""Replicas that go wrong by themselves or by hand: each is told by its cause, and mended as far as it can be."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flow import apps
from tests.support.rig import BASE, Rig, rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

MEMORY = 24 << 20
"""Bytes that a replica of these tests may use; httpd needs one."""


def patient(files: dict[str, str], seconds: float) -> dict[str, str]:
    """Return the app with a check that has its port listen within some seconds."""
    attempts = round(seconds / 0.5)
    check = {"name": "up", "type": "startup", "path": "/", "attempts": attempts, "wait": 0.5, "timeout": 1}
    return {**files, "app.json": json.dumps({"healthchecks": {"web": [check]}})}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def boat() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        async with rig(Path(folder), replicas={"memory_bytes": MEMORY}) as r:
            yield r


async def losses(boat: Rig, app: str) -> list[str]:
    """Return why replicas of the app were lost, oldest first."""
    events = json.loads(await boat.must("events", "--app", app, "-n", "500", "--format", "json"))
    return [event["facts"]["reason"] for event in events if event["type"] == "replica.lost"]


async def until_lost(boat: Rig, app: str, reason: str, *, times: int = 1, seconds: float = 60.0) -> None:
    """Wait until replicas of the app were lost so often for that reason."""
    async with asyncio.timeout(seconds):
        while sum(reason in each for each in await losses(boat, app)) < times:
            await asyncio.sleep(0.1)


async def test_an_app_that_ends_again_and_again_is_started_less_and_less_often_and_told_why(boat: Rig) -> None:
    crashing = "httpd -p $PORT -h /www; sleep 1; exit 3"
    app = boat.checkout("crashes", apps.shell(crashing))
    assert (await boat.git_push(app)).status == 0
    # A busy engine may have started it again before anybody looked, which is told in other words.
    await until_lost(boat, "crashes", "", times=4)
    await until_lost(boat, "crashes", "exited with status 3")
    report = json.loads(await boat.must("ps:report", "crashes", "--format", "json"))
    assert report["restore"] == "true"
    app.write(apps.page("mended"))
    assert (await boat.git_push(app)).status == 0
    assert (await boat.page("crashes.localhost", "version mended")).status == 200


async def test_a_replica_that_takes_too_much_memory_is_lost_for_that_reason(boat: Rig) -> None:
    hungry = "httpd -p $PORT -h /www; sleep 1; dd if=/dev/zero of=/dev/null bs=100M count=1"
    assert (await boat.git_push(boat.checkout("hungry", apps.shell(hungry)))).status == 0
    await until_lost(boat, "hungry", "used more memory than it may")


@pytest.mark.parametrize(
    ("name", "command", "told"),
    [
        ("loopback", "exec httpd -f -p 127.0.0.1:$PORT -h /www", "127.0.0.1:5000 only"),
        ("elsewhere", "exec httpd -f -p 8123 -h /www", "port 8123"),
        ("nowhere", "exec sleep 600", "Nothing listens on port 5000"),
    ],
)
async def test_an_app_that_cannot_be_reached_is_told_where_it_listens(
    boat: Rig, name: str, command: str, told: str
) -> None:
    pushed = await boat.git_push(boat.checkout(name, patient(apps.shell(command), seconds=1)))
    assert pushed.status == 1
    assert told in pushed.err


async def test_an_app_that_starts_late_is_waited_for(boat: Rig) -> None:
    late = "sleep 4; exec httpd -f -p $PORT -h /www"
    app = boat.checkout("late", {**apps.shell(late)})
    assert (await boat.git_push(app)).status == 0


async def test_an_app_that_ignores_sigterm_is_ended_after_its_time_and_keeps_nobody_waiting(boat: Rig) -> None:
    deaf = "sh -c 'trap \"\" TERM; httpd -p $PORT -h /www; while true; do sleep 1; done'"
    app = boat.checkout("deaf", apps.shell(deaf))
    assert (await boat.git_push(app)).status == 0
    await boat.must("ps:set", "deaf", "stop-timeout-seconds", "2")
    app.write(apps.page("two"))
    assert (await boat.git_push(app)).status == 0
    assert (await boat.http("deaf.localhost")).text == "version two\n"
    async with asyncio.timeout(60):
        while len(await boat.replicas("deaf")) != 1:
            await asyncio.sleep(0.1)


async def test_a_missing_image_is_told_and_a_rebuild_brings_it_back(boat: Rig) -> None:
    app = boat.checkout("lost", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    (container,) = await boat.replicas("lost")
    image = (await boat.docker("inspect", "--format", "{{.Image}}", container)).out.strip()
    await boat.must("ps:stop", "lost")
    assert (await boat.docker("rmi", "--force", image)).status == 0
    restarted = await boat.ssh("ps:restart", "lost")
    assert restarted.status == 1
    assert "ps:rebuild" in restarted.out + restarted.err
    rebuilt = await boat.ssh("ps:rebuild", "lost")
    assert rebuilt.status == 0, rebuilt.err
    assert (await boat.page("lost.localhost", "version one")).status == 200


async def test_a_rollback_whose_image_somebody_removed_is_refused_and_what_runs_goes_on(boat: Rig) -> None:
    app = boat.checkout("goneback", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    first = await image_of(boat, "goneback")
    app.write(apps.page("two"))
    assert (await boat.git_push(app)).status == 0
    assert await boat.is_at_rest()
    running = await boat.replicas("goneback")
    assert (await boat.docker("rmi", "--force", first)).status == 0
    refused = await boat.ssh("releases:rollback", "goneback", "v1")
    assert refused.status == 1
    assert "The image of v1 is not on this machine any more" in refused.err and "Push its commit again" in refused.err
    # Those of what runs: the engine lets go of the names, and what runs neither ends nor is started anew.
    tags = (await boat.docker("inspect", "--format", '{{join .RepoTags " "}}', await image_of(boat, "goneback"))).out
    assert (await boat.docker("rmi", "--force", *tags.split())).status == 0
    assert (await boat.ssh("ps:report", "goneback")).status == 0
    assert (await boat.http("goneback.localhost")).text == "version two\n"
    assert await boat.replicas("goneback") == running


async def image_of(boat: Rig, app: str) -> str:
    (container,) = await boat.replicas(app)
    return (await boat.docker("inspect", "--format", "{{.Image}}", container)).out.strip()


async def test_a_strangers_container_of_our_name_is_left_alone_and_in_nobodys_way(boat: Rig) -> None:
    assert (await boat.docker("create", "--name", "taken.web.1.v1", BASE, "true")).status == 0
    try:
        assert (await boat.git_push(boat.checkout("taken", apps.page("one")))).status == 0
        assert (await boat.http("taken.localhost")).text == "version one\n"
        assert (await boat.docker("inspect", "taken.web.1.v1")).status == 0
    finally:
        await boat.docker("rm", "--force", "taken.web.1.v1")
