"""Durable deliveries a second: the real bus over a real SQLite file (``synchronous=FULL``), 10,000 rows owed or 100.

The many are what a long absence leaves, the few what a busy moment does: of these the first and the last commit have
little to take along. Handlers return at once, so what is measured is the bus and its bookkeeping. The reference is the
disk: how often a second a page can be appended to a file and synced. A queue that commits each delivery by itself
cannot be faster.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from agent.bus.durable import Bus
from agent.bus.subscriptions import on, reconciles, routes_for
from agent.log import configure
from agent.state.database import Database
from agent.system import RandomIds, SystemClock
from agent.vault import Vault
from bench.measured import Figure, report, say
from proto.events import AppCreated
from proto.names import AppId

OWED = 10_000
FEW = 100
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
AIM = "ours >= 5000/s"
SYNCS, PAGE = 500, 4096


class Counting:
    """Counts what it is told, and says when that was all."""

    def __init__(self, wanted: int) -> None:
        self.seen = 0
        self.wanted = wanted
        self.all_seen = asyncio.Event()

    def count(self, more: int = 1) -> None:
        """Take note of `more` deliveries."""
        self.seen += more
        if self.seen >= self.wanted:
            self.all_seen.set()


class Four(Counting):
    """Handles each event, of four apps at once: what `on` gives a handler that says nothing else."""

    @on(AppCreated, name="four.each", limit=4)
    async def each(self, event: AppCreated) -> None:
        """Do nothing."""
        self.count()


class Many(Counting):
    """Handles each event, of 64 apps at once."""

    @on(AppCreated, name="many.each", limit=64)
    async def each(self, event: AppCreated) -> None:
        """Do nothing."""
        self.count()


class Level(Counting):
    """Reconciles apps, eight at once: what most handlers of ours do."""

    @reconciles(AppCreated, name="level.look", limit=8)
    async def look(self, app: AppId) -> None:
        """Do nothing."""
        self.count()


async def measure() -> None:
    """Run it and print the figures."""
    cases: Sequence[tuple[str, type[Counting], int, int]] = (
        ("each, 4 at once, 5000 apps", Four, 5_000, OWED),
        ("each, 64 at once, 5000 apps", Many, 5_000, OWED),
        ("each, 64 at once, 100 apps", Many, 100, OWED),
        ("level, 8 at once, 10000 apps", Level, 10_000, OWED),
        ("each, 4 at once, 100 owed by 20 apps", Four, 20, FEW),
        ("level, 8 at once, 100 owed by 20 apps", Level, 20, FEW),
    )
    configure(format="json", level="warning")
    figures = []
    for name, kind, apps, owed in cases:
        ours, reference = [], []
        for _ in range(RUNS):
            ours.append(await _deliver(kind, apps=apps, owed=owed))
            reference.append(await asyncio.to_thread(_syncs))
        figures.append(
            Figure(f"bus.{name}", "deliveries/s", statistics.median(ours), statistics.median(reference), AIM, RUNS)
        )
        say(f"{name}: {figures[-1].ours:.0f} a second, syncs {figures[-1].reference:.0f}")
    report(figures)


async def _deliver(kind: type[Counting], *, apps: int, owed: int) -> float:
    """Return how many deliveries a second are dealt with and forgotten, from the bus's first to its last."""
    # A reconciler looks once at each app, whatever is owed to it.
    handler = kind(apps if kind is Level else owed)
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        folder = Path(name)
        vault = Vault.open(folder / "key", may_create=True, token=RandomIds().token)
        clock, routes = SystemClock(), routes_for(kind)
        async with Database.open(folder / "state.db", routes=routes, clock=clock, vault=vault) as database:
            async with database.transaction() as tx:
                for number in range(owed):
                    await tx.emit(AppCreated(app=AppId(f"a{number % apps:05}"), name=f"app-{number}"))
            bus = Bus(database, [handler], clock=clock)
            started = time.perf_counter()
            async with bus.delivering():
                await handler.all_seen.wait()
                await bus.settle()
                seconds = time.perf_counter() - started
            left = await database.read.outbox.lanes()
            if left:
                raise RuntimeError(f"{len(left)} lanes still owe something")
    return owed / seconds


def _syncs() -> float:
    """Return how many times a second a page can be appended to a file and synced."""
    with tempfile.NamedTemporaryFile(prefix="pushboat-bench-") as file:
        started = time.perf_counter()
        for _ in range(SYNCS):
            file.write(bytes(PAGE))
            file.flush()
            os.fdatasync(file.fileno())
        return SYNCS / (time.perf_counter() - started)


if __name__ == "__main__":
    uvloop.run(measure())
