"""HAProxy with 5,000 apps of one domain each, beside 10: our adapter's reload and its changes at run time.

A validated reload is what a change of the frame takes (here: an app's balance): HAProxy checks the new file, reads it,
and a new worker answers. The rest goes by the runtime API: a replica takes another's place, a domain comes, a look at
all that HAProxy holds. Each is timed from the call of the port to its return, when visitors get the new state.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec

from agent.log import configure
from agent.ports.proxy import Route, Upstream
from bench.measured import Figure, report, say
from proto.names import AppId
from tests.proxies.apps import running_app
from tests.proxies.front import Front, route, running_front

SIZES = (10, 1000, 5000)
RUNS = 7
Figures = dict[str, float]
Table = dict[AppId, Route]


async def measure() -> None:
    """Run it and print the figures."""
    configure(format="json", level="warning")
    found = {}
    for size in SIZES:
        found[size] = await _with_apps(size)
        say(f"{size} apps: " + ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in found[size].items()))
    first = found[SIZES[0]]
    report(
        [
            Figure(f"proxy.{name}.{size}-apps", "s", value, first[name], "linear and small", RUNS)
            for size in SIZES[1:]
            for name, value in found[size].items()
        ]
    )


async def _with_apps(size: int) -> Figures:
    async with running_front(spare_backends=200) as front, running_app("r") as app:
        where = app.upstream
        table: Table = {}
        for number in range(size):
            one = route(f"a{number}", Upstream(f"r{number}", where.host, where.port))
            table[one.app] = one
        started = time.perf_counter()
        await front.proxy.apply(table)
        figures = {"first": time.perf_counter() - started}
        names = iter(range(1_000_000))

        def replica(one: Route) -> Route:
            return msgspec.structs.replace(one, upstreams=(Upstream(f"new{next(names)}", where.host, where.port),))

        def domain(one: Route) -> Route:
            return msgspec.structs.replace(one, domains=(f"new{next(names)}.test", *one.domains))

        def balance(one: Route) -> Route:
            other = "leastconn" if one.balance == "roundrobin" else "roundrobin"
            return msgspec.structs.replace(one, balance=other)

        figures["same"] = await _median(lambda: front.proxy.apply(dict(table)))
        figures["replica"] = await _change(front, table, replica)
        figures["domain"] = await _change(front, table, domain)
        figures["survey"] = await _median(front.proxy.survey)
        before = await front.reloads()
        figures["reload"] = await _change(front, table, balance)
        if await front.reloads() - before != RUNS:
            raise RuntimeError("a change of balance is to reload, and did not")
        answer = await front.ask("a5.test")
        if answer.status != 200:
            raise RuntimeError(f"a visitor got {answer.status}")
    return figures


async def _change(front: Front, table: Table, changed: Callable[[Route], Route]) -> float:
    app = AppId("app-a5")

    async def change() -> None:
        table[app] = changed(table[app])
        await front.proxy.apply(dict(table))

    return await _median(change)


async def _median(act: Callable[[], Awaitable[object]]) -> float:
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        await act()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    asyncio.run(measure())
