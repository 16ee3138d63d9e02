"""Much at once: changes of all kinds under visitors' eyes, changes of one app against each other, and apps that take
all they can get beside others that must not notice."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.flow import apps
from tests.flow.test_kills import visited
from tests.support.rig import ENDED, Done, Rig
from tests.support.watched_memory import Growth

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

FLOOD = "while :; do yes $(head -c 900 /dev/zero | tr '\\0' x) | head -n 20000; done\n"
"""Writes 18 MB at a time, as fast as anybody reads it."""
FLOOD_SECONDS = 6.0
FLOOD_BYTES = 200 << 20
"""What a flood may cost the agent; it writes several times as much."""
CALM_LINES = 20
COMMAND_SECONDS = 5.0
"""For a command beside a flood: a promise, and a generous one; by itself it takes a fiftieth."""


async def test_visitors_lose_nothing_while_their_app_and_others_are_changed_and_haproxy_reloads(boat: Rig) -> None:
    shop, other = boat.checkout("shop", apps.page("1")), boat.checkout("other", apps.page("1"))
    for checkout in (shop, other):
        assert (await boat.git_push(checkout)).status == 0
    await boat.must("domains:add", "shop", "shop.test")

    async def change_shop() -> None:
        shop.write(apps.page("2"))
        assert (await boat.git_push(shop)).status == 0
        await boat.must("ps:scale", "shop", "web=3")
        await boat.must("config:set", "shop", "COLOUR=blue")
        await boat.must("ps:scale", "shop", "web=1")
        await boat.must("releases:rollback", "shop", "v1")

    async def change_others() -> None:
        for number in range(3):
            # Which nothing but a reload of HAProxy can do.
            await boat.must("proxy:set", "other", "balance", ("leastconn", "roundrobin")[number % 2])
            await boat.must("domains:add", "shop", f"shop-{number}.test")
            await boat.must("domains:add", "other", f"other-{number}.test")
            await boat.must("domains:remove", "shop", f"shop-{number}.test")
        other.write(apps.page("2"))
        assert (await boat.git_push(other)).status == 0

    async with visited(boat, "shop", "shop", "other") as answers:
        await asyncio.gather(change_shop(), change_others())
    assert set(answers) == {"200"} and answers["200"] > 100, answers
    assert (await boat.http("shop.test")).text == "version 1\n"
    assert (await boat.http("other-2.test")).text == "version 2\n"
    assert (await boat.http("shop-2.test")).status == 404


async def test_a_push_a_rollback_a_scale_and_a_rename_at_once_leave_one_whole_app(boat: Rig) -> None:
    """Whatever comes first: what was acknowledged is so, and one of those releases is live, with all that it wants."""
    app = boat.checkout("busy", apps.page("1"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.page("2"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.page("3"))
    pushed, rolled, scaled, renamed = await asyncio.gather(
        boat.git_push(app),
        boat.ssh("releases:rollback", "busy", "v1"),
        boat.ssh("ps:scale", "busy", "web=2"),
        boat.ssh("apps:rename", "busy", "busier"),
    )
    assert renamed.status == 0, renamed.err
    assert await boat.is_at_rest()
    deploys = json.loads(await boat.must("deploys", "busier", "--format", "json"))
    assert all(deploy["status"] in ENDED for deploy in deploys)
    (live,) = [r for r in json.loads(await boat.must("releases", "busier", "--format", "json")) if r["is_live"]]
    page = (await app.git("show", f"{live['commit']}:index.html")).strip()
    assert (await boat.http("busier.localhost")).text.strip() == page
    assert page in {"version 2", *(["version 3"] if was_taken(pushed) else []), *(["version 1"] if rolled.out else [])}
    # Who comes to push when the name is free makes another app of that name, which may be the one that is scaled then.
    left = await boat.http("busy.localhost")
    is_there = (await boat.ssh("apps:exists", "busy")).status == 0
    assert (left.status, is_there) == ((200, True) if left.text == "version 3\n" else (404, False))
    # Of both together: those that were not replaced since bear the former name.
    counts = {name: len(await boat.replicas(name)) for name in ("busier", "busy")}
    assert sum(counts.values()) == 1 + is_there + ("Scaling" in scaled.out), counts


def was_taken(pushed: Done) -> bool:
    return "Deploying" in pushed.err


async def test_an_app_with_endless_output_delays_neither_other_apps_nor_commands_and_costs_bounded_memory(
    boat: Rig,
) -> None:
    calm = "".join(f"sleep 0.2; echo calm {number}\n" for number in range(CALM_LINES))
    until_told = "until [ -e /tmp/begin ]; do sleep 0.05; done\n"
    assert (await boat.git_push(boat.checkout("calm", apps.writer(until_told + calm)))).status == 0
    assert (await boat.git_push(boat.checkout("flood", apps.writer(until_told + FLOOD)))).status == 0
    assert boat.boat.agent
    growth = Growth(boat.boat.agent.pid)
    for name in ("flood", "calm"):
        (container,) = await boat.replicas(name)
        assert (await boat.docker("exec", container, "touch", "/tmp/begin")).status == 0
    slowest, until = 0.0, time.monotonic() + FLOOD_SECONDS
    while time.monotonic() < until:
        began = time.monotonic()
        await boat.must("ps:report", "flood")
        slowest = max(slowest, time.monotonic() - began)
        assert (await boat.http("calm.localhost")).text == "it writes\n"
    await boat.must("apps:destroy", "flood", "--force")
    assert slowest < COMMAND_SECONDS
    assert growth.most < FLOOD_BYTES, f"the agent grew by {growth.most >> 20} MB"
    said = [line for line in (await boat.must("logs", "calm", "-n", "100")).splitlines() if "calm " in line]
    assert len(said) == CALM_LINES


async def test_a_fork_bomb_in_an_app_is_told_to_who_pushed_it_and_stops_nobody_else(boat: Rig) -> None:
    assert (await boat.git_push(boat.checkout("beside", apps.page("1")))).status == 0
    bomb = apps.shell("echo begun; while :; do sleep 600 & done")
    pushed = await boat.git_push(boat.checkout("bomb", bomb))
    assert pushed.status == 1
    assert "begun" in pushed.err and "can't fork" in pushed.err, pushed.err
    assert (await boat.http("beside.localhost")).text == "version 1\n"
    assert (await boat.git_push(boat.checkout("after", apps.page("1")))).status == 0
    await boat.must("apps:destroy", "bomb", "--force")
