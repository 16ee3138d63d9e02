"""Release tasks for real: migrations run before traffic, once, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.flow import apps
from tests.support.rig import Checkout, Done, Rig

pytestmark = pytest.mark.real

WEB = "web: httpd -f -p $PORT -h /www"


def migrating(version: str, command: str) -> dict[str, str]:
    return apps.with_procfile(version, WEB, f"release: {command}")


async def tasks_of(rig: Rig) -> list[str]:
    """Return the ids of the containers of tasks that there are."""
    return (await rig.docker("ps", "--all", "--quiet", "--filter", "label=com.pushboat.kind=task")).out.split()


async def newest(rig: Rig, app: str) -> dict[str, object]:
    deploys: list[dict[str, object]] = json.loads(await rig.must("deploys", app, "--format", "json"))
    return deploys[0]


async def pushed(rig: Rig, checkout: Checkout) -> Done:
    done = await rig.git_push(checkout)
    assert done.status == 0, done.err
    return done


async def test_a_release_task_runs_with_config_before_traffic_and_is_shown_live(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", migrating("one", 'echo "migrating $DATABASE"; sleep 1; echo migrated'))
    await lone_boat.must("apps:create", "blog")
    await lone_boat.must("config:set", "blog", "DATABASE=main")
    done = await pushed(lone_boat, app)
    lines = [line.rstrip() for line in done.err.splitlines()]
    start = next(index for index, line in enumerate(lines) if line.startswith("-----> Running the release task"))
    assert lines[start + 1 : start + 4] == [
        "       migrating main",
        "       migrated",
        "-----> The release task has succeeded",
    ]
    assert lines.index("-----> Starting v1 (web=1)") > start
    assert "migrated" in await lone_boat.must("logs", "blog", "-p", "release")
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    app.write(migrating("two", "echo broken; exit 3"))
    refused = await lone_boat.git_push(app)
    assert refused.status == 1
    assert "       broken" in refused.err
    assert "The deploy failed (release): The release task failed: it exited with status 3." in refused.err
    assert "v1 goes on serving" in refused.err
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    assert await lone_boat.is_tidy("blog")
    assert await tasks_of(lone_boat) == []


async def test_what_a_release_task_writes_is_in_the_push_before_it_ends(lone_boat: Rig) -> None:
    app = lone_boat.checkout(
        "blog", migrating("one", "echo half-way; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done")
    )
    await app.commit()
    pushing = await lone_boat.spawn("git", "push", lone_boat.boat.remote("blog"), "main", folder=app.folder)
    try:
        assert pushing.stderr
        async with asyncio.timeout(60.0):
            while (await pushing.stderr.readline()).strip() != b"half-way":
                pass
        # The pusher has read it, and the command still runs: it cannot end before this file is there.
        (task,) = await tasks_of(lone_boat)
        assert (await newest(lone_boat, "blog"))["status"] == "releasing"
        assert (await lone_boat.docker("exec", task, "touch", "/tmp/go")).status == 0
        rest = (await asyncio.wait_for(pushing.communicate(), 60.0))[1].decode()
    finally:
        if pushing.returncode is None:
            pushing.kill()
    assert pushing.returncode == 0, rest
    assert "half-way" not in rest and "       done" in rest and "The release task has succeeded" in rest


async def test_an_agent_killed_while_the_task_runs_follows_it_to_its_end_and_runs_it_once(lone_boat: Rig) -> None:
    command = "echo begun; for i in 1 2 3 4 5 6 7 8; do echo step $i; sleep 0.5; done; echo ended"
    app = lone_boat.checkout("blog", migrating("one", command))
    push = asyncio.create_task(lone_boat.git_push(app))
    await lone_boat.until_logged("blog", "step 2")
    await lone_boat.kill_agent()
    assert (await push).status != 0
    await lone_boat.start_agent()
    await lone_boat.until_deploy("blog", "live")
    told = await lone_boat.must("deploys:output", "blog")
    steps = [line.strip() for line in told.splitlines() if line.startswith("       ")]
    assert [step for step in steps if step.startswith(("begun", "step", "ended"))] == [
        "begun",
        *(f"step {number}" for number in range(1, 9)),
        "ended",
    ]
    assert "Pushboat was restarted" in told
    logged = await lone_boat.must("logs", "blog", "-p", "release", "-n", "100")
    assert logged.count("begun") == 1 and logged.count("ended") == 1
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    assert await lone_boat.is_tidy("blog")
    assert await tasks_of(lone_boat) == []


async def test_a_task_that_ended_or_vanished_while_no_agent_ran_is_not_run_again(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", migrating("one", "echo begun; sleep 2; exit 5"))
    push = asyncio.create_task(lone_boat.git_push(app))
    await lone_boat.until_logged("blog", "begun")
    (task,) = await tasks_of(lone_boat)
    await lone_boat.kill_agent()
    await push
    assert (await lone_boat.docker("wait", task)).out.strip() == "5"
    await lone_boat.start_agent()
    await lone_boat.until_deploy("blog", "failed")
    assert "exited with status 5" in str((await newest(lone_boat, "blog"))["reason"])

    app.write(migrating("two", "echo begun again; sleep 100"))
    push = asyncio.create_task(lone_boat.git_push(app))
    await lone_boat.until_logged("blog", "begun again")
    (task,) = await tasks_of(lone_boat)
    await lone_boat.kill_agent()
    await push
    assert (await lone_boat.docker("rm", "--force", task)).status == 0
    await lone_boat.start_agent()
    await lone_boat.until_deploy("blog", "failed")
    assert "Nobody knows how the release task ended" in str((await newest(lone_boat, "blog"))["reason"])
    logged = await lone_boat.must("logs", "blog", "-p", "release", "-n", "100")
    assert logged.count("begun again") == 1
    assert await lone_boat.is_tidy("blog")


async def test_app_json_brings_config_and_scripts(lone_boat: Rig) -> None:
    app_json = {
        "env": {"GREETING": "hello", "SECRET": {"generator": "secret"}, "REGION": {"description": "where"}},
        "scripts": {
            "dokku": {"predeploy": "echo predeploy $GREETING"},
            "pushboat": {"postdeploy": "echo postdeploy ${#SECRET}"},
            "postdeploy": "echo setup; exit 7",
        },
    }
    files = migrating("one", "echo release") | {"app.json": "// ours\n" + json.dumps(app_json)}
    app = lone_boat.checkout("blog", files)
    refused = await lone_boat.git_push(app)
    assert refused.status == 1
    assert "app.json requires config that has no value: REGION (where)" in refused.err
    await lone_boat.must("config:set", "blog", "REGION=north")
    done = await pushed(lone_boat, app)
    told = [line.rstrip() for line in done.err.splitlines()]
    order = [
        "-----> Config from app.json: GREETING SECRET",
        "       predeploy hello",
        "       release",
        "       web.1 is ready",
        "       setup",
        " !     The setup task failed: it exited with status 7.",
        "       postdeploy 64",
        "=====> Application deployed:",
    ]
    assert [line for line in told if line in order] == order
    assert len((await lone_boat.must("config:get", "blog", "SECRET")).strip()) == 64
    app.write({"index.html": "version two\n"})
    again = await pushed(lone_boat, app)
    assert "postdeploy 64" in again.err and "setup" not in again.err and "from app.json" not in again.err
    assert await lone_boat.is_tidy("blog")
    assert await tasks_of(lone_boat) == []


async def test_a_cancelled_deploy_ends_its_task(lone_boat: Rig) -> None:
    command = "trap 'echo told to end; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    app = lone_boat.checkout("blog", migrating("one", command))
    push = asyncio.create_task(lone_boat.git_push(app))
    await lone_boat.until_logged("blog", "begun")
    assert (await newest(lone_boat, "blog"))["status"] == "releasing"
    await lone_boat.must("deploys:cancel", "blog")
    done = await push
    assert done.status == 1
    assert "The deploy was cancelled" in done.err
    await lone_boat.until_logged("blog", "told to end")
    assert await lone_boat.is_tidy("blog")
    assert await tasks_of(lone_boat) == []
