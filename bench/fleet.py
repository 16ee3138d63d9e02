"""Very many apps under one agent: of real containers, or of a fake engine (`fake_engine`), deployed by its commands.

The agent is the real one with all its adapters, its database, HAProxy and SSH; only the engine may be fake.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh

from bench import fake_engine
from bench.measured import busy_seconds, cpu_seconds, say
from bench.seeding import seed
from bench.watched import LAG
from scripts.house.addresses import LOOPBACK, free_port
from scripts.house.boat import ROOT, Boat
from scripts.house.engine import Engine, busybox_root
from scripts.house.removal import instances
from tests.support.rig import rig

POOL = IPv4Network("127.213.0.0/16")
"""For the fake engine. All of 127.0.0.0/8 is this machine."""
IMAGE = "pushboat-bench/scale:1"
AT_ONCE = 8
"""Commands that deploy at the same time while the fleet grows."""
DEPLOYED = 20
"""Apps that are deployed by commands at each size of a seeded fleet."""
DAMAGED = 10
"""Containers that are removed while the agent does not run."""
REST_SECONDS = 3.0
REST_SHARE = 0.1
"""The agent is at rest once it has used less than this share of a core for so long."""
PATIENCE_SECONDS = 240.0
PAUSE_SECONDS = 0.02


class Restart(NamedTuple):
    """How a restart went, in seconds from the agent's start."""

    ready: float
    """Until ssh and HTTP answer."""
    healed: float
    """Until the containers that were missing run again."""
    converged: float
    """Until it has nothing left to do as well."""
    cpu: float
    """What the agent has used of the processor by then, its imports included."""
    queued: float
    """How long its loop had to wait for a processor, because others had them."""


class Fleet:
    """One agent and its apps, ``app-0`` to ``app-N``."""

    def __init__(self, boat: Boat, *, image: str, socket: str, seeded_port: int = 0) -> None:
        """`seeded_port`: where a fake engine's replicas listen; most apps are seeded then, see `seeding`."""
        self.boat = boat
        self.lag = boat.folder / "lag"
        self.size = 0
        self.image = image
        self.page = "/" if seeded_port else "/passwd"
        """What is there, in each app."""
        self._seeded_port = seeded_port
        self._engine = Engine(socket)

    @property
    def pid(self) -> int:
        """The agent's process."""
        agent = self.boat.agent
        assert agent, self.boat.end_of_log()
        return agent.pid

    async def grow(self, size: int) -> float:
        """Deploy apps until there are so many, all of them or the last ones; return the seconds per app deployed."""
        if self._seeded_port and size - self.size > DEPLOYED:
            await self._seed(range(self.size, size - DEPLOYED))
        before, started = self.size, time.perf_counter()
        numbers = iter(range(self.size, size))

        async def deploy() -> None:
            async with self.connection() as run:
                for number in numbers:
                    await run(f"apps:create app-{number}")
                    await run(f"git:from-image app-{number} {self.image}")

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(deploy())
        self.size = size
        return (time.perf_counter() - started) / max(1, size - before)

    async def _seed(self, numbers: range) -> None:
        say(f"Seeding {len(numbers)} of them.")
        await asyncio.to_thread(self.boat.stop)
        pool = str(self.boat.pool)
        await seed(self.boat.data, engine=self._engine, pool=pool, port=self._seeded_port, numbers=numbers)
        await asyncio.to_thread(self.boat.start)
        await asyncio.to_thread(self._rest)
        self.size = numbers.stop

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
        """Give what runs a command over one connection that stays open, and returns what it printed."""
        async with asyncssh.connect(
            LOOPBACK, self.boat.ssh_port, username="pushboat", client_keys=[str(self.boat.key)], known_hosts=None
        ) as connection:

            async def run(command: str) -> str:
                done = await connection.run(command)
                if done.returncode:
                    raise RuntimeError(f"{command}: {done.returncode} {done.stdout!s}{done.stderr!s}")
                return str(done.stdout)

            yield run

    async def restart(self, how: Callable[[], None]) -> Restart:
        """End the agent by `how`, remove some of its containers, start it; see `DAMAGED`."""
        await asyncio.to_thread(how)
        apps = await asyncio.to_thread(self._damage)
        started = time.perf_counter()
        await asyncio.to_thread(self.boat.start)
        ready = time.perf_counter() - started
        await asyncio.to_thread(self._await_running, apps)
        healed = time.perf_counter() - started
        rested = await asyncio.to_thread(self._rest) - started
        say(f"ready after {ready:.2f} s, healed after {healed:.2f} s, at rest after {rested:.2f} s")
        return Restart(ready, healed, max(healed, rested), cpu_seconds(self.pid), busy_seconds(self.pid)[1])

    def _rest(self) -> float:
        """Return when the agent's rest began, once it has lasted for a while. Waiting for a processor is no rest."""
        while True:
            began, used = time.perf_counter(), sum(busy_seconds(self.pid))
            while sum(busy_seconds(self.pid)) - used < REST_SECONDS * REST_SHARE:
                if time.perf_counter() - began > REST_SECONDS:
                    return began
                time.sleep(PAUSE_SECONDS)

    def _await_running(self, apps: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._are_running(apps):
            if time.monotonic() > deadline:
                raise RuntimeError(f"containers did not come back.\n{self.boat.end_of_log()}")
            time.sleep(PAUSE_SECONDS)

    def _damage(self) -> list[str]:
        """Remove some containers, evenly spread; return the ids of their apps."""
        rows = self._rows()
        apps = []
        for row in rows[:: max(1, len(rows) // DAMAGED)][:DAMAGED]:
            self._engine.call("DELETE", f"/containers/{row['Id']}", force=1, v=1)
            apps.append(row["Labels"]["com.pushboat.app-id"])
        return apps

    def _are_running(self, apps: list[str]) -> bool:
        return all(any(row["State"] == "running" for row in self._rows(f"com.pushboat.app-id={app}")) for app in apps)

    def _rows(self, *labels: str) -> list[dict[str, Any]]:
        mine = [f"com.pushboat.instance={self._instance}", *labels]
        rows: list[dict[str, Any]] = self._engine.call("GET", "/containers/json", all=1, filters={"label": mine})
        return rows

    @cached_property
    def _instance(self) -> str:
        return next(iter(instances(self._engine, data=self.boat.data, pool=self.boat.pool)))

    def calls(self) -> dict[str, int]:
        """Return how often each kind of call was made to a fake engine since this was last asked."""
        found: dict[str, int] = self._engine.call("GET", fake_engine.CALLS)
        return found


@asynccontextmanager
async def real_fleet() -> AsyncIterator[Fleet]:
    """Give a fleet of containers that run busybox httpd, and remove it afterwards."""
    engine = Engine()
    changes = ['CMD ["httpd", "-f", "-p", "5000", "-h", "/etc"]', "ENV PATH=/bin", "EXPOSE 5000"]
    repository, _, tag = IMAGE.rpartition(":")
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        engine.call("POST", "/images/create", busybox_root(), fromSrc="-", repo=repository, tag=tag, changes=changes)
        try:
            async with rig(Path(name)) as r:
                r.boat.program = "bench.watched"
                fleet = Fleet(r.boat, image=IMAGE, socket=engine.path)
                os.environ[LAG] = str(fleet.lag)
                await r.restart_agent()
                yield fleet
        finally:
            engine.call("DELETE", f"/images/{IMAGE}", force=1)


@asynccontextmanager
async def fake_fleet() -> AsyncIterator[Fleet]:
    """Give a fleet on a fake engine, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        folder, port = Path(name), free_port()
        socket = str(folder / "engine.sock")
        boat = Boat(folder / "boat", sys.executable, free_port(), free_port(), POOL, program="bench.watched")
        boat.settings = {
            "engine": {"socket": f"unix://{socket}"},
            "disk": {"free_percent": 0, "prunes_build_cache": False},
        }
        boat.engine = Engine(socket)
        boat.folder.mkdir()
        engine = await asyncio.to_thread(_start_engine, socket, port)
        try:
            fleet = Fleet(boat, image=fake_engine.IMAGE, socket=socket, seeded_port=port)
            os.environ[LAG] = str(fleet.lag)
            await asyncio.to_thread(boat.start)
            await asyncio.to_thread(boat.grant_key, "bench")
            yield fleet
        finally:
            await asyncio.to_thread(boat.remove)
            engine.terminate()
            engine.wait()


def _start_engine(socket: str, port: int) -> subprocess.Popen[bytes]:
    engine = subprocess.Popen([sys.executable, "-m", "bench.fake_engine", socket, str(port)], cwd=ROOT)
    while not Path(socket).exists():
        if engine.poll() is not None:
            raise RuntimeError("the fake engine ended")
        time.sleep(PAUSE_SECONDS)
    return engine
