"""Requests through deploys, scales, config changes and rollbacks of one app while others deploy, beside nginx.

Visitors of every kind (see `bench.visitors`) ask ours and the reference the same. First nothing changes for a while;
then ours is changed, and after each fourth change the reference is switched, until all is changed and the number of
requests is reached. What failed is told by kind and reason; what has to fail (a request on a replica that dies) is told
apart. Promise 1: of ours, none fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import switch_report
from bench.by_reload import GRACE_SECONDS, ByReload, by_reload, nginx_folder
from bench.measured import say
from bench.python_image import build, ensure_python
from bench.shares import Shares, shares
from bench.visitors.kinds import CHAT, IDLER, LATE, MORTAL, SHOP
from bench.visitors.tally import Tally
from scripts.house.boat import ROOT
from scripts.house.engine import Engine
from tests.support.rig import Checkout, Rig, rig, small_app

APPS = {SHOP: 2, CHAT: 1, IDLER: 1, LATE: 2, MORTAL: 2}
"""Replicas of each app that is visited."""
SETTINGS = {IDLER: ["IDLE_SECONDS=5"], LATE: ["START_SECONDS=4"]}
IMAGE = "pushboat-bench/visited:1"
"""The same files, built for the reference, and left on the machine."""
BUILDS = 2
"""At once."""
OTHERS = 20
HOLDS_SECONDS = 30
"""That a replica which was replaced may have open sockets: ``wait-to-retire`` of the app."""
REFERENCE_EVERY = 4
"""Changes of ours, one switch of the reference."""
QUIET_SECONDS = 30.0
WARM_SECONDS = 3.0
LEAVE_SECONDS = 90.0
SIDE_SECONDS = 40.0
"""Between two config changes of the apps that are slow to start and that close idle connections."""


@dataclass
class Visitors:
    """The process with all visitors of one proxy."""

    process: asyncio.subprocess.Process
    requests: int = 0
    """Bulk requests so far."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    counted: asyncio.Condition = field(default_factory=asyncio.Condition)

    def phase(self, word: str) -> None:
        """Tell them what is going on."""
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n".encode())

    async def until(self, requests: int) -> None:
        """Wait until so many bulk requests were made."""
        async with self.counted:
            await self.counted.wait_for(lambda: self.requests >= requests)

    async def listen(self) -> None:
        """Take in what they say, until they have left."""
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            match json.loads(line):
                case int(requests):
                    async with self.counted:
                        self.requests = requests
                        self.counted.notify_all()
                case dict(kinds):
                    self.tallies = {kind: Tally.of(plain) for kind, plain in kinds.items()}
        if not self.tallies:
            raise RuntimeError("the visitors went without a word")


@dataclass(frozen=True)
class Plan:
    """What is asked of a run."""

    requests: int
    rate: float
    changes: int
    minutes: float
    """At most, for what changes."""
    strategy: str
    """Of the app that is changed."""
    is_plain: bool
    """Nobody gets the CPU before anybody, see `bench.shares`."""


@dataclass
class Run:
    """One run: what is asked of it, and what takes part."""

    plan: Plan
    r: Rig
    reference: ByReload
    checkouts: dict[str, Checkout]
    ours: Visitors
    theirs: Visitors
    changed: int = 0
    switched: int = 0

    def phase(self, word: str) -> None:
        """Tell all visitors what is going on."""
        self.ours.phase(word)
        self.theirs.phase(word)

    async def go(self) -> None:
        """Go through it."""
        await asyncio.sleep(WARM_SECONDS)
        say(f"{QUIET_SECONDS:.0f} s of load without changes.")
        self.phase("quiet")
        await asyncio.sleep(QUIET_SECONDS)
        say(f"The same load through {self.plan.changes} changes of one app, while {OTHERS} others deploy.")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.plan.minutes * 60):
                await self._busy(began, self.ours.requests + self.plan.requests)
        except TimeoutError:
            say("Time is up before all was done.")
        say(f"{self.changed} changes, {self.switched} of the reference, in {time.monotonic() - began:.0f} s.")
        self.phase("leave")

    async def _busy(self, began: float, wanted_requests: int) -> None:
        seconds = self.plan.requests / self.plan.rate
        async with asyncio.TaskGroup() as group:
            sides = [group.create_task(self._side(name)) for name in (IDLER, LATE)]
            group.create_task(self._others(seconds))
            for number in range(self.plan.changes):
                self.phase("between")
                await asyncio.sleep(max(began + number * seconds / self.plan.changes - time.monotonic(), 0))
                self.phase("ours")
                await self._change(number)
                self.changed += 1
                if number % REFERENCE_EVERY == 0:
                    self.phase("theirs")
                    await self.reference.switch(SHOP, APPS[SHOP])
                    self.switched += 1
            self.phase("between")
            await self.ours.until(wanted_requests)
            for task in sides:
                task.cancel()

    async def _change(self, number: int) -> None:
        """Change the app: push, scale, set, roll back, in turn."""
        match number % 4:
            case 0:
                await _push(self.r, self.checkouts[SHOP], f"change {number}")
            case 1:
                await self.r.must("ps:scale", SHOP, f"web={3 if number % 8 == 1 else 2}")
            case 2:
                await self.r.must("config:set", SHOP, f"NUMBER={number}")
            case _:
                await self.r.must("releases:rollback", SHOP)

    async def _side(self, name: str) -> None:
        """Go on changing an app of a kind of its own."""
        number = 0
        while True:
            await asyncio.sleep(SIDE_SECONDS)
            number += 1
            await self.r.must("config:set", name, f"NUMBER={number}")
            await self.reference.switch(name, APPS[name])

    async def _others(self, seconds: float) -> None:
        """Deploy each of the others, spread over the time."""
        for number in range(OTHERS):
            began = time.monotonic()
            checkout = self.checkouts[f"other-{number}"]
            await _push(self.r, checkout, "second", file="index.html")
            # Which nothing but a reload of HAProxy can do.
            await self.r.must("proxy:set", checkout.app, "balance", "leastconn")
            await asyncio.sleep(max(began + seconds / OTHERS - time.monotonic(), 0))


async def measure(plan: Plan) -> int:
    """Run it, print the figures, and return 1 if a request of ours failed."""
    engine = Engine()
    image = ensure_python(engine)
    program = (ROOT / "bench/visitors/app.py").read_text()
    recipe = f'FROM {image}\nCOPY app.py version.txt /\nEXPOSE 5000\nCMD ["python3", "-S", "/app.py"]\n'
    files = {"Dockerfile": recipe, "app.py": program, "version.txt": "first\n"}
    build(engine, IMAGE, {name: text.encode() for name, text in files.items()})
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name, shares(is_wanted=not plan.is_plain) as cpu:
        ours: dict[str, dict[str, object]] = {
            "build": {"concurrency": BUILDS},
            "replicas": {"control_group": cpu.slice},
        }
        async with rig(Path(name), **ours) as r:
            say(f"{len(APPS) + OTHERS} apps.")
            checkouts = await _deploy_all(r, files, plan.strategy)
            return await _visited(plan, r, checkouts, nginx_folder(Path(name)), cpu)


async def _visited(plan: Plan, r: Rig, checkouts: dict[str, Checkout], folder: Path, cpu: Shares) -> int:
    async with (
        by_reload(folder, IMAGE, APPS, SETTINGS, group=cpu.parent) as reference,
        _visitors(r.ports[1], plan.rate, holds=HOLDS_SECONDS) as ours,
        _visitors(reference.port, plan.rate, holds=GRACE_SECONDS) as theirs,
    ):
        assert r.boat.agent
        cpu.rests([r.boat.agent.pid])
        cpu.serves("haproxy", r.proxy_pids())
        cpu.serves("nginx", reference.pids())
        cpu.visits([ours.process.pid, theirs.process.pid])
        run = Run(plan, r, reference, checkouts, ours, theirs)
        async with asyncio.TaskGroup() as group:
            group.create_task(ours.listen())
            group.create_task(theirs.listen())
            await run.go()
            await asyncio.wait_for(asyncio.gather(ours.process.wait(), theirs.process.wait()), LEAVE_SECONDS)
        return switch_report.tell(ours.tallies, theirs.tallies, changes=(run.changed, run.switched))


async def _deploy_all(r: Rig, files: dict[str, str], strategy: str) -> dict[str, Checkout]:
    checkouts = {name: r.checkout(name, files) for name in APPS}
    checkouts |= {f"other-{number}": r.checkout(f"other-{number}", small_app()) for number in range(OTHERS)}
    limit = asyncio.Semaphore(BUILDS)

    async def deploy(name: str, checkout: Checkout) -> None:
        async with limit:
            await _push(r, checkout, "first", file="version.txt" if name in APPS else "index.html")
            for setting in SETTINGS.get(name, ()):
                await r.must("config:set", name, setting)
            if APPS.get(name, 1) > 1:
                await r.must("ps:scale", name, f"web={APPS[name]}")

    async with asyncio.TaskGroup() as group:
        for name, checkout in checkouts.items():
            group.create_task(deploy(name, checkout))
    await r.must("checks:set", SHOP, "wait-to-retire", str(HOLDS_SECONDS))
    await r.must("ps:set", SHOP, "strategy", strategy)
    return checkouts


async def _push(r: Rig, checkout: Checkout, version: str, *, file: str = "version.txt") -> None:
    checkout.write({file: f"{version} {random.random()}\n"})
    pushed = await r.git_push(checkout)
    if pushed.status:
        raise RuntimeError(pushed.err)


@asynccontextmanager
async def _visitors(port: int, rate: float, *, holds: float) -> AsyncIterator[Visitors]:
    pipe = asyncio.subprocess.PIPE
    # A seed of its own for each of them, drawn from the one of all.
    seed = str(random.randrange(1 << 32))
    command = [sys.executable, "-m", "bench.visitors", str(port), str(rate), str(holds - 1), seed]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=2**30)
    try:
        yield Visitors(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(prog="bench/switch", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=100_000, help="bulk requests to ours while things change")
    parser.add_argument("--rate", type=float, default=450.0, help="bulk requests a second, to each of the two")
    parser.add_argument("--changes", type=int, default=100, help="of the one app")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which it ends, whatever is left to do")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of what visitors and pushes draw")
    # Rolling, a deploy waits for the drain of each batch, and open websockets make those last.
    parser.add_argument("--strategy", default="all-at-once", help="of the app that is changed: rolling, stop-first")
    parser.add_argument("--plain", action="store_true", help="without the shares of the CPU that scripts/install gives")
    options = parser.parse_args()
    say(f"seed {options.seed}")
    random.seed(options.seed)
    plan = Plan(
        options.requests, options.rate, options.changes, options.minutes, options.strategy, is_plain=options.plain
    )
    return asyncio.run(measure(plan))


if __name__ == "__main__":
    sys.exit(main())
