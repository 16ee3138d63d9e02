"""What is asked of, and ordered from, HAProxy's workers, over a conversation that `control` opens."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec

from agent.errors import Unavailable
from agent.proxies.haproxy.config import Layout, frame_of
from agent.proxies.haproxy.control import Master, OrderRefused, Process, Processes, Worker, unavailable
from agent.proxies.haproxy.drain import Look, OldWorker, replaced_ago
from agent.proxies.haproxy.held import (
    HANDED_OVER,
    Held,
    Key,
    Server,
    orders_to_add,
    orders_to_hand_over,
    orders_to_map,
    orders_to_withdraw,
    parse_handover,
    parse_map,
    parse_servers,
    parse_sessions,
    wanted_servers,
)
from agent.proxies.haproxy.plan import Maps, Plan

RELOAD_SECONDS: Final = 15.0
"""For a new worker to be there after a reload: 0.2 s with a thousand apps on an idle machine."""
RELOAD_PAUSE: Final = 0.02
"""Seconds between two looks at whether it is there."""


async def read_held(worker: Worker, layout: Layout) -> Held:
    """Return what the worker holds, by asking it."""
    exact: dict[str, list[str]] = {}
    for host, backend in parse_map(await worker.ask(f"show map {layout.exact_map}")):
        exact.setdefault(host, []).append(backend)
    servers = await worker.ask("show servers state")
    return Held(
        pid=worker.pid,
        frame=frame_of(await worker.ask("show info")),
        servers=parse_servers(servers),
        handover=parse_handover(servers),
        exact=exact,
        wildcards=tuple(parse_map(await worker.ask(f"show map {layout.wildcard_map}"))),
    )


async def bring(worker: Worker, held: Held, plan: Plan, layout: Layout, *, handover: str) -> Held:
    """Close the gap between what the worker holds and `plan`; return what it holds then.

    New servers first, then the maps, then withdrawals: at each moment every domain leads to a server
    that takes requests. `handover`: the words of the handover's server.

    Raises:
        OrderRefused: the worker did not do as told, so `held` is not what it holds.
        Unavailable: it does not answer.
    """
    wanted = wanted_servers(plan.slots)
    await worker.order(*orders_to_hand_over(held, handover))
    await worker.order(*orders_to_add(held, wanted))
    await worker.order(*orders_to_map(held, plan.maps, str(layout.exact_map)))
    if tuple(held.wildcards) != plan.maps.wildcards:
        await _replace_wildcards(worker, plan.maps, layout)
    await worker.order(*orders_to_withdraw(held, wanted))
    serving = {key: Server(host=u.host, port=u.port, is_serving=True, is_withdrawn=False) for key, u in wanted.items()}
    withdrawn = {
        key: msgspec.structs.replace(server, is_serving=False, is_withdrawn=True)
        for key, server in held.servers.items()
        if key not in wanted
    }
    return msgspec.structs.replace(
        held,
        servers=serving | withdrawn,
        handover=HANDED_OVER,
        exact={host: (backend,) for host, backend in plan.maps.exact.items()},
        wildcards=plan.maps.wildcards,
    )


async def bury(worker: Worker, key: Key) -> bool:
    """Delete a withdrawn server, if nothing is left on it; tell whether it is gone."""
    target = "/".join(key)
    try:
        await worker.order(f"set server {target} state maint", f"del server {target}")
    except OrderRefused:
        # It still has a connection, if only an idle one; it gets no requests and is tried again at the next survey.
        return False
    return True


async def bury_idle(worker: Worker, held: Held, plan: Plan) -> Held:
    """Delete every withdrawn server on which nothing is left; return what the worker holds then."""
    left_over = held.servers.keys() - wanted_servers(plan.slots).keys()
    if left_over:
        sessions = parse_sessions(await worker.ask("show servers conn"))
        for key in left_over:
            if held.servers[key].is_withdrawn and not sessions.get(key) and await bury(worker, key):
                held = without(held, key)
    return held


def without(held: Held, key: Key) -> Held:
    """Return `held` less one server."""
    servers = {other: server for other, server in held.servers.items() if other != key}
    return msgspec.structs.replace(held, servers=servers)


async def look(master: Master) -> Look:
    """Return what all workers have in flight."""
    processes = await master.processes()
    async with master.worker(processes.current.pid) as worker:
        servers = parse_servers(await worker.ask("show servers state"))
        sessions = parse_sessions(await worker.ask("show servers conn"))
    old = [await _look_at_old(master, worker, processes) for worker in processes.old]
    return Look(servers=servers, sessions=sessions, old=old)


async def reload(master: Master, before: Processes) -> Processes:
    """Have the master read the file anew; return who runs then.

    Raises:
        Unavailable: it refused the file or could not listen, and goes on with the former worker; or does not answer.
    """
    await master.reload()
    deadline = asyncio.get_running_loop().time() + RELOAD_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        try:
            now = await master.processes()
        except Unavailable:
            # Between two workers the master has none, and while it starts itself anew it does not answer.
            now = before
        if now.reloads > before.reloads:
            if now.failed or now.current.pid == before.current.pid:
                raise unavailable("it could not reload and goes on as it was")
            return now
        await asyncio.sleep(RELOAD_PAUSE)
    raise unavailable(f"it did not reload within {RELOAD_SECONDS:.0f} s")


async def _look_at_old(master: Master, process: Process, processes: Processes) -> OldWorker:
    try:
        async with master.worker(process.pid) as worker:
            sessions = parse_sessions(await worker.ask("show servers conn"))
    except Unavailable:
        # It ends with its last connection, and that may be now. The next look will not find it.
        sessions = None
    return OldWorker(replaced_ago=replaced_ago(process, processes), sessions=sessions)


async def _replace_wildcards(worker: Worker, maps: Maps, layout: Layout) -> None:
    """Replace the whole map at one instant: its order counts, and single additions always go to its end."""
    file = layout.wildcard_map
    answer = await worker.ask(f"prepare map {file}")
    version = re.search(r"created: (\d+)", answer)
    if not version:
        raise OrderRefused(f"prepare map {file}", answer)
    additions = (f"add map @{version[1]} {file} {suffix} {backend}" for suffix, backend in maps.wildcards)
    await worker.order(*additions, f"commit map @{version[1]} {file}")
