"""What many apps cost: ``bench/scale fake 100 1000 5000`` on a fake engine, ``bench/scale real 100 300`` on Docker.

At each size, one figure for each of: deploying, restart (SIGTERM and SIGKILL) until ssh answers and until all runs and
nothing is left to do, memory, processor time while idle, how late the event loop is, commands, one deploy, and a domain
until visitors reach the app by it. The reference is the same at the smallest size: its ratio is the growth.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from bench.fleet import Fleet, fake_fleet, real_fleet
from bench.measured import Figure, cpu_seconds, megabytes, report, say
from bench.watched import lags_since

CALM_SECONDS = 5
WATCH_SECONDS = int(os.environ.get("BENCH_WATCH", "60"))
"""Two surveys, which come every 30 s."""
RUNS = 9
CHANGES = 5
PAUSE_SECONDS = 0.005

Run = Callable[[str], Awaitable[str]]
Values = dict[str, tuple[str, float, int]]
"""By measure: unit, value, runs."""


async def measure(kind: str, sizes: Sequence[int]) -> None:
    """Run it and print the figures."""
    first: Values = {}
    figures: list[Figure] = []
    async with (fake_fleet if kind == "fake" else real_fleet)() as fleet:
        for size in sizes:
            values = await _at(fleet, size, is_fake=kind == "fake")
            first = first or values
            new = [
                Figure(f"{kind}.{name}.{size}-apps", unit, value, first[name][1], _aim(name, size), runs)
                for name, (unit, value, runs) in values.items()
            ]
            for one in new:
                say(one.json())
            figures += new
    report(figures)


def _aim(name: str, size: int) -> str:
    if name.startswith("converged"):
        return f"ours <= {5 if size <= 100 else 30} s" if size <= 1000 else "linear"
    return "flat, or linear and small"


async def _at(fleet: Fleet, size: int, *, is_fake: bool) -> Values:
    """Return every figure at one size."""
    say(f"Deploying up to {size} apps.")
    values: Values = {"deploying": ("s/app", await fleet.grow(size), 1)}
    for name, how in (("term", fleet.boat.stop), ("kill", fleet.boat.kill)):
        say(f"Restart with {size} apps: {name}.")
        if is_fake:
            fleet.calls()
        offset = fleet.lag.stat().st_size
        restart = await fleet.restart(how)
        values |= {f"{what}.{name}": ("s", seconds, 1) for what, seconds in restart._asdict().items()}
        values |= _lag(f"restart-{name}", fleet, offset)
        if is_fake:
            say(f"calls to the engine: {dict(sorted(fleet.calls().items(), key=lambda call: -call[1]))}")
    await asyncio.sleep(CALM_SECONDS)
    values |= await _idle(fleet)
    async with fleet.connection() as run:
        offset = fleet.lag.stat().st_size
        for command in ("version", "apps:list", f"ps:report app-{size // 2}", f"logs app-{size // 2}"):
            values[command.split()[0]] = ("s", *await _median(lambda command=command: run(command), RUNS))  # type: ignore[misc]
        values |= await _changes(fleet, run, size)
        values |= _lag("commands", fleet, offset)
    return values


async def _idle(fleet: Fleet) -> Values:
    say(f"Watching {fleet.size} idle apps.")
    offset, before = fleet.lag.stat().st_size, cpu_seconds(fleet.pid)
    await asyncio.sleep(WATCH_SECONDS)
    percent = 100 * (cpu_seconds(fleet.pid) - before) / WATCH_SECONDS
    return {
        "memory": ("MB", megabytes(fleet.pid), 1),
        "idle-cpu": ("% of a core", percent, 1),
        **_lag("idle", fleet, offset),
    }


def _lag(when: str, fleet: Fleet, offset: int) -> Values:
    lags = sorted(lags_since(fleet.lag, offset))
    if not lags:
        return {f"lag-p99.{when}": ("ms", 0.0, 0), f"lag-max.{when}": ("ms", 0.0, 0)}
    return {
        f"lag-p99.{when}": ("ms", lags[int(len(lags) * 0.99)], len(lags)),
        f"lag-max.{when}": ("ms", lags[-1], len(lags)),
    }


async def _changes(fleet: Fleet, run: Run, size: int) -> Values:
    """Deploy an app anew, and give one a domain, some times."""
    app = f"app-{size // 3}"
    deploy = await _median(lambda: run(f"git:from-image --force {app} {fleet.image}"), CHANGES)
    numbers = iter(range(CHANGES + 1))

    async def domain() -> None:
        name = f"new-{next(numbers)}.{size}.example.com"
        await run(f"domains:add {app} {name}")
        async with asyncio.timeout(60):
            while True:
                answer = await asyncio.to_thread(fleet.boat.http, name, fleet.page)
                if answer and answer.status == 200:
                    return
                await asyncio.sleep(PAUSE_SECONDS)

    return {"deploy": ("s", *deploy), "domain": ("s", *await _median(domain, CHANGES))}


async def _median(act: Callable[[], Awaitable[object]], runs: int) -> tuple[float, int]:
    """Return the median of the seconds that `act` takes, the first time left out, and how often it was measured."""
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        await act()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:]), runs


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], [int(word) for word in sys.argv[2:]]))
