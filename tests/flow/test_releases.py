"""Releases, config, scale, logs and one-offs of apps that run."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.flow import apps
from tests.support.rig import Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def test_a_rollback_brings_back_code_and_config_and_names_the_keys_that_go(boat: Rig) -> None:
    app = boat.checkout("rolls", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    assert (await boat.ssh("config:set", "rolls", "COLOUR=blue")).status == 0
    app.write({"index.html": "version two\n"})
    assert (await boat.git_push(app)).status == 0
    rolled = await boat.ssh("releases:rollback", "rolls", "v1")
    assert rolled.status == 0, rolled.err
    assert "COLOUR" in rolled.out + rolled.err
    assert "blue" not in rolled.out + rolled.err
    assert (await boat.http("rolls.localhost")).text == "version one\n"
    assert (await boat.ssh("config:get", "rolls", "COLOUR")).status == 1
    releases = json.loads(await boat.must("releases", "rolls", "--format", "json"))
    assert [release["version"] for release in releases] == [4, 3, 2, 1]
    diff = await boat.must("releases:diff", "rolls", "v1", "v3")
    assert "COLOUR" in diff and "blue" not in diff


async def test_a_rollback_of_the_code_keeps_the_config(boat: Rig) -> None:
    write = 'echo "VERSION $COLOUR" > /www/index.html; exec httpd -f -p $PORT -h /www'
    app = boat.checkout("coded", apps.shell(write.replace("VERSION", "one")))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.shell(write.replace("VERSION", "two")))
    assert (await boat.git_push(app)).status == 0
    await boat.must("config:set", "coded", "COLOUR=blue")
    assert (await boat.http("coded.localhost")).text == "two blue\n"
    rolled = await boat.ssh("releases:rollback", "coded", "v1", "--code-only")
    assert rolled.status == 0, rolled.err
    assert (await boat.http("coded.localhost")).text == "one blue\n"


async def test_a_draft_reaches_no_replica_before_it_is_released(boat: Rig) -> None:
    app = boat.checkout("drafted", apps.shell('echo "$COLOUR" > /www/index.html; exec httpd -f -p $PORT -h /www'))
    await boat.must("apps:create", "drafted")
    await boat.must("config:set", "drafted", "COLOUR=blue")
    assert (await boat.git_push(app)).status == 0
    await boat.must("config:set", "--no-restart", "drafted", "COLOUR=red")
    # Healed, scaled and started again with the agent: each time from what was released.
    (container,) = await boat.replicas("drafted")
    assert (await boat.docker("rm", "--force", container)).status == 0
    assert (await boat.page("drafted.localhost", "blue")).status == 200
    await boat.must("ps:scale", "drafted", "web=2")
    assert {(await boat.http("drafted.localhost")).text for _ in range(4)} == {"blue\n"}
    await boat.stop_agent()
    for container in await boat.replicas("drafted"):
        assert (await boat.docker("rm", "--force", container)).status == 0
    await boat.start_agent()
    assert (await boat.page("drafted.localhost", "blue")).status == 200
    releases = json.loads(await boat.must("releases", "drafted", "--format", "json"))
    assert [release["version"] for release in releases] == [1]
    await boat.must("ps:restart", "drafted")
    assert (await boat.page("drafted.localhost", "red")).status == 200


async def test_config_reaches_the_app_and_is_never_echoed(boat: Rig) -> None:
    app = boat.checkout("configured", apps.shell('echo "$SECRET" > /www/index.html; exec httpd -f -p $PORT -h /www'))
    assert (await boat.ssh("apps:create", "configured")).status == 0
    done = await boat.ssh("config:set", "configured", "'SECRET=with \"quotes\" and spaces'")
    assert done.status == 0
    assert "quotes" not in done.out + done.err
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert (await boat.http("configured.localhost")).text == 'with "quotes" and spaces\n'
    assert await boat.must("config:get", "configured", "SECRET") == 'with "quotes" and spaces\n'
    assert "quotes" not in boat.log


async def test_scaling_starts_and_drains_replicas(boat: Rig) -> None:
    app = boat.checkout("scaled", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    scaled = await boat.ssh("ps:scale", "scaled", "web=3")
    assert scaled.status == 0, scaled.err
    report = json.loads(await boat.must("ps:report", "scaled", "--format", "json"))
    assert report["running"] == "true"
    assert len([key for key in report if key.startswith("status-web.")]) == 3
    assert (await boat.ssh("ps:scale", "scaled", "web=1")).status == 0
    assert (await boat.http("scaled.localhost")).text == "version one\n"
    refused = await boat.ssh("ps:scale", "scaled", "nothing=1")
    assert refused.status == 1


async def test_process_types_of_a_procfile_run_when_scaled(boat: Rig) -> None:
    lines = ("web: httpd -f -p $PORT -h /www", "worker: while true; do echo working hard; sleep 1; done")
    app = boat.checkout("workers", apps.with_procfile("one", *lines, "release: echo migrate"))
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert "release" in pushed.err
    assert (await boat.ssh("ps:scale", "workers", "worker=1")).status == 0
    await boat.until_logged("workers", "working hard")
    logged = await boat.must("logs", "workers", "-p", "worker", "-n", "5")
    assert "worker.1" in logged and "working hard" in logged


async def test_stop_and_start(boat: Rig) -> None:
    app = boat.checkout("stops", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    assert (await boat.ssh("ps:stop", "stops")).status == 0
    assert (await boat.page("stops.localhost", "", status=503)).status == 503
    assert (await boat.ssh("ps:start", "stops")).status == 0
    assert (await boat.page("stops.localhost", "version one")).status == 200


async def test_logs_outlive_deploys_and_follow_live(boat: Rig) -> None:
    app = boat.checkout("logged", apps.shell("echo first words; exec httpd -f -p $PORT -h /www"))
    assert (await boat.git_push(app)).status == 0
    await boat.until_logged("logged", "first words")
    follower = await boat.spawn(*boat.boat.ssh_command(("logs", "logged", "-t")))
    app.write(apps.shell("echo second words; exec httpd -f -p $PORT -h /www"))
    assert (await boat.git_push(app)).status == 0
    assert follower.stdout is not None
    seen = b""
    async with asyncio.timeout(20):
        while b"second words" not in seen:
            seen += await follower.stdout.read(65_536)
    assert b"first words" in seen
    follower.terminate()
    await follower.communicate()
    both = await boat.must("logs", "logged", "-n", "100")
    assert both.index("first words") < both.index("second words")


async def test_a_container_that_lives_50_ms_leaves_all_its_lines(boat: Rig) -> None:
    app = boat.checkout("brief", apps.shell("seq 1 500; echo the last line"))
    assert (await boat.git_push(app)).status == 1
    logged = await boat.must("logs", "brief", "-n", "1000", "-q")
    lines = [line for line in logged.splitlines() if line.isdigit()]
    assert lines == [str(number) for number in range(1, 501)]


async def test_run_and_enter_pass_input_output_and_status(boat: Rig) -> None:
    console = 'console: echo "the console of $COLOUR, port ${PORT:-none}"; cat; exit 7'
    app = boat.checkout("once", apps.with_procfile("one", "web: httpd -f -p $PORT -h /www", console))
    await boat.must("apps:create", "once")
    await boat.must("config:set", "once", "'COLOUR=deep blue'")
    assert (await boat.git_push(app)).status == 0
    done = await boat.ssh("run", "once", "sh", "-c", "'cat; exit 9'", stdin=b"through and through")
    assert done.status == 9
    assert done.out == "through and through"
    # A line of the Procfile by its name, unless more is said.
    named = await boat.ssh("run", "once", "console", stdin=b"through and through")
    assert (named.status, named.out) == (7, "the console of deep blue, port none\nthrough and through")
    assert (await boat.ssh("run", "once", "console", "--fast")).status == 127
    entered = await boat.ssh("enter", "once", "web", "cat", "/www/index.html")
    assert (entered.status, entered.out) == (0, "version one\n")
    # A shell where no command is said: it reads what is sent, and how it exits is how enter ends.
    shell = await boat.ssh("enter", "once", stdin=b'echo "$DYNO, $COLOUR, $PORT"\nread word\nthrough\nexit 6\n')
    assert (shell.status, shell.out) == (6, "web.1, deep blue, 5000\n")


async def test_domains_route_and_belong_to_one_app(boat: Rig) -> None:
    app = boat.checkout("domained", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    await boat.must("domains:add", "domained", "www.example.com", "'*.example.org'")
    assert (await boat.page("www.example.com", "version one")).status == 200
    assert (await boat.page("any.example.org", "version one")).status == 200
    await boat.must("apps:create", "thief")
    taken = await boat.ssh("domains:add", "thief", "www.example.com")
    assert taken.status == 1 and "domained" in taken.err
    await boat.must("domains:remove", "domained", "www.example.com")
    assert (await boat.page("www.example.com", "", status=404)).status == 404


async def test_rename_and_destroy(boat: Rig) -> None:
    app = boat.checkout("before", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    await boat.must("apps:rename", "before", "after")
    assert (await boat.page("after.localhost", "version one")).status == 200
    assert (await boat.ssh("apps:exists", "before")).status == 20
    unconfirmed = await boat.ssh("apps:destroy", "after")
    assert unconfirmed.status == 1
    await boat.must("apps:destroy", "after", "--force")
    assert (await boat.ssh("apps:exists", "after")).status == 20
    assert (await boat.page("after.localhost", "", status=404)).status == 404


async def test_an_image_that_exists_is_deployed(boat: Rig) -> None:
    app = boat.checkout("source", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    (release,) = json.loads(await boat.must("releases", "source", "--format", "json"))
    await boat.must("apps:create", "copied")
    done = await boat.ssh("git:from-image", "copied", release["image"])
    assert done.status == 0, done.err
    assert (await boat.http("copied.localhost")).text == "version one\n"
