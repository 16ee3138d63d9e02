"""Pushes that Cloud Native Buildpacks build, by a stand-in for a builder image: no public one can be had here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from scripts.house.engine import Engine
from tests.flow import apps
from tests.support.docker import until
from tests.support.rig import Checkout, Rig, rig
from tests.support.stand_in_builder import APP_USER, StandIn, ensure_stand_in

pytestmark = [pytest.mark.real, pytest.mark.slow]

PROJECT = """\
[_]
schema-version = "0.2"

[io.buildpacks]
exclude = ["notes/"]

[[io.buildpacks.build.env]]
name = "COLOUR"
value = "blue"
"""

CANCEL_SECONDS = 2.0
"""Within which a cancelled build has ended and given its place to the next one: a promise."""

APP = {
    "outside.txt": "not of the app\n",
    "web/project.toml": PROJECT,
    "web/index.html": "version 1\n",
    "web/deps.txt": "left-pad\n",
    "web/notes/plan.txt": "not for the build\n",
}


async def _kept(r: Rig, what: str) -> list[str]:
    """Return what builds of this Pushboat have left: its `container`s, or its `volume`s."""
    kind = {"container": "build", "volume": "build-kept"}[what]
    instance = (r.data / "instance").read_text().strip()
    filters = ("--filter", f"label=com.pushboat.instance={instance}", "--filter", f"label=com.pushboat.kind={kind}")
    found = await r.docker(what, "ls", "--quiet", *(("--all",) if what == "container" else ()), *filters)
    return found.out.split()


async def _set_up(r: Rig, stand_in: StandIn) -> None:
    await r.must("apps:create", "blog")
    await r.must("builder:set", "blog", "build-dir", "web")
    await r.must("builder:set", "blog", "selected", "pack")
    await r.must("buildpacks:set-property", "blog", "stack", stand_in.builder)
    await r.must("config:set", "blog", "BP_GREETING=hello", "SECRET_WORD=hidden-thing")


async def _failures_are_explained(r: Rig, app: Checkout, stand_in: StandIn) -> None:
    app.write({"web/broken.txt": "line 3"})
    pushed = await r.git_push(app)
    assert pushed.status == 1
    assert f"The build with {stand_in.builder} failed: a buildpack failed to build the app (status 51" in pushed.err
    assert "cannot compile: line 3" in pushed.err

    await app.git("rm", "-q", "web/broken.txt", "web/index.html")
    app.write({"web/fail-to-detect": ""})
    pushed = await r.git_push(app)
    assert pushed.status == 1
    assert "none of its groups of buildpacks fits the app, and at least one buildpack failed" in pushed.err
    assert "this buildpack is broken" in pushed.err

    await r.must("builder:set", "blog", "builder-image", "stranger/builder:1")
    await app.git("commit", "--allow-empty", "-q", "-m", "Again")
    pushed = await r.git_push(app)
    assert pushed.status == 1
    assert "The builder image stranger/builder:1 is not trusted on this server." in pushed.err


async def test_buildpacks_build_cache_explain_and_leave_nothing(short_folder: Path) -> None:
    stand_in = await asyncio.to_thread(ensure_stand_in, Engine())
    async with rig(short_folder, build={"trusted_builders": [stand_in.builder]}) as r:
        app = r.checkout("blog", APP)
        await _set_up(r, stand_in)

        pushed = await r.git_push(app)
        assert pushed.status == 0, pushed.err
        assert f"web/project.toml, so buildpacks of {stand_in.builder}" in pushed.err
        assert "-----> Detecting which buildpacks fit" in pushed.err
        assert "Fetching the dependencies" in pushed.err
        # Of config, what is named for buildpacks; of files, what is in the folder and not left out.
        assert "Greeting: hello, colour: blue, secret: none" in pushed.err
        assert "Files: ./deps.txt ./index.html ./project.toml\n" in pushed.err
        await r.page("blog.localhost", "version 1")
        assert (await r.must("enter", "blog", "web", "id", "-u")).strip() == str(APP_USER)
        # What buildpacks installed is found, since their launcher runs it.
        assert await r.must("run", "blog", "say") == "left-pad\n"
        await r.must("ps:scale", "blog", "worker=1")
        assert "sleep 1000" in await r.must("enter", "blog", "worker", "ps")

        app.write({"web/index.html": "version 2\n"})
        pushed = await r.git_push(app)
        assert pushed.status == 0, pushed.err
        assert "Using the cached dependencies" in pushed.err and "Fetching" not in pushed.err
        assert "Reusing layer 'test/deps@1.0:deps'" in pushed.err
        await r.page("blog.localhost", "version 2")
        assert len(await _kept(r, "volume")) == 2

        await _failures_are_explained(r, app, stand_in)
        await r.page("blog.localhost", "version 2")
        assert await _kept(r, "container") == []
        assert len(await _kept(r, "volume")) == 2
        (use,) = json.loads(await r.must("disk:report", "blog", "--format", "json"))["apps"]
        assert use["buildpacks"] > 0
        await r.must("apps:destroy", "blog", "--force")

        async def is_gone() -> bool:
            return not await _kept(r, "volume")

        await until(is_gone, seconds=60.0)


async def test_a_build_of_a_dead_agent_is_begun_anew_and_a_cancelled_one_frees_its_slot(
    short_folder: Path,
) -> None:
    stand_in = await asyncio.to_thread(ensure_stand_in, Engine())
    async with rig(short_folder, build={"trusted_builders": [stand_in.builder], "concurrency": 1}) as r:
        await _set_up(r, stand_in)
        app = r.checkout("blog", {**APP, "web/slow.txt": ""})
        pushing = asyncio.create_task(r.git_push(app))
        (first,) = await until(lambda: _kept(r, "container"), seconds=60.0)
        await r.kill_agent()
        await pushing
        assert await _kept(r, "container") == [first]

        async def others() -> list[str]:
            return [each for each in await _kept(r, "container") if each != first]

        await r.start_agent()
        await until(others, seconds=60.0)
        assert first not in await _kept(r, "container")

        async def is_gone() -> bool:
            return not await _kept(r, "container")

        reading = await r.spawn(*r.boat.ssh_command(("deploys:output", "blog")))
        assert reading.stdout
        async with asyncio.timeout(60.0):
            while b"Files: " not in await reading.stdout.readline():
                pass
        next_one = r.checkout("next", apps.page("next"))
        waiting = asyncio.create_task(r.git_push(next_one))
        await r.until_deploy("next", "building")
        await r.must("deploys:cancel", "blog")
        await until(is_gone, seconds=CANCEL_SECONDS)
        assert (await reading.communicate())[0].decode().count("The deploy was cancelled.") == 1
        await r.until_deploy("blog", "cancelled")
        # One build at a time is allowed here: the next one has its place.
        pushed = await waiting
        assert pushed.status == 0 and "Waiting for a free build slot: 1 build before yours" in pushed.err, pushed.err
