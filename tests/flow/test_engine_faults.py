"""Docker restarted, killed and frozen, seen by visitors and by those who push: a private engine takes the beating."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flow import apps
from tests.support.figures import Record, timed
from tests.support.private_engine import PrivateEngine, private_engine
from tests.support.rig import PAUSE_SECONDS, Rig, rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

PROMPT_SECONDS = 10.0
"""For what answers without Docker. It takes a fraction of a second; one call to a silent engine takes 30."""
BACK_SECONDS = 30.0
"""Until all is back after a reboot, from when Docker answers: a promise of the documentation."""
STEADY_VISITS = 30
"""Good answers in a row after which a site counts as back for good."""


class Beaten:
    """A Pushboat on an engine of its own."""

    def __init__(self, rig: Rig, engine: PrivateEngine) -> None:
        self.rig = rig
        self.engine = engine

    async def address(self, app: str) -> str:
        """Return where the app's one replica is."""
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        done = await self.rig.docker("inspect", "--format", form, *await self.rig.replicas(app))
        assert done.out.strip(), done.err
        return done.out.strip()

    async def is_steady(self, app: str, text: str, *, seconds: float = 30.0) -> bool:
        """Wait until the app answers again and again without a break.

        A replica that the engine has restarted is visited no more until it has passed its check anew.
        """
        good = 0
        async with asyncio.timeout(seconds):
            while good < STEADY_VISITS:
                good = good + 1 if (await self.rig.http(f"{app}.localhost")).text == text else 0
        return True

    async def is_said_to_be_silent(self, app: str) -> bool:
        """Ask what can be answered without Docker; tell whether it was, and whether Docker's silence was told."""
        for words in (("apps:list",), ("ps:report", app)):
            done = await self.rig.ssh(*words, seconds=PROMPT_SECONDS)
            if done.status or app not in done.out or "Docker does not answer" not in done.err:
                return False
        return True


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def beaten() -> AsyncIterator[Beaten]:
    with tempfile.TemporaryDirectory(prefix="pbe-") as dock, tempfile.TemporaryDirectory(prefix="pb-") as folder:
        async with (
            private_engine(Path(dock)) as engine,
            rig(Path(folder), engine={"socket": engine.socket}) as r,
        ):
            yield Beaten(r, engine)


async def test_a_restart_of_the_engine_moves_nothing_and_a_push_meanwhile_goes_live(
    beaten: Beaten, record_property: Record
) -> None:
    rig, engine = beaten.rig, beaten.engine
    blog, other = rig.checkout("blog", apps.page("one")), rig.checkout("other", apps.page("other"))
    assert (await rig.git_push(blog)).status == 0
    address = await beaten.address("blog")
    await engine.stop()
    assert await beaten.is_said_to_be_silent("blog")
    push = asyncio.create_task(rig.git_push(other))
    await rig.until_deploy("other", "building")
    await engine.start()
    with timed(record_property, f"Docker restarted and answering, until {STEADY_VISITS} good pages in a row"):
        assert await beaten.is_steady("blog", "version one\n")
    assert await beaten.address("blog") == address
    pushed = await push
    assert pushed.status == 0, pushed.err
    assert "Docker does not answer" in pushed.err
    assert (await rig.http("other.localhost")).text == "version other\n"
    assert await rig.is_tidy("blog", "other")


async def test_a_killed_engine_leaves_the_site_up_and_everything_in_its_place(beaten: Beaten) -> None:
    rig, engine = beaten.rig, beaten.engine
    app = rig.checkout("killed", apps.page("one"))
    assert (await rig.git_push(app)).status == 0
    address = await beaten.address("killed")
    await engine.kill()
    assert (await rig.http("killed.localhost")).text == "version one\n"
    assert await beaten.is_said_to_be_silent("killed")
    await engine.start()
    assert await beaten.is_steady("killed", "version one\n")
    assert await beaten.address("killed") == address
    await rig.must("ps:restart", "killed")
    assert (await rig.http("killed.localhost")).text == "version one\n"


async def test_commands_tell_of_a_silent_engine_and_what_they_ask_for_comes_true_with_its_return(
    beaten: Beaten,
) -> None:
    rig, engine = beaten.rig, beaten.engine
    app = rig.checkout("asked", apps.page("one"))
    assert (await rig.git_push(app)).status == 0
    async with stopped(engine):
        await _commands_are_answered(rig)
        waiting = [
            await rig.spawn(*rig.boat.ssh_command(words))
            for words in (("ps:scale", "asked", "web=2"), ("git:from-image", "made-meanwhile", "no.example.com/such:1"))
        ]
        scaling, deploying = waiting
        assert scaling.stderr is not None and deploying.stdout is not None
        assert await scaling.stderr.readuntil(b"See: doctor\n") == (
            b" !     Docker does not answer.\n"
            b"       What you ask for is stored, and is done once Docker answers. See: doctor\n"
        )
        await deploying.stdout.readuntil(b"Docker does not answer")
    out, err = await scaling.communicate()
    assert scaling.returncode == 0 and b"All of them are ready." in out, err
    assert b"no.example.com" in (await deploying.communicate())[0]
    assert deploying.returncode == 1
    assert await beaten.is_steady("asked", "version one\n")
    assert len(await rig.replicas("asked")) == 2
    assert "Traceback" not in rig.log


@asynccontextmanager
async def stopped(engine: PrivateEngine) -> AsyncIterator[None]:
    """End the engine for the block."""
    await engine.stop()
    try:
        yield
    finally:
        await engine.start()


async def _commands_are_answered(rig: Rig) -> None:
    for words in (("run", "asked", "true"), ("enter", "asked", "web", "true"), ("ps:inspect", "asked")):
        refused = await rig.ssh(*words, seconds=PROMPT_SECONDS)
        assert refused.status == 75, (words, refused)
        assert refused.err.startswith(" !     Docker does not answer") and "\n       See" in refused.err
    told = await rig.ssh("doctor", seconds=PROMPT_SECONDS)
    assert told.status == 1 and "=====> Docker: not in order\n !     Docker does not answer" in told.out
    for words in (
        ("apps:create", "made-meanwhile"),
        ("config:set", "--no-restart", "asked", "A=1"),
        ("domains:add", "asked", "meanwhile.example.com"),
        ("git:set", "asked", "rev-env-var", "REV"),
        ("releases", "asked"),
        ("logs", "asked"),
    ):
        assert (await rig.ssh(*words, seconds=PROMPT_SECONDS)).status == 0, words
    assert (await rig.http("meanwhile.example.com")).status == 503, "its route is there, its replica is not"


async def test_an_agent_starts_without_its_engine_and_takes_everything_up_when_it_comes(beaten: Beaten) -> None:
    rig, engine = beaten.rig, beaten.engine
    app = rig.checkout("early", apps.page("one"))
    assert (await rig.git_push(app)).status == 0
    await rig.kill_agent()
    await engine.stop()
    await rig.start_agent()
    assert await beaten.is_said_to_be_silent("early")
    await engine.start()
    assert await beaten.is_steady("early", "version one\n")


@pytest.mark.parametrize("first", ["engine", "agent"])
async def test_after_a_reboot_all_is_back_within_half_a_minute_of_docker_whichever_starts_first(
    beaten: Beaten, first: str
) -> None:
    """Everything ends at once, replicas too; what was asked for just before is owed."""
    rig, engine, name = beaten.rig, beaten.engine, f"rebooted-{first}"
    app = rig.checkout(name, apps.page("one"))
    assert (await rig.git_push(app)).status == 0
    await rig.must("ps:scale", name, "web=2", "--skip-deploy")
    await rig.kill_agent()
    for pid in rig.proxy_pids():
        os.kill(pid, signal.SIGKILL)
    await rig.docker("kill", *rig.containers())
    await engine.kill()
    if first == "engine":
        await engine.start()
        began = asyncio.get_running_loop().time()
        await rig.start_agent()
    else:
        await rig.start_agent()
        assert await beaten.is_said_to_be_silent(name)
        await engine.start()
        began = asyncio.get_running_loop().time()
    assert await beaten.is_steady(name, "version one\n", seconds=BACK_SECONDS)
    while len(await rig.replicas(name)) < 2:
        await asyncio.sleep(PAUSE_SECONDS)
        assert asyncio.get_running_loop().time() - began < BACK_SECONDS
    assert asyncio.get_running_loop().time() - began < BACK_SECONDS
    assert await rig.is_at_rest()


async def test_a_deploy_that_starts_while_the_engine_restarts_goes_live(beaten: Beaten) -> None:
    rig, engine = beaten.rig, beaten.engine
    slow = json.dumps({"healthchecks": {"web": [{"type": "startup", "path": "/", "initialDelay": 3}]}})
    app = rig.checkout("patient", {**apps.page("one"), "app.json": slow})
    push = asyncio.create_task(rig.git_push(app))
    await rig.until_deploy("patient", "starting")
    await rig.until_running("patient")
    await engine.stop()
    await engine.start()
    pushed = await push
    assert pushed.status == 0, pushed.err
    assert await beaten.is_steady("patient", "version one\n")


async def test_a_frozen_engine_costs_a_push_time_and_nobody_else_anything(
    beaten: Beaten, record_property: Record
) -> None:
    rig, engine = beaten.rig, beaten.engine
    app = rig.checkout("frozen", apps.page("one"))
    assert (await rig.git_push(app)).status == 0
    app.write({"index.html": "version two\n"})
    engine.freeze()
    try:
        push = asyncio.create_task(rig.git_push(app))
        await rig.until_deploy("frozen", "building")
        with timed(record_property, "apps:list and ps:report, one after the other, while Docker hangs"):
            assert await beaten.is_said_to_be_silent("frozen")
        assert (await rig.http("frozen.localhost")).text == "version one\n"
    finally:
        engine.thaw()
    pushed = await push
    assert pushed.status == 0, pushed.err
    assert await beaten.is_steady("frozen", "version two\n")
    assert "Traceback" not in rig.log


def migrating(version: str, command: str) -> dict[str, str]:
    return apps.with_procfile(version, "web: httpd -f -p $PORT -h /www", f"release: {command}")


async def test_a_task_goes_on_while_its_engine_is_frozen_and_is_run_once(beaten: Beaten) -> None:
    rig, engine = beaten.rig, beaten.engine
    app = rig.checkout("thawed", migrating("one", "echo begun; sleep 2; echo ended"))
    push = asyncio.create_task(rig.git_push(app))
    await rig.until_logged("thawed", "begun")
    engine.freeze()
    try:
        assert await beaten.is_said_to_be_silent("thawed")
    finally:
        engine.thaw()
    pushed = await push
    assert pushed.status == 0, pushed.err
    assert pushed.err.count("       begun") == 1 and pushed.err.count("       ended") == 1
    assert await beaten.is_steady("thawed", "version one\n")


async def test_a_task_that_a_restart_of_the_engine_ends_fails_its_deploy_and_is_not_run_again(beaten: Beaten) -> None:
    rig, engine = beaten.rig, beaten.engine
    app = rig.checkout("cut", migrating("one", "echo begun; sleep 100"))
    push = asyncio.create_task(rig.git_push(app))
    await rig.until_logged("cut", "begun")
    await engine.stop()
    await engine.start()
    pushed = await push
    assert pushed.status == 1
    assert "The deploy failed (release): The release task failed: it exited with status" in pushed.err
    assert (await rig.must("logs", "cut", "-p", "release", "-n", "100")).count("begun") == 1
    app.write(migrating("two", "echo begun anew"))
    assert (await rig.git_push(app)).status == 0
    assert await beaten.is_steady("cut", "version two\n")
    assert "Traceback" not in rig.log
