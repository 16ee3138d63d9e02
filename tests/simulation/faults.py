"""Fate: decides by a seeded die how each call of the world and each write to the disk goes.

A port may raise `Unavailable` before or after its effect, hang until its own deadline, answer late, have its effect
twice, or have it only after its caller gave up. Which of these may happen, and how often, is drawn once for each walk:
a walk in which everything fails a little finds other mistakes than one in which one thing fails a lot.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal

from agent.errors import Unavailable, UserError
from agent.ports.images import BuildFailed
from agent.ports.proxy import RouteRefused
from agent.ports.scheduler import StartFailed
from agent.state.sql import StorageBroken, _translated
from tests.fakes.git import Moment
from tests.simulation.mortal import Act

How = Literal["before", "after", "hang", "late", "twice", "belated", "no"]

WAYS: tuple[How, ...] = ("before", "after", "hang", "late", "twice", "belated", "no")
RATES = (0.0, 0.0, 0.01, 0.05, 0.2)
"""How often a way of failing is taken in a walk, drawn for each."""

DEADLINES = {
    "scheduler": 120.0,
    "images": 30.0,
    "registries": 120.0,
    "builder": 60.0,
    "prober": 5.0,
    "proxy": 10.0,
    "logs": 10.0,
    "source": 30.0,
}
"""Seconds after which an adapter gives up a call that hangs."""
SHORTEST_DEADLINE = 5.0

ENGINE = ("scheduler", "images", "registries", "builder", "prober", "source")
BELATED = ("converge", "stop", "remove")
"""What the engine may still do after its caller gave up."""

is_belated: ContextVar[bool] = ContextVar("is_belated", default=False)
"""Whether it is the engine that does something now, for somebody who gave up."""

ONCE = ("begin",)
"""What is never done twice by anybody but the agent: a second start of a task that has ended would run it again."""

LOCAL = ("repos", "disks")
SPARED = 0.85
"""Share of the calls of what is local that are left alone: a push makes so many that none would come through."""

WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT")


class Fate:
    """Fulfils ``mortal.Fate``."""

    def __init__(self, dice: random.Random, *, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.is_calm = False
        self.down_until = {"engine": 0.0, "proxy": 0.0}
        """Loop time until which every call of it fails."""
        self.full_until = 0.0
        self.fails_to_sync = False
        """Whether the next commit meets a disk that fails."""
        self.proxy_troubled_at = float("-inf")
        self.counts: dict[str, int] = {}
        """What went wrong, and how often."""
        self.waiting: list[Act] = []
        """What the engine has still to do for somebody who gave up."""
        self._turn = asyncio.Lock()
        self._dice = dice
        self._rates = {way: dice.choice(RATES) for way in WAYS}

    def calm(self) -> None:
        """Let everything go well from now on."""
        self.is_calm = True
        self.full_until = 0.0
        self.fails_to_sync = False
        self.down_until = dict.fromkeys(self.down_until, 0.0)

    def count(self, what: str) -> None:
        """Note that something went wrong."""
        self.counts[what] = self.counts.get(what, 0) + 1

    # Calls of ports.

    async def call(self, port: str, method: str, act: Act) -> Any:
        """See ``mortal.Fate``."""
        if self.is_calm:
            return await act()
        if (port, method) == ("proxy", "apply"):
            # There is one writer: however long it takes, a table never comes after a newer one.
            async with self._turn:
                return await self._attempt(port, method, act)
        return await self._attempt(port, method, act)

    async def _attempt(self, port: str, method: str, act: Act) -> Any:
        now = asyncio.get_running_loop().time()
        part = "engine" if port in ENGINE else port
        if now < self.down_until.get(part, 0.0):
            self._troubled(port, f"{part} down")
            raise _unavailable(port)
        way = self._way(port, method)
        if way is None:
            return await act()
        self._tell(f"~ {port}.{method}: {way}")
        self._troubled(port, f"{port} {way}")
        return await self._go(way, port, act)

    async def _go(self, way: How, port: str, act: Act) -> Any:
        deadline = DEADLINES.get(port, SHORTEST_DEADLINE)
        match way:
            case "before":
                raise _unavailable(port)
            case "after":
                await act()
                raise _unavailable(port)
            case "hang":
                if self._dice.random() < 0.5:
                    await act()
                await asyncio.sleep(self._dice.choice((SHORTEST_DEADLINE, deadline)))
                raise _unavailable(port)
            case "late":
                await asyncio.sleep(self._dice.uniform(0.0, 3.0))
                answer = await act()
                await asyncio.sleep(self._dice.uniform(0.0, 3.0))
                return answer
            case "twice":
                await act()
                return await act()
            case "belated":
                self.do_later(act)
                await asyncio.sleep(self._dice.uniform(0.0, deadline))
                raise _unavailable(port)
            case "no":
                return "nothing listens there"

    def _way(self, port: str, method: str) -> How | None:
        if port in LOCAL and self._dice.random() < SPARED:
            return None
        for way in WAYS:
            if way == "no" and port != "prober":
                continue
            if way == "belated" and (port != "scheduler" or method not in BELATED):
                continue
            if way == "twice" and method in ONCE:
                continue
            if self._rates[way] and self._dice.random() < self._rates[way]:
                return way
        return None

    def _troubled(self, port: str, what: str) -> None:
        self.count(what)
        if port == "proxy":
            self.proxy_troubled_at = asyncio.get_running_loop().time()

    def do_later(self, act: Act) -> None:
        """Let the engine do something some seconds from now, in this life of the agent or in the next."""
        self.waiting.append(act)
        loop = asyncio.get_running_loop()
        loop.call_later(self._dice.uniform(0.0, 30.0), lambda: loop.create_task(self._do(act)))

    def resume(self) -> None:
        """Go on, in a new life of the agent, with what the engine had still to do."""
        self._turn = asyncio.Lock()
        left, self.waiting = self.waiting, []
        for act in left:
            self.do_later(act)

    async def _do(self, act: Act) -> None:
        self.waiting.remove(act)
        is_belated.set(True)
        try:
            await act()
        except (UserError, StartFailed, BuildFailed, RouteRefused):
            self.count("belated, refused")

    # Statements.

    async def statement(self, text: str, act: Act) -> Any:
        """See ``mortal.Fate``."""
        if self.is_calm or not text.startswith(WRITES):
            return await act()
        if asyncio.get_running_loop().time() < self.full_until and self._dice.random() < 0.7:
            self.count("disk full")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise _translated(error)
        if self.fails_to_sync and text.startswith("COMMIT"):
            self.fails_to_sync = False
            self.count("disk failed")
            if self._dice.random() < 0.5:
                await act()
            raise StorageBroken("disk.failed", "The disk that holds Pushboat's data fails (simulated).")
        return await act()

    async def writing(self, act: Act) -> Any:
        """See ``mortal.Fate``."""
        if not self.is_calm and asyncio.get_running_loop().time() < self.full_until and self._dice.random() < 0.7:
            self.count("disk full for lines")
            raise Unavailable("logs.not-written", "Log lines cannot be stored (simulated).")
        return await act()

    def ends_git(self, moment: Moment) -> bool:
        """Tell whether git is killed at this moment of a push."""
        is_ended = not self.is_calm and self._dice.random() < self._rates["before"]
        if is_ended:
            self.count(f"git killed: {moment}")
        return is_ended


def _unavailable(port: str) -> Unavailable:
    return Unavailable(f"{port}.unavailable", f"The {port} does not answer.", "Start it again.")
