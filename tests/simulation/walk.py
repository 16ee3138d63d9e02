"""One random walk: people, faults and deaths from one seed; then calm, and the promises are checked.

    a life: the agent starts, people push and give commands, chaos does harm, fate makes calls fail;
            it ends by death instead of some step, by a disk that failed, or in good order
    …       so many lives as the die says
    calm:   no more faults; everything must come to rest within `PATIENCE_SECONDS`; then the promises are checked, and
            one more push of each app must go live

The same seed walks the same steps on every machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from agent.commands.watching import DeployWatcher
from agent.errors import Unavailable
from agent.lifecycle.cleaning import Doorkeeper
from agent.ssh.arriving import undo_broken_off
from agent.ssh.push import Pushes
from agent.state.sql import StorageBroken
from proto.events import DeployLive, ReplicaRemoved, TaskEnded
from proto.names import AppId, ReplicaId
from tests.commands.desk import FACTS, Desk
from tests.fakes.core import Core, core
from tests.simulation import promises
from tests.simulation.chaos import Chaos
from tests.simulation.clients import Client, Door
from tests.simulation.faults import Fate
from tests.simulation.ledger import Ledger
from tests.simulation.leftovers import leftovers
from tests.simulation.mortal import Process
from tests.simulation.secrecy import where_told
from tests.simulation.stored import SmallStore, differences, is_whole
from tests.simulation.virtual import Death, VirtualClock, VirtualLoop, run
from tests.simulation.witness import WatchedWorld
from tests.support.places import empty

LIFE_SECONDS = 60.0
"""Mean, of a life that does not end by death before."""
STEPS = (30, 100, 300, 1_000)
"""Mean steps until a death, drawn for each walk."""
PATIENCE_SECONDS = 900.0
"""Virtual. The longest pauses are a minute, drains and patience with engines two minutes; they may add up."""
LOOK_SECONDS = 30.0
TROUBLE_SECONDS = 130.0
"""For so long after the proxy was away or a clock was set, a drain may end before its route was changed."""

MISTAKES = ("bug", "failed", "not-ended", "helpless")
"""Endings of log events that tell of a mistake of ours."""
HARMLESS = ("build.failed", "upkeep.failed")

LINES = 80
"""Of what happened before a promise was broken, that are shown."""

NUDGED = ("scheduler.converge", "logs.follow")


class Broken(AssertionError):
    """A promise was broken."""


class Figures:
    """What a walk was like."""

    def __init__(self) -> None:
        self.lives = 0
        self.deaths = 0
        self.steps = 0
        self.seconds = 0.0
        """Virtual."""
        self.calm_seconds = 0.0
        """Virtual, until everything had come to rest."""
        self.faults: dict[str, int] = {}
        self.told: Counter[str] = Counter()
        """How often people were told what must hold from then on."""
        self.trace = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Equal for walks that went the same way."""
        return self.trace.hexdigest()


class Walk:
    """A walk."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.figures = Figures()
        self.lines: list[str] = []
        """What happened."""
        self._folder = folder
        self._dice = random.Random(seed)
        self._world = WatchedWorld()
        self._clock = VirtualClock()
        self._ledger = Ledger()
        self._fate = Fate(self._dice, tell=self._tell)
        self._chaos = Chaos(self._world, self._fate, self._clock, dice=self._dice, tell=self._tell)
        self._clients = [
            Client(
                number,
                dice=self._dice,
                ledger=self._ledger,
                tell=self._tell,
                give_up=lambda app: self._world.witness.give_up(self._world, app),
            )
            for number in range(self._dice.choice([1, 1, 2, 3]))
        ]
        self._loop = VirtualLoop()
        self._logged: list[str] = []
        self._mistakes: list[str] = []
        self._world.witness.may_be_unserved = self._ledger.may_be_unserved
        self._world.witness.may_end_routed = self._is_troubled
        self._world.witness.is_stored = self._is_stored
        self._world.git.dies = self._fate.ends_git

    def go(self) -> Figures:
        """Walk to the end.

        Raises:
            Broken: a promise was broken.
        """
        lives, mean = self._dice.randrange(1, 121), self._dice.choice(STEPS)
        with self._listening_to_log():
            for number in range(lives):
                self._live_once(number, dies_at=int(self._dice.expovariate(1 / mean)) + 1)
            self._calm()
        self.figures.faults = self._fate.counts
        self.figures.told = self._ledger.counts()
        self.figures.seconds = self._loop.time()
        return self.figures

    # Lives.

    def _live_once(self, number: int, *, dies_at: int) -> None:
        process = Process(self._fate)
        self._new_loop(dies_at=dies_at)
        self._tell(f"life {number}")
        self.figures.lives += 1
        try:
            run(self._life(process), loop=self._loop, on_end=lambda: self._end(process))
            self._tell("ended in order")
        except Death:
            self.figures.deaths += 1
            self._tell(f"died instead of step {dies_at}")
        except Unavailable as error:
            # So the agent ends when the disk fails, or at its start when the disk is full; systemd starts it again.
            self._tell(f"ended: {error.code}")
        except BaseExceptionGroup as group:
            if group.split((Unavailable, Death))[1] is not None:
                raise Broken(f"the agent ended by a mistake: {group.exceptions}") from group
            self._tell("ended: a group")
        self._close_life()

    def _end(self, process: Process) -> None:
        self._is_alive = False
        process.die(self._folder)
        self._world.forget_process()

    def _close_life(self) -> None:
        self.figures.steps += self._loop.steps
        for client in self._clients:
            client.server_died()
        self._complain()

    async def _life(self, process: Process) -> None:
        async with contextlib.AsyncExitStack() as stack:
            c, door = await self._start(stack, process)
            people = [asyncio.ensure_future(client.live(door)) for client in self._clients]
            people.append(asyncio.ensure_future(self._chaos.live()))
            broken = asyncio.ensure_future(c.database.broken())
            seconds = self._dice.expovariate(1 / LIFE_SECONDS)
            await asyncio.wait((broken, *people), timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for person in people[:-1]:
                if person.done():
                    person.result()
            for task in (broken, *people):
                task.cancel()
            await asyncio.wait((broken, *people))
            if broken.done() and not broken.cancelled():
                raise broken.result()

    def _calm(self) -> None:
        process = Process(self._fate)
        self._fate.calm()
        self._chaos.tidy()
        self._new_loop(dies_at=None)
        self._tell("calm")
        run(self._calm_life(process), loop=self._loop, on_end=lambda: self._end(process))
        self._close_life()

    async def _calm_life(self, process: Process) -> None:
        async with contextlib.AsyncExitStack() as stack:
            c, door = await self._start(stack, process)
            await self._come_to_rest(c)
            for client in self._clients:
                await self._push_once_more(client, c, door)
            await self._come_to_rest(c)
            if found := await where_told(c, self._folder, logged=self._logged):
                raise Broken(f"secrets are to be read in {found}")

    async def _come_to_rest(self, c: Core) -> None:
        """Wait until every promise is kept; raise if that takes too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await promises.check(c, may_have_died=self.figures.deaths > 0)
                wrong = await self._ledger.check(c.database.read, self._world.repos)
                wrong += await self._output(c)
                wrong += await leftovers(c, self._folder)
                assert not wrong, "; ".join(wrong)
                break
            except AssertionError as error:
                if loop.time() - began > PATIENCE_SECONDS:
                    raise Broken(f"after {PATIENCE_SECONDS:.0f} s of calm: {error}") from error
        self.figures.calm_seconds = max(self.figures.calm_seconds, loop.time() - began)

    async def _output(self, c: Core) -> list[str]:
        apps = [app.id for app in await c.database.read.apps.all()]
        return differences(self._folder, self._world.scheduler.output, apps=apps)

    async def _push_once_more(self, client: Client, c: Core, door: Door) -> None:
        status = await client.push_now(door)
        if status not in (None, 0):
            raise Broken(f"a push in calm ended with {status}: {await c.database.read.deploys.of_app(client.app)}")
        if status == 0 and not await client.is_served_what_was_pushed(c.database.read):
            raise Broken(f"a push in calm ended well, and something else is live of {client.app}")

    async def _start(self, stack: contextlib.AsyncExitStack, process: Process) -> tuple[Core, Door]:
        """Start the agent; `stack` stops it. (What is made of a generator cannot be thrown away half done.)"""
        world = self._world
        world.scheduler.now = self._clock.now
        self._fate.resume()
        c = await stack.enter_async_context(
            core(
                self._folder,
                world=world,
                clock=self._clock,
                opener=process.open,
                reach=process.reach,
                opens_store=SmallStore,
            )
        )
        if not await c.database.read.domains.global_ones():
            await c.global_domain()
        watcher = DeployWatcher(c.database, transcripts=world.transcripts, server=FACTS)
        reached: Any = _Reached(c, process)
        door = Doorkeeper(reached.disks, build_bytes=1, push_bytes=1)
        pushes = Pushes(c.database, reached.repos, watcher, ids=world.ids, door=door)
        desk = Desk(reached, services=(pushes,))
        known = [*await c.database.read.apps.all(), *await c.database.read.apps.destroyed()]
        world.repos.sweep({app.id for app in known})
        await undo_broken_off(c.database, world.repos)
        c.database.listeners.append(self._tell_commit)
        await stack.enter_async_context(c.at_work())
        hints = asyncio.ensure_future(world.scheduler.watch(lambda app: self._hint(c, app)))
        stack.callback(hints.cancel)
        return c, Door(c.database, desk.dispatcher)

    def _hint(self, c: Core, app: AppId | None) -> None:
        """Pass on what the engine tells, as unreliably as engines do."""
        if self._fate.is_calm:
            times, delay = 1, 0.0
        else:
            times, delay = self._dice.choice([0, 1, 1, 1, 2]), self._dice.choice([0.0, 0.0, 2.0])
        for _ in range(times):
            asyncio.get_running_loop().call_later(delay, self._nudge, c, app)

    def _nudge(self, c: Core, app: AppId | None) -> None:
        if app is None:
            c.bus.resurvey()
        else:
            c.bus.nudge(app, names=NUDGED)

    def _new_loop(self, *, dies_at: int | None) -> None:
        self._is_alive = True
        self._loop = VirtualLoop(begins_at=self._loop.time() + self._dice.choice([0.0, 1.0, 100.0]), dies_at=dies_at)
        self._loop.program = self._world.git.run

    def _is_troubled(self) -> bool:
        trouble = max(self._fate.proxy_troubled_at, self._chaos.jumped_at)
        return self._loop.time() - trouble < TROUBLE_SECONDS

    def _is_stored(self, replica: ReplicaId) -> bool:
        said = self._world.scheduler.output.said.get(replica)
        return said is None or said.is_excused or is_whole(self._folder, said, replica)

    # What is noted.

    def _tell(self, line: str) -> None:
        line = f"{self._loop.time():10.3f} {self._loop.steps:5d} {line}"
        self.lines.append(line)
        self.figures.trace.update(line.encode())

    def _tell_commit(self, events: Any) -> None:
        for event_id, event in events:
            self._tell(f"#{event_id} {event}")
            if isinstance(event, ReplicaRemoved):
                self._world.witness.unlisted.add(event.replica)
            if isinstance(event, TaskEnded):  # told after its last lines were stored, or waited for in vain
                self._world.witness.unlisted.add(ReplicaId(event.task))
            if isinstance(event, DeployLive):
                self._world.witness.went_live(self._world, event.app, event.release)

    def _complain(self) -> None:
        complaints = [*self._world.witness.complaints, *self._mistakes]
        for client in self._clients:
            complaints += client.complaints
        complaints += self._loop.complaints
        if complaints:
            raise Broken("; ".join(complaints[:5]))

    @contextlib.contextmanager
    def _listening_to_log(self) -> Iterator[None]:
        processors = structlog.get_config()["processors"]
        kept = list(processors)
        processors[:] = [self._log]
        try:
            yield
        finally:
            processors[:] = kept

    def _log(self, logger: object, method: str, facts: dict[str, Any]) -> dict[str, Any]:
        if not self._is_alive:
            raise structlog.DropEvent
        event = str(facts["event"])
        text = " ".join(f"{key}={value}" for key, value in facts.items())
        error = facts.get("exc_info")
        if isinstance(error, BaseException):
            text += "\n" + "".join(traceback.format_exception(error))
        elif error:
            text += "\n" + traceback.format_exc()
        self._logged.append(text)
        self._tell(f"log {facts['event']}")
        is_mistake = error and event.rpartition(".")[2].endswith(MISTAKES) and event not in HARMLESS
        if is_mistake:
            self._mistakes.append(text)
        raise structlog.DropEvent


class _Reached:
    """A core, each of whose ports is seen as the process sees it."""

    def __init__(self, core: Core, process: Process) -> None:
        self._core = core
        self._process = process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._core, name)
        is_port = name != "ids" and any(found is port for port in vars(self._core.world).values())
        return self._process.reach(found) if is_port else found


def walk(seed: int, folder: Path) -> Figures:
    """Walk from a seed.

    Raises:
        Broken: a promise was broken; the text says which, and what happened before.
    """
    empty(folder)
    one = Walk(seed, folder)
    try:
        return one.go()
    except Exception as error:
        told = "\n".join(one.lines[-LINES:])
        broken = _broken(error)
        why = str(broken) if broken else "".join(traceback.format_exception(error))
        raise Broken(f"seed {seed}: {why}\n{told}\nReplay it: scripts/torture simulation --seed {seed}") from error


def _broken(error: BaseException) -> Broken | None:
    """Return the broken promise that a bus may have put into a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Broken) else None


__all__ = ["Broken", "Figures", "StorageBroken", "walk"]
