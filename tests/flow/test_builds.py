"""Builds as their owner meets them: cancelled, overtaken, too long, set up; and what becomes of their images."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flow import apps
from tests.support.docker import token, until
from tests.support.process_list import long_sleep, sleeps, sleeps_no_more
from tests.support.rig import BASE, Rig, rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

TIMEOUT_SECONDS = 8.0
"""That a build may take; 30 minutes outside tests."""
CANCEL_SECONDS = 2.0
"""Within which a cancelled build has ended: a promise."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def boat() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        async with rig(Path(folder), build={"timeout": TIMEOUT_SECONDS, "concurrency": 1}) as r:
            yield r


def sleeper(seconds: str) -> dict[str, str]:
    """Return an app whose build sleeps."""
    return apps.page("asleep", more=f"RUN echo going to sleep; exec sleep {seconds}\n")


async def test_a_cancelled_build_ends_in_the_engine_and_the_old_release_serves_on(boat: Rig) -> None:
    app = boat.checkout("cancels", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    seconds = long_sleep()
    app.write(sleeper(seconds))
    push = asyncio.create_task(boat.git_push(app))
    await until(lambda: sleeps(seconds))
    await boat.must("deploys:cancel", "cancels")
    await until(lambda: sleeps_no_more(seconds), seconds=CANCEL_SECONDS)
    pushed = await push
    assert pushed.status == 1
    assert "going to sleep" in pushed.err and "cancelled" in pushed.err
    (deploy, _) = json.loads(await boat.must("deploys", "cancels", "--format", "json"))
    assert deploy["status"] == "cancelled"
    shown = await boat.must("deploys:show", "cancels", deploy["id"])
    assert "cancelled" in shown
    told = await boat.ssh("deploys:output", "cancels", deploy["id"])
    assert told.status == 1 and "going to sleep" in told.out
    assert (await boat.http("cancels.localhost")).text == "version one\n"


async def test_a_newer_push_ends_the_build_that_it_overtakes_and_does_not_wait_for_it(boat: Rig) -> None:
    seconds = long_sleep()
    app = boat.checkout("overtaken", sleeper(seconds))
    slow = asyncio.create_task(boat.git_push(app))
    await until(lambda: sleeps(seconds))
    app.write(apps.page("newer"))
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert await sleeps_no_more(seconds)
    # One build at a time is allowed here, so it had its place at once.
    assert "Waiting for a free build slot" not in pushed.err
    older = await slow
    assert older.status == 1 and "newer" in older.err
    newest, superseded = json.loads(await boat.must("deploys", "overtaken", "--format", "json"))
    assert (newest["status"], superseded["status"]) == ("live", "superseded")
    assert (await boat.http("overtaken.localhost")).text == "version newer\n"


async def test_a_newer_push_overtakes_one_whose_replicas_are_starting(boat: Rig) -> None:
    app = boat.checkout("starting", apps.page("zero"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.shell("exec sleep 600"))
    slow = asyncio.create_task(boat.git_push(app))
    await boat.until_deploy("starting", "starting")
    app.write(apps.page("newer"))
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert (await slow).status == 1
    assert (await boat.http("starting.localhost")).text == "version newer\n"
    async with asyncio.timeout(60):
        while len(await boat.replicas("starting")) != 1:
            await asyncio.sleep(0.1)


async def test_a_build_that_prints_without_end_stops_nobody_and_ends_at_its_time_limit(boat: Rig) -> None:
    app = boat.checkout("endless", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    seconds = long_sleep()
    app.write(apps.page("two", more=f"RUN yes {token()} & exec sleep {seconds}\n"))
    push = asyncio.create_task(boat.git_push(app))
    await until(lambda: sleeps(seconds))
    answers = 0
    while not push.done():
        assert "running" in await boat.must("ps:report", "endless")
        assert (await boat.http("endless.localhost")).text == "version one\n"
        answers += 1
    assert answers >= 3
    pushed = await push
    assert pushed.status == 1
    assert "The build took longer than the limit of 8.0 s." in pushed.err
    await until(lambda: sleeps_no_more(seconds), seconds=CANCEL_SECONDS)
    assert (await boat.http("endless.localhost")).text == "version one\n"


async def test_an_app_says_where_its_dockerfile_is_and_what_it_is_built_with(boat: Rig) -> None:
    stages = (
        f"FROM {BASE} AS small\nARG COLOUR\nARG TOKEN\nCOPY . /www\nRUN echo $COLOUR > /www/index.html\n"
        "CMD exec httpd -f -p $PORT -h /www\nFROM small AS whole\nRUN echo not wanted; exit 1\n"
    )
    files = {
        "Dockerfile": "FROM nonsense\n",
        "site/docker/Prod": stages,
        "site/.dockerignore": "secret\n",
        "site/secret": "hush\n",
        "site/word": "x\n",
    }
    app = boat.checkout("settled", files)
    await boat.must("apps:create", "settled")
    await boat.must("builder:set", "settled", "build-dir", "site")
    await boat.must("builder-dockerfile:set", "settled", "dockerfile-path", "docker/Prod")
    await boat.must("builder-dockerfile:set", "settled", "target", "small")
    await boat.must("docker-options:add", "settled", "build", "'--build-arg COLOUR=blue'")
    await boat.must("docker-options:add", "settled", "build", "'--build-arg TOKEN=hush-hush'")
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert "[small 3/3] RUN echo" in pushed.err and "not wanted" not in pushed.err
    assert "hush-hush" not in pushed.err
    assert (await boat.http("settled.localhost")).text == "blue\n"
    assert (await boat.http("settled.localhost", "/word")).status == 200
    assert (await boat.http("settled.localhost", "/secret")).status == 404


async def test_what_is_unchanged_is_cached_and_steps_are_numbered(boat: Rig) -> None:
    # The engine's cache outlives a run of the tests, so the step is one that it never saw.
    word = token()
    app = boat.checkout("cached", apps.page("one", more=f"RUN echo working on {word}\n"))
    pushed = await boat.git_push(app)
    assert "       [2/3] COPY . /www" in pushed.err
    assert f"       [3/3] RUN echo working on {word}\n         working on {word}" in pushed.err
    rebuilt = await boat.ssh("ps:rebuild", "cached")
    assert rebuilt.status == 0
    assert f"       [3/3] RUN echo working on {word}  CACHED" in rebuilt.out
    await boat.must("repo:purge-cache", "cached")
    rebuilt = await boat.ssh("ps:rebuild", "cached")
    assert rebuilt.status == 0
    assert f"       [3/3] RUN echo working on {word}\n         working on {word}" in rebuilt.out
    # What each build said is kept with its deploy.
    deploys = json.loads(await boat.must("deploys", "cached", "--format", "json"))
    said = [await boat.must("deploys:output", "cached", deploy["id"]) for deploy in deploys]
    assert [f"         working on {word}" in text for text in said] == [True, False, True]


async def test_a_build_that_wants_all_the_memory_ends_and_takes_nothing_else_down(boat: Rig) -> None:
    app = boat.checkout("hog", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    (before,) = await boat.replicas("hog")
    await boat.must("resource:limit", "--process-type", "build", "--memory", "64m", "hog")
    # The step does not mind that its program is killed: the build ends all the same.
    greedy = f"RUN echo {token()}; dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 600\n"
    app.write(apps.page("two", more=greedy))
    pushed = await boat.git_push(app)
    assert pushed.status == 1
    assert "it used more than its limit of 64 MiB of memory" in pushed.err
    assert "resource:limit --process-type build --memory <size> hog" in pushed.err
    assert [before] == await boat.replicas("hog")
    app.write(apps.page("three"))
    assert (await boat.git_push(app)).status == 0
    assert (await boat.http("hog.localhost")).text == "version three\n"


async def test_limits_of_processes_hold_from_the_next_restart_on(boat: Rig) -> None:
    app = boat.checkout("limited", apps.page(token()))
    assert (await boat.git_push(app)).status == 0
    await boat.must("resource:limit", "--memory", "32m", "--cpu", "0.5", "limited")
    assert (await boat.ssh("ps:restart", "limited")).status == 0
    async with asyncio.timeout(60):
        while len(running := await boat.replicas("limited")) != 1:
            await asyncio.sleep(0.1)
    (detail,) = json.loads((await boat.docker("inspect", running[0])).out)
    assert (detail["HostConfig"]["Memory"], detail["HostConfig"]["NanoCpus"]) == (32 << 20, 500_000_000)
    report = json.loads(await boat.must("disk:report", "limited", "--format", "json"))
    assert report["apps"][0]["images"] > 0 and report["apps"][0]["repository"] > 0
    await boat.must("repo:gc", "limited")
    assert "Nothing was removed" not in await boat.must("cleanup")


async def test_a_container_is_named_labelled_and_confined_as_the_docs_say(boat: Rig) -> None:
    files = apps.page("one", more="EXPOSE 9000 53/udp 8080\n")
    files["Dockerfile"] = files["Dockerfile"].replace("EXPOSE 5000\n", "")
    app = boat.checkout("looked-at", files)
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    (container,) = await boat.replicas("looked-at")
    (detail,) = json.loads((await boat.docker("inspect", container)).out)
    (release,) = json.loads(await boat.must("releases", "looked-at", "--format", "json"))
    assert detail["Name"] == "/looked-at.web.1.v1"
    labels = {name: value for name, value in detail["Config"]["Labels"].items() if name.startswith("com.pushboat.")}
    assert labels["com.pushboat.app-name"] == "looked-at"
    assert labels["com.pushboat.process-type"] == "web"
    assert labels["com.pushboat.number"] == "1" and labels["com.pushboat.release"] == "1"
    assert labels["com.pushboat.app-id"].startswith("a") and labels["com.pushboat.replica"].startswith("r")
    assert labels["com.pushboat.instance"] in detail["HostConfig"]["NetworkMode"]
    environment = dict(line.split("=", 1) for line in detail["Config"]["Env"])
    assert environment["DYNO"] == "web.1"
    # The first that is named, and not the lowest.
    assert environment["PORT"] == "9000"
    assert environment["GIT_REV"] == (await app.git("rev-parse", "HEAD")).strip()
    assert detail["Image"] == release["image"]
    host = detail["HostConfig"]
    assert host["Init"] is True and host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 512 and host["CapDrop"] == ["ALL"] and "NET_RAW" not in host["CapAdd"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["RestartPolicy"]["Name"] == "on-failure" and not host["AutoRemove"]
    assert not host["Privileged"] and not host["PortBindings"] and not detail["Mounts"]
    assert (await boat.ssh("config:set", "looked-at", "PORT=7000")).status == 0
    assert await boat.must("enter", "looked-at", "web.1", "--", "sh", "-c", "'echo $PORT'") == "7000\n"
    assert (await boat.http("looked-at.localhost")).text == "version one\n"


async def test_the_images_of_the_last_releases_are_kept_and_strangers_images_left_alone(boat: Rig) -> None:
    app = boat.checkout("collected", apps.page("0"))
    foreign = "strangers/image:kept"
    assert (await boat.git_push(app)).status == 0
    (first,) = json.loads(await boat.must("releases", "collected", "--format", "json"))
    # Somebody gives an image of ours a name of their own: our name goes, theirs and so the image stays.
    assert (await boat.docker("tag", first["image"], foreign)).status == 0
    try:
        for number in range(1, 8):
            app.write({"index.html": f"version {number}\n"})
            assert (await boat.git_push(app)).status == 0
        app.write(apps.page("8", more="RUN exit 1\n"))
        assert (await boat.git_push(app)).status == 1
        releases = json.loads(await boat.must("releases", "collected", "--format", "json"))
        kept = [release["image"] for release in releases if release["version"] > 3]
        assert len(set(kept)) == 5
        # The replaced replicas drain first: an image in use keeps its name.
        await until(lambda: are_kept(boat, "collected", kept), seconds=90)
        assert (await boat.docker("image", "inspect", foreign)).status == 0
        gone = await boat.ssh("releases:rollback", "collected", "v2")
        assert gone.status == 1 and "no longer kept" in gone.err
        back = await boat.ssh("releases:rollback", "collected", "v4")
        assert back.status == 0, back.err
        assert (await boat.http("collected.localhost")).text == "version 3\n"
    finally:
        await boat.docker("rmi", foreign)


async def are_kept(boat: Rig, app: str, images: list[str]) -> bool:
    """Tell whether these images of the app have names of ours, and no others."""
    (container,) = (await boat.replicas(app))[:1]
    label = '{{index .Config.Labels "com.pushboat.%s"}}'
    form = f"pushboat-{label % 'instance'}/{label % 'app-id'}"
    repository = (await boat.docker("inspect", "--format", form, container)).out.strip()
    listed = await boat.docker("images", "--quiet", "--no-trunc", repository)
    return set(listed.out.split()) == set(images)


async def test_a_deploy_is_cancelled_while_its_replicas_start(boat: Rig) -> None:
    app = boat.checkout("halfway", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.shell("exec sleep 600"))
    push = asyncio.create_task(boat.git_push(app))
    await boat.until_deploy("halfway", "starting")
    await boat.must("deploys:cancel", "halfway")
    pushed = await push
    assert pushed.status == 1 and "cancelled" in pushed.err
    assert (await boat.http("halfway.localhost")).text == "version one\n"
    async with asyncio.timeout(60):
        while len(await boat.replicas("halfway")) != 1:
            await asyncio.sleep(0.1)


async def test_a_build_that_waits_for_its_turn_says_so_and_can_be_cancelled(boat: Rig) -> None:
    seconds = long_sleep()
    first, second = boat.checkout("first-in", sleeper(seconds)), boat.checkout("second-in", apps.page("one"))
    building = asyncio.create_task(boat.git_push(first))
    await until(lambda: sleeps(seconds))
    await second.commit()
    waiting = await boat.spawn("git", "push", boat.boat.remote("second-in"), "main", folder=second.folder)
    assert waiting.stderr
    async with asyncio.timeout(20):
        while b"Waiting for a free build slot: 1 build before yours" not in await waiting.stderr.readline():
            pass
    await boat.must("deploys:cancel", "second-in")
    rest = (await asyncio.wait_for(waiting.communicate(), 20))[1].decode()
    assert waiting.returncode == 1 and "cancelled" in rest
    assert await sleeps(seconds), "the other build goes on"
    await boat.must("deploys:cancel", "first-in")
    assert (await building).status == 1


async def test_a_replaced_replica_is_told_to_end_and_its_last_words_are_stored(boat: Rig) -> None:
    polite = 'trap "echo goodbye; exit 0" TERM; httpd -p $PORT -h /www; while :; do sleep 0.1; done'
    app = boat.checkout("polite", apps.shell(polite))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.page("two"))
    assert (await boat.git_push(app)).status == 0
    await boat.until_logged("polite", "goodbye", seconds=90)
