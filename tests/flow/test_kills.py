"""Killed again and again while they work: the agent, git, clients, HAProxy, Docker.

Afterwards what runs is what should run, and no visitor noticed what does not serve him.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.house import processes
from tests.flow import apps
from tests.support.figures import FIGURE, Record
from tests.support.outside import require_order, require_pages, require_routes
from tests.support.private_engine import PrivateEngine, short_lived_engine
from tests.support.rig import ENDED, Checkout, Done, Rig, rig

pytestmark = pytest.mark.real

KILLS = int(os.environ.get("PUSHBOAT_TEST_KILLS", "20"))
"""That hit, of each of the two tests: what was aimed at git or a client and met none is aimed anew."""
TRIES = 20
"""For one kill. Most hit at the first; on a machine that is busy a git may be gone before it is seen."""
LATEST_KILL_SECONDS = 2.0
"""After the work began. A push takes about 1.5 s here, a scale or a config change about one."""
SEED = int(os.environ.get("PUSHBOAT_TEST_SEED", "20"))
"""What is done and when it is cut off: another seed is another test."""
PATIENCE_SECONDS = 400.0
"""For one command or push among kills, and for rest after them: a deploy waits two minutes for an engine, and one that
was superseded meanwhile has waited before."""
WORK = ("push", "config", "scale")
_TOLD_CHARACTERS = 8_000
"""Of the agent's log, that are shown from a traceback on."""
LAST_LINES = 200
"""Of the agent's log, that are shown when something took too long."""
GIT_SECONDS = 0.02
"""Latest, after git was first seen: it is killed in its beginning, its middle and its end."""
AIM_PAUSE_SECONDS = 0.002
"""Between two looks: git takes some 20 ms for a small push."""
VISIT_SECONDS = 0.01
"""Between two visits, so that they do not take the processor from what they watch."""


Kill = Callable[["asyncio.Future[object]"], Awaitable[bool]]
"""Kills something while the work is done that it gets; tells whether there was anything."""


class Owner:
    """Works on one app, and knows what was acknowledged and what only may have happened."""

    def __init__(self, rig: Rig, name: str, chance: random.Random) -> None:
        self.name = name
        self.possible = {"COLOUR": {""}, "web": {"1"}, "page": {f"version {name} 0\n"}}
        """What may be so now: the last acknowledged value, and those asked for since."""
        self._rig = rig
        self._chance = chance
        self._checkout: Checkout = rig.checkout(name, apps.page(f"{name} 0"))
        self._count = 0

    async def first_push(self) -> None:
        """Make the app, and have it live."""
        assert (await self._rig.git_push(self._checkout)).status == 0

    async def work(self, kinds: Sequence[str] = WORK) -> None:
        """Change something, whether or not the agent lives to say that it did."""
        self._count += 1
        match self._chance.choice(kinds):
            case "push":
                page = f"version {self.name} {self._count}\n"
                self._checkout.write({"index.html": page})
                self.possible["page"].add(page)
                self._asked("page", page, await self._rig.git_push(self._checkout, seconds=PATIENCE_SECONDS))
            case "config":
                value = f"c{self._count}"
                self._asked("COLOUR", value, await self._set("config:set", f"COLOUR={value}", "COLOUR", value))
            case _:
                value = str(self._chance.randint(1, 3))
                self._asked("web", value, await self._set("ps:scale", f"web={value}", "web", value))

    async def _set(self, command: str, pair: str, fact: str, value: str) -> Done:
        # Before it is asked for: it may be so although nobody heard the answer.
        self.possible[fact].add(value)
        return await self._rig.ssh(command, self.name, pair, seconds=PATIENCE_SECONDS)

    def _asked(self, fact: str, value: str, done: Done) -> None:
        if done.status == 0:
            self.possible[fact] = {value}

    async def version_of(self, commit: str) -> str:
        """Return the page that a commit has."""
        return await self._checkout.git("show", f"{commit}:index.html")


@asynccontextmanager
async def visited(rig: Rig, *apps: str) -> AsyncIterator[Counter[str]]:
    """Visit the apps all the time; yield how often each answer came."""
    answers: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def visit(app: str) -> None:
        while not is_over.is_set():
            answer = await asyncio.to_thread(rig.boat.http, f"{app}.localhost")
            answers[str(answer.status) if answer else "refused"] += 1
            await asyncio.sleep(VISIT_SECONDS)

    tasks = [asyncio.create_task(visit(app)) for app in apps]
    try:
        yield answers
    finally:
        is_over.set()
        await asyncio.gather(*tasks)


async def test_kills_of_what_serves_no_visitor_lose_nothing_and_are_not_noticed(
    lone_boat: Rig, record_property: Record
) -> None:
    async def agent(working: asyncio.Future[object]) -> bool:
        await _at_random(working, chance)
        await lone_boat.kill_agent()
        await lone_boat.start_agent()
        return True

    async def git(working: asyncio.Future[object]) -> bool:
        # Git runs for as long as somebody pushes, and not for long: it is waited for.
        return await _kill(lone_boat.data / "repos", working, after=chance.uniform(0, GIT_SECONDS))

    async def clients(working: asyncio.Future[object]) -> bool:
        await _at_random(working, chance)
        return await _kill(lone_boat.boat.ssh_config, working)

    chance = random.Random(SEED)
    owners = await _owners(lone_boat, chance)
    async with visited(lone_boat, "anna", "bert") as answers:
        hits = await _beat(lone_boat, owners, (agent, agent, git, clients), chance)
    record_property(FIGURE, f"kills that hit: {dict(hits)}, {answers.total()} visits meanwhile")
    assert hits.total() == KILLS
    assert set(answers) == {"200"}, answers
    await _check_all(lone_boat, owners)


async def test_kills_of_everything_lose_nothing_and_leave_nothing(
    engine: PrivateEngine, short_folder: Path, record_property: Record
) -> None:
    async with rig(short_folder, engine={"socket": engine.socket}) as boat:

        async def agent(working: asyncio.Future[object]) -> bool:
            await _at_random(working, chance)
            await boat.kill_agent()
            await boat.start_agent()
            return True

        async def haproxy(working: asyncio.Future[object]) -> bool:
            await _at_random(working, chance)
            return _kill_haproxy(boat)

        async def docker(working: asyncio.Future[object]) -> bool:
            await _at_random(working, chance)
            await engine.kill()
            await engine.start()
            return True

        async def all_at_once(working: asyncio.Future[object]) -> bool:
            await _at_random(working, chance)
            await boat.kill_agent()
            was_hit = _kill_haproxy(boat)
            await engine.kill()
            await engine.start()
            await boat.start_agent()
            return was_hit

        chance = random.Random(SEED)
        owners = await _owners(boat, chance)
        hits = await _beat(boat, owners, (agent, haproxy, docker, all_at_once), chance)
        record_property(FIGURE, f"kills that hit: {dict(hits)}")
        assert hits.total() == KILLS
        await _check_all(boat, owners)


@pytest.fixture
async def engine() -> AsyncIterator[PrivateEngine]:
    """Yield an engine that may be killed."""
    async with short_lived_engine() as engine:
        yield engine


async def _owners(rig: Rig, chance: random.Random) -> list[Owner]:
    """Return two people, each with an app that is live."""
    owners = [Owner(rig, name, chance) for name in ("anna", "bert")]
    for owner in owners:
        await owner.first_push()
    return owners


async def _beat(rig: Rig, owners: Sequence[Owner], kills: Sequence[Kill], chance: random.Random) -> Counter[str]:
    """Have people work while one of `kills` after the other is done, and wait until all has come to rest.

    Return how often each of them hit.
    """
    loop, rounds, hits = asyncio.get_running_loop(), Counter[str](), Counter[str]()
    # Each as often as the others, in a random order.
    order = [kills[number % len(kills)] for number in range(KILLS)]
    chance.shuffle(order)
    try:
        for number, kill in enumerate(order):
            for attempt in range(TRIES):
                began = loop.time()
                kinds = ("push",) if kill.__name__ == "git" else WORK
                working = asyncio.gather(*(owner.work(kinds) for owner in owners))
                was_hit = await kill(working)
                await working
                rounds[f"{number}.{attempt} ({kill.__name__})"] = round(loop.time() - began)
                hits[kill.__name__] += was_hit
                if was_hit:
                    break
        began = loop.time()
        assert await rig.is_tidy(*(owner.name for owner in owners), seconds=PATIENCE_SECONDS)
        print(f"{len(rounds)} rounds, seconds of the longest: {rounds.most_common(3)}")
        print(f"to rest after them: {loop.time() - began:.1f} s")
        return hits
    except TimeoutError as error:
        told = "\n".join(rig.log.splitlines()[-LAST_LINES:])
        raise AssertionError(f"after {len(rounds)} rounds something took too long. The agent said:\n{told}") from error


async def _at_random(working: asyncio.Future[object], chance: random.Random) -> None:
    await asyncio.wait((working,), timeout=chance.uniform(0, LATEST_KILL_SECONDS))


async def _kill(named: Path, working: asyncio.Future[object], *, after: float = 0.0) -> bool:
    """Kill what runs with this path in its command line, some seconds after the first of it is seen.

    Return whether anything was hit before the work was done.
    """
    was_hit = False
    while not was_hit and not working.done():
        found = processes.naming(str(named))
        if found and after:
            await asyncio.sleep(after)
            after = 0.0
            continue
        for process in found:
            was_hit |= process.is_alive
            await asyncio.to_thread(processes.kill, process)
        await asyncio.sleep(AIM_PAUSE_SECONDS)
    return was_hit


def _kill_haproxy(rig: Rig) -> bool:
    pids = rig.proxy_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return bool(pids)


async def _check_all(rig: Rig, owners: Sequence[Owner]) -> None:
    for owner in owners:
        await _check(rig, owner)
    await require_order(rig, *(owner.name for owner in owners))
    checked = await asyncio.to_thread(rig.boat.check)
    assert checked.returncode == 0, checked
    told = rig.log.partition("Traceback")[2]
    assert not told, told[:_TOLD_CHARACTERS]


async def _check(rig: Rig, owner: Owner) -> None:
    deploys = json.loads(await rig.must("deploys", owner.name, "--format", "json"))
    assert all(deploy["status"] in ENDED for deploy in deploys)
    live = next(r for r in json.loads(await rig.must("releases", owner.name, "--format", "json")) if r["is_live"])
    version = await owner.version_of(live["commit"])
    assert version in owner.possible["page"], "a push that was acknowledged is gone"
    await require_routes(rig)
    await require_pages(rig, owner.name, version)
    colour = (await rig.ssh("config:get", owner.name, "COLOUR")).out.strip()
    assert colour in owner.possible["COLOUR"]
    found = await rig.docker("ps", "--all", "--filter", f"label=com.pushboat.app-name={owner.name}", "--format", _ROW)
    rows = sorted(found.out.splitlines())
    assert str(len(rows)) in owner.possible["web"]
    assert rows == [f"web.{number} v{live['version']} running" for number in range(1, len(rows) + 1)]


_ROW = (
    '{{.Label "com.pushboat.process-type"}}.{{.Label "com.pushboat.number"}}'
    ' v{{.Label "com.pushboat.release"}} {{.State}}'
)
