"""Load through 20 deploys and 20 config changes: requests that failed, and the slowest hundredth beside a quiet time.

wrk keeps 8 connections alive and asks on each 50 times a second, which leaves the machine room to deploy. More than 8
would measure the app: busybox httpd lets nine connections wait, and the tenth is tried again after a second.
"""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measured import Figure, report, say
from tests.support.rig import Checkout, Rig, rig, small_app

CHANGES = 20
APP = "bench"
CONNECTIONS = 8
QUIET_SECONDS = 30
LONGEST_SECONDS = 1800
PATIENCE_SECONDS = 30
"""A request that has no answer by then has failed. wrk's own limit of 2 s would count what is only slow."""
PACE = 'wrk.headers["Host"] = "{host}"\nfunction delay() return 20 end\n'
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass
class Load:
    """What wrk saw."""

    requests: int = 0
    failed: int = 0
    p99: float = 0.0
    """Milliseconds."""


async def measure(changes: int = CHANGES) -> None:
    """Run it and print the figures."""
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        async with rig(Path(name)) as r:
            checkout = r.checkout(APP, small_app())
            await _deploy(r, checkout, "first")
            say(f"{QUIET_SECONDS} s of load without changes.")
            async with _load(r) as quiet:
                await asyncio.sleep(QUIET_SECONDS)
            say(f"The same load through {changes} deploys and {changes} config changes.")
            async with _load(r) as busy:
                for number in range(changes):
                    await _deploy(r, checkout, f"deploy-{number}")
                    await r.must("config:set", APP, f"NUMBER={number}")
    say(f"{busy.requests:,} requests through the changes, {quiet.requests:,} in the quiet time.")
    report(
        [
            Figure("switch.failed", "requests", busy.failed, quiet.failed, "ours = 0", busy.requests, busy.failed),
            Figure("switch.p99", "ms", busy.p99, quiet.p99, "beside the reference", 2 * changes),
        ]
    )


async def _deploy(r: Rig, checkout: Checkout, version: str) -> None:
    checkout.write({"index.html": f"{version}\n"})
    pushed = await r.git_push(checkout)
    if pushed.status:
        raise RuntimeError(pushed.err)
    await r.page(f"{APP}.localhost", version)


@asynccontextmanager
async def _load(r: Rig) -> AsyncIterator[Load]:
    """Keep wrk running during the block; what it saw is in the yielded object afterwards."""
    script = r.boat.folder / "pace.lua"
    script.write_text(PACE.format(host=f"{APP}.localhost"))
    url = f"http://127.0.0.1:{r.ports[1]}/"
    options = [
        "-t",
        "2",
        "-c",
        str(CONNECTIONS),
        "-d",
        f"{LONGEST_SECONDS}s",
        "--timeout",
        f"{PATIENCE_SECONDS}s",
        "--latency",
        "-s",
        str(script),
    ]
    wrk = await r.spawn("wrk", *options, url)
    load = Load()
    try:
        yield load
    finally:
        wrk.send_signal(signal.SIGINT)  # wrk then prints what it has
        out, _ = await wrk.communicate()
        _read(load, out.decode())


def _read(load: Load, text: str) -> None:
    """Fill in what wrk printed."""
    load.requests = int(re.findall(r"(\d+) requests in", text)[0])
    value, unit = re.findall(r"99%\s+([0-9.]+)(us|ms|s|m)", text)[0]
    load.p99 = float(value) * UNITS[unit]
    errors = re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.findall(r"Non-2xx or 3xx responses: (\d+)", text)
    if errors or refused:
        say(f"wrk: connect, read, write, timeout: {errors}; not 2xx or 3xx: {refused}")
    load.failed = sum(int(count) for group in errors for count in group) + sum(int(count) for count in refused)


if __name__ == "__main__":
    asyncio.run(measure())
