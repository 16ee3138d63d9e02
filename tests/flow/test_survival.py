"""What survives: kills, restarts, removed containers. Nothing acknowledged is lost, and the old release serves."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from agent.state.schema import MIGRATIONS
from scripts.house import boat as house
from tests.flow import apps
from tests.support.docker import until
from tests.support.figures import Record, timed
from tests.support.process_list import long_sleep, sleeps, sleeps_no_more
from tests.support.rig import Rig

pytestmark = pytest.mark.real

STEADY_VISITS = 50
"""Good answers in a row after which a site counts as back for good."""


async def test_an_agent_killed_while_it_builds_goes_on_after_its_restart(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    seconds = f"5.{long_sleep()}"
    app.write(apps.page("two", more=f"RUN exec sleep {seconds}\n"))
    push = asyncio.create_task(lone_boat.git_push(app))
    await until(lambda: sleeps(seconds))
    await lone_boat.kill_agent()
    # The step goes with the one who wanted it, and is run anew by the next agent.
    await until(lambda: sleeps_no_more(seconds), seconds=2)
    assert (await push).status != 0
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    await lone_boat.start_agent()
    assert (await lone_boat.page("blog.localhost", "version two")).status == 200
    assert await lone_boat.is_tidy("blog")


async def test_an_agent_killed_while_replicas_start_goes_on_after_its_restart(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    slow = apps.shell("sleep 3; echo version two > /www/index.html; exec httpd -f -p $PORT -h /www")
    app.write(slow)
    push = asyncio.create_task(lone_boat.git_push(app))
    await lone_boat.until_deploy("blog", "starting")
    await lone_boat.kill_agent()
    assert (await push).status != 0
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    await lone_boat.start_agent()
    assert (await lone_boat.page("blog.localhost", "version two")).status == 200
    assert await lone_boat.is_tidy("blog")


async def test_an_agent_that_is_upgraded_in_mid_deploy_goes_on_and_the_older_one_refuses_to_start(
    lone_boat: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer one has a migration more, and nothing else in another way."""
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    app.write(apps.shell("sleep 3; echo version two > /www/index.html; exec httpd -f -p $PORT -h /www"))
    push = asyncio.create_task(lone_boat.git_push(app))
    await lone_boat.until_deploy("blog", "starting")
    await lone_boat.stop_agent()
    assert (await push).status != 0
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    version = len(list(MIGRATIONS.glob("*.sql"))) + 1
    for package in ("agent", "proto", "cli"):
        shutil.copytree(house.ROOT / package, tmp_path / package)
    later = tmp_path / "agent" / "state" / "migrations" / f"{version:04}_later.sql"
    later.write_text("CREATE TABLE later (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;\n")
    with monkeypatch.context() as upgraded:
        upgraded.setattr(house, "ROOT", tmp_path)
        await lone_boat.start_agent()
        assert (await lone_boat.page("blog.localhost", "version two")).status == 200
        assert await lone_boat.is_tidy("blog")
        await lone_boat.stop_agent()
    with pytest.raises(house.BoatError, match="The agent ended before"):
        await lone_boat.start_agent()
    assert f"has schema version {version}; this Pushboat knows versions up to {version - 1}." in lone_boat.log
    assert (await lone_boat.http("blog.localhost")).text == "version two\n"


async def test_an_agent_killed_while_it_switches_goes_on_after_its_restart(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    app.write({"index.html": "version two\n"})
    # A proxy that does not answer holds the deploy in its switch.
    proxies = lone_boat.proxy_pids()
    for pid in proxies:
        os.kill(pid, signal.SIGSTOP)
    try:
        push = asyncio.create_task(lone_boat.git_push(app))
        await lone_boat.until_deploy("blog", "switching")
        await lone_boat.kill_agent()
    finally:
        for pid in proxies:
            os.kill(pid, signal.SIGCONT)
    assert (await push).status != 0
    assert (await lone_boat.http("blog.localhost")).text in ("version one\n", "version two\n")
    await lone_boat.start_agent()
    assert (await lone_boat.page("blog.localhost", "version two")).status == 200
    assert await lone_boat.is_tidy("blog")


async def test_an_agent_killed_during_a_drain_lets_the_request_in_flight_finish(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.liner(wait="6"))
    assert (await lone_boat.git_push(app)).status == 0
    request = asyncio.create_task(lone_boat.http("blog.localhost"))
    await lone_boat.until_in_flight("blog")
    app.write(apps.page("two"))
    assert (await lone_boat.git_push(app)).status == 0
    await lone_boat.kill_agent()
    await lone_boat.start_agent()
    assert (await lone_boat.http("blog.localhost")).text == "version two\n"
    assert (await request).text == "hello\n"
    assert await lone_boat.is_tidy("blog")


async def test_a_killed_proxy_comes_back_with_the_right_routes(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    for pid in lone_boat.proxy_pids():
        os.kill(pid, signal.SIGKILL)
    assert (await lone_boat.page("blog.localhost", "version one")).status == 200


async def test_the_proxy_serves_while_the_agent_is_down(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    await lone_boat.kill_agent()
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    await lone_boat.start_agent()
    assert (await lone_boat.http("blog.localhost")).text == "version one\n"
    releases = json.loads(await lone_boat.must("releases", "blog", "--format", "json"))
    assert [release["version"] for release in releases] == [1]


async def test_a_restarted_or_removed_replica_comes_back(lone_boat: Rig, record_property: Record) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    (container,) = lone_boat.containers()
    assert (await lone_boat.run("docker", "restart", "-t", "1", container)).status == 0
    assert await is_steady(lone_boat, "version one\n")
    assert lone_boat.containers() == [container]
    (container,) = lone_boat.containers()
    assert (await lone_boat.run("docker", "rm", "-f", container)).status == 0
    with timed(record_property, f"an app's only container removed by hand, until {STEADY_VISITS} good pages in a row"):
        assert await is_steady(lone_boat, "version one\n")
    events = await lone_boat.must("events", "--app", "blog")
    assert "replica.lost" in events


async def is_steady(rig: Rig, text: str) -> bool:
    """Wait until `blog` answers again and again without a break: no 502 is left, nor comes back."""
    good = 0
    async with asyncio.timeout(30):
        while good < STEADY_VISITS:
            good = good + 1 if (await rig.http("blog.localhost")).text == text else 0
    return True


async def test_a_websocket_survives_the_deploy_of_another_app_and_its_own_drain(lone_boat: Rig) -> None:
    app = lone_boat.checkout("chat", apps.liner())
    other = lone_boat.checkout("other", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    reader, writer = await asyncio.open_connection("127.0.0.1", lone_boat.ports[1])
    writer.write(
        b"GET / HTTP/1.1\r\nHost: chat.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        # The example of RFC 6455, 1.3.
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    for version in ("one", "two", "three"):
        other.write({"index.html": f"version {version}\n"})
        assert (await lone_boat.git_push(other)).status == 0
        writer.write(version.encode() + b"\n")
        assert await asyncio.wait_for(reader.readline(), 5) == version.encode() + b"\n"
    assert (await lone_boat.ssh("ps:restart", "chat")).status == 0
    writer.write(b"still here\n")
    assert await asyncio.wait_for(reader.readline(), 5) == b"still here\n"
    writer.close()
