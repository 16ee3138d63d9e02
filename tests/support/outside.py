"""What a Pushboat at rest looks like from outside: Docker, HAProxy the disk are asked; the agent, what should be.

Each look waits until it finds what it looks for: what was killed may be about to clean up still. Else it tells.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from agent.docker.labels import BRIDGE, INSTANCE, PROCESS_TYPE, REPLICA_ID
from agent.proxies.haproxy.control import Master
from agent.proxies.haproxy.held import parse_servers
from tests.support.rig import PAUSE_SECONDS, Rig

VISITS = 20
"""Good pages in a row: more than there are replicas to be sent to."""
LOOK_SECONDS = 60.0
LEFT = ("*/objects/tmp_objdir-*", "*/refs/**/*.lock", "*/*.lock")
"""What a git leaves in a repository if it is killed in a push."""
LONG_AGO = 1_000_000_000.0
"""Of a file's times: nobody works on it any more."""


async def require_order(rig: Rig, *apps: str) -> None:
    """Hold what there is of these apps (all that there are) against what should be; nothing else may be left of any."""
    await require_routes(rig)
    await _until(lambda: _bridges(rig), lambda: _once(rig), "networks")
    await _until(lambda: _images(rig), lambda: _kept_images(rig, apps), "images")
    await _require_no_quarantine(rig, apps)


async def require_routes(rig: Rig) -> None:
    """Hold where HAProxy sends visitors against where the containers of web processes are, of all apps."""
    await _until(lambda: _routed(rig), lambda: _to_route(rig), "HAProxy's servers")


async def require_pages(rig: Rig, app: str, text: str) -> None:
    """Ask for the app's page again and again, each time on a connection of its own; each has to be this one."""
    answers = await asyncio.gather(*(rig.http(f"{app}.localhost") for _ in range(VISITS)))
    assert {(answer.status, answer.text) for answer in answers} == {(200, text)}


async def serving(rig: Rig) -> dict[str, str]:
    """Return the address of each replica that HAProxy sends visitors to, by its account."""
    master = Master(rig.data / "proxy" / "sockets" / "master.sock")
    async with master.worker((await master.processes()).current.pid) as worker:
        servers = parse_servers(await worker.ask("show servers state"))
    return {name: server.host for (_, name), server in servers.items() if server.is_serving}


async def _routed(rig: Rig) -> object:
    return await serving(rig)


async def _to_route(rig: Rig) -> object:
    web = [one for one in await _labelled(rig, "containers/json", all=1) if one["Labels"][PROCESS_TYPE] == "web"]
    return {one["Labels"][REPLICA_ID]: _address(one) for one in web}


def _address(container: dict[str, Any]) -> str:
    if container["State"] != "running":
        return f"none: {container['Status']}"
    (network,) = container["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


async def _bridges(rig: Rig) -> object:
    return sorted(one["Labels"][BRIDGE] for one in await _labelled(rig, "networks"))


async def _once(rig: Rig) -> object:
    return sorted({one["Labels"][BRIDGE] for one in await _labelled(rig, "networks")})


async def _images(rig: Rig) -> object:
    return {one["Id"] for one in await _labelled(rig, "images/json")}


async def _kept_images(rig: Rig, apps: Collection[str]) -> object:
    kept = set()
    for app in apps:
        releases = json.loads(await rig.must("releases", app, "-n", "1000", "--format", "json"))
        kept |= {one["image"] for one in releases if one["is_live"] or one["can_roll_back"]}
    return kept


async def _labelled(rig: Rig, path: str, **query: object) -> list[dict[str, Any]]:
    """Return what the engine has that is this Pushboat's."""
    mine = {"label": [f"{INSTANCE}={(rig.data / 'instance').read_text().strip()}"]}
    found: list[dict[str, Any]] = await asyncio.to_thread(
        rig.boat.engine.call, "GET", f"/{path}", filters=mine, **query
    )
    return found


async def _require_no_quarantine(rig: Rig, apps: Collection[str]) -> None:
    """Let the time pass after which what a killed push left belongs to nobody, have it cleaned, and look."""
    for folder in (rig.data / "repos").glob("*/objects/tmp_objdir-*"):
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (LONG_AGO, LONG_AGO))
    for app in apps:
        await rig.must("repo:gc", app)
    repositories = rig.data / "repos"
    left = [str(path) for form in LEFT for path in repositories.glob(form)]
    assert not left, left


async def _until(found: Callable[[], Awaitable[object]], wanted: Callable[[], Awaitable[object]], what: str) -> None:
    told: tuple[object, object] = (None, None)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            while True:
                told = (await found(), await wanted())
                if told[0] == told[1]:
                    return
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what}: {told[0]}, and there should be {told[1]}") from None
