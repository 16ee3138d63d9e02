"""How a new replica shows that it is ready, and what the pusher is told of one that is not."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.flow import apps
from tests.support.rig import Checkout, Rig, rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

MEMORY = 24 << 20
"""Bytes that a replica of these tests may use; httpd needs one."""
START_SECONDS = 4.0
"""That a port may take to answer; 60 outside tests."""
SERVE = "exec httpd -f -p $PORT -h /www"
FEED = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
HEALTH = "HEALTHCHECK --interval=1s --timeout=1s --retries=2 CMD test -e /up || { echo not yet; exit 1; }\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def boat() -> AsyncIterator[Rig]:
    limits = {"memory_bytes": MEMORY, "start_seconds": START_SECONDS}
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        async with rig(Path(folder), replicas=limits) as r:
            yield r


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def steady(boat: Rig) -> Checkout:
    """An app that is live and says so, whatever is pushed to it next."""
    app = boat.checkout("steady", checked("echo steady > /www/index.html; " + SERVE))
    assert (await boat.git_push(app)).status == 0
    return app


def checked(command: str, *checks: dict[str, Any], more: str = "") -> dict[str, str]:
    """Return an app whose web process is a line of shell, with startup checks."""
    healthchecks = {"web": [{"type": "startup", **check} for check in checks]} if checks else {}
    return {**apps.shell(command, more=more), "app.json": json.dumps({"healthchecks": healthchecks})}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (checked("exec httpd -f -p 127.0.0.1:$PORT -h /www"), "It listens on 127.0.0.1:5000 only"),
        (checked("exec httpd -f -p 8123 -h /www"), "it listens on port 8123. Listen on 0.0.0.0, on the port in $PORT"),
        (checked("exec sleep 600"), "Nothing listens on port 5000."),
        (checked("echo done already"), "it exited with status 0"),
        (checked("echo no database; exit 3"), "it exited with status 3"),
        (checked(FEED), "it was killed because it used more memory than it may"),
        (checked(SERVE, more=HEALTH), "The image's HEALTHCHECK says unhealthy: not yet"),
        (checked(SERVE, {"path": "/"}, more=HEALTH), "The image's HEALTHCHECK says unhealthy: not yet"),
        (
            checked(SERVE, {"command": ["sh", "-c", "echo no queue >&2; exit 3"], "attempts": 1}),
            "ended with status 3: no queue",
        ),
        (
            checked("exec httpd -f -p 127.0.0.1:$PORT -h /www", {"listening": True, "attempts": 2, "wait": 0.5}),
            "It listens on 127.0.0.1:5000 only",
        ),
        (checked("httpd -p $PORT -h /www; sleep 1; exit 4", {"uptime": 3}), "it exited with status 4"),
        (checked(SERVE, {"path": "/none", "attempts": 2, "wait": 0.2}), "attempt 2 of 2: GET /none was answered with"),
        (
            checked("exec nc -ll -p $PORT -e sleep 60", {"path": "/", "attempts": 1, "timeout": 0.5}),
            "No answer within 0.5 s",
        ),
    ],
)
async def test_a_replica_that_is_not_ready_fails_its_deploy_with_the_reason(
    boat: Rig, steady: Checkout, files: dict[str, str], told: str
) -> None:
    steady.write(files)
    pushed = await boat.git_push(steady)
    assert pushed.status == 1
    assert told in pushed.err
    assert (await boat.http("steady.localhost")).text == "steady\n"


@pytest.mark.parametrize("ending", ["exit 3", "exec sleep 600"])
async def test_the_last_lines_of_a_replica_that_ends_or_never_gets_ready_are_shown(
    boat: Rig, steady: Checkout, ending: str
) -> None:
    steady.write(checked(f"seq 1 100; echo no database; {ending}"))
    pushed = await boat.git_push(steady)
    assert pushed.status == 1
    shown = [line.strip() for line in pushed.err.splitlines()]
    start = shown.index("=====> Start of steady container output (web.1)")
    end = shown.index("=====> End of steady container output (web.1)")
    said = [*(str(number) for number in range(1, 101)), "no database"]
    # The last of the thirty may be ours, about its end.
    assert [line for line in shown[start + 1 : end] if line in said][-29:] == said[-29:]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("late", checked("sleep 2; " + SERVE)),
        ("healthy", checked("httpd -p $PORT -h /www; sleep 2; touch /up; exec sleep 6000", more=HEALTH)),
        ("commanded", checked("sleep 1; touch /up; " + SERVE, {"command": ["test", "-e", "/up"], "wait": 0.5})),
        ("listening", checked("sleep 1; " + SERVE, {"listening": True, "attempts": 9, "wait": 0.5})),
        ("upright", checked(SERVE, {"uptime": 1})),
        ("delayed", checked("sleep 1; " + SERVE, {"path": "/", "attempts": 1, "initialDelay": 3})),
        ("retried", checked("sleep 2; " + SERVE, {"path": "/", "attempts": 20, "wait": 0.3, "timeout": 1})),
        ("warned", checked(SERVE, {"path": "/none", "attempts": 1, "warn": True})),
    ],
)
async def test_a_replica_that_gets_ready_in_its_time_goes_live(boat: Rig, name: str, files: dict[str, str]) -> None:
    app = boat.checkout(name, {**files, "Dockerfile": files["Dockerfile"] + "RUN echo here > /www/index.html\n"})
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    # The first visitor after the push finds it: it had no route before its check had passed.
    assert (await boat.http(f"{name}.localhost")).text == "here\n"


async def test_a_worker_has_to_stay_up_and_keeps_the_whole_release_back_otherwise(boat: Rig) -> None:
    web = "web: httpd -f -p $PORT -h /www"
    app = boat.checkout("works", apps.with_procfile("one", web, "worker: sleep 6000"))
    assert (await boat.git_push(app)).status == 0
    # At the first deploy there is one `web`, and nothing of the others.
    scale = json.loads(await boat.must("ps:scale", "works", "--format", "json"))
    assert {each["process_type"]: each["quantity"] for each in scale} == {"web": 1, "worker": 0}
    assert (await boat.ssh("ps:scale", "works", "worker=1")).status == 0
    # Nobody asks a worker anything, so it is given no port.
    given = await boat.ssh("enter", "works", "worker.1", "--", "sh", "-c", "'echo I am $DYNO at ${PORT-nothing}.'")
    assert given.out == "I am worker.1 at .\n"
    app.write(apps.with_procfile("two", web, "worker: sh -c 'echo no queue; sleep 0.3; exit 5'"))
    pushed = await boat.git_push(app)
    assert pushed.status == 1
    assert "worker.1 is not ready: it exited with status 5" in pushed.err
    assert "no queue" in pushed.err
    assert (await boat.http("works.localhost")).text == "version one\n"
    async with asyncio.timeout(30):
        while len(await boat.replicas("works")) != 2:
            await asyncio.sleep(0.1)


async def test_all_at_once_new_replicas_start_beside_the_old_ones_and_all_have_to_get_ready(boat: Rig) -> None:
    app = boat.checkout("wide", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    await boat.must("ps:set", "wide", "strategy", "all-at-once")
    assert (await boat.ssh("ps:scale", "wide", "web=3")).status == 0
    # Only the one that is called so gets ready.
    app.write(apps.shell("test $DYNO = web.2 && exec httpd -f -p $PORT -h /www; exec sleep 600"))
    push = asyncio.create_task(boat.git_push(app))
    async with asyncio.timeout(30):
        while len(await boat.replicas("wide")) != 6:
            await asyncio.sleep(0.02)
    assert (await boat.http("wide.localhost")).text == "version one\n"
    pushed = await push
    assert pushed.status == 1
    assert "web.2 is ready" in pushed.err
    assert "Nothing listens on port 5000" in pushed.err
    assert (await boat.http("wide.localhost")).text == "version one\n"
    async with asyncio.timeout(30):
        while len(await boat.replicas("wide")) != 3:
            await asyncio.sleep(0.1)
