"""A story lived again and again: the process dies at one of its steps, starts anew, and what was promised must hold."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from agent.lifecycle import apps, config
from agent.ssh.arriving import undo_broken_off
from agent.state.apps import App
from proto.names import ProcessType
from tests.fakes.core import Core, World, core
from tests.fakes.git import GitClient, never
from tests.simulation import promises
from tests.simulation.mortal import Process
from tests.simulation.stored import SmallStore, differences
from tests.simulation.stories import HELLO, HELLO_COMMIT, STORIES, Story, pushed_by
from tests.simulation.virtual import Death, VirtualClock, VirtualLoop, run, without_pauses
from tests.support.places import empty, silence

CALM_SECONDS = 100.0
"""Virtual. Longer than a drain, a survey and most pauses together."""
LOOK_SECONDS = 20.0
"""Virtual, between two looks whether all is at rest."""
SURVEY_SECONDS = 35.0
"""Virtual. Longer than the pause between two surveys."""


class Settled(NamedTuple):
    """An app with two releases behind it, the first without config, as it lies on disk and in the world."""

    app: App
    files: dict[Path, bytes]
    """Within the folder."""
    world: bytes
    time: float


def settle(folder: Path, *, web: int = 1) -> Settled:
    """Return what every life of a story begins with."""
    loop, world, clock = VirtualLoop(), World(), VirtualClock()
    loop.program = world.git.run
    app = run(_settle(folder, world, clock, web=web), loop=loop)
    world.forget_process()
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return Settled(app, files, pickle.dumps(world), loop.time())


def settle_all(folder: Path) -> dict[str, Settled]:
    """Return what every life of each story begins with."""
    beginnings: dict[int, Settled] = {}
    for count in {story.web for story in STORIES.values()}:
        empty(folder)
        beginnings[count] = settle(folder, web=count)
    return {name: beginnings[story.web] for name, story in STORIES.items()}


async def _settle(folder: Path, world: World, clock: VirtualClock, *, web: int) -> App:
    process = Process()
    world.scheduler.now = clock.now
    async with core(folder, world=world, clock=clock, opener=process.open, opens_store=SmallStore) as c:
        await c.global_domain()
        app = await c.create()
        async with c.at_work():
            await pushed_by(c, app, GitClient(HELLO_COMMIT, HELLO))
            await asyncio.sleep(CALM_SECONDS)
            async with c.database.transaction() as tx:
                await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
                if web > 1:
                    await apps.scale(tx, app=app, quantities={ProcessType("web"): web})
            await c.accept(app, kind="config")
            await asyncio.sleep(CALM_SECONDS)
    world.scheduler.most.clear()
    return app


class Tried(NamedTuple):
    """How thoroughly a story was tried."""

    steps: int
    """That it has, at each of which the process may die."""
    lives: int
    """That were lived: dying at steps between which nothing outside the process changed is one and the same."""


def exhaust(folder: Path, name: str, settled: Settled, *, is_each_step: bool = False) -> Tried:
    """Die instead of each step of a story. `is_each_step`: also of those that make no difference.

    Raises:
        AssertionError: a promise was broken; the text names story and step.
    """
    story = STORIES[name]
    with silence(), without_pauses() as collect:
        states: list[object] = []
        steps = live(folder, story, settled, dies_at=None, states=states)
        tried = [
            step for step in range(1, steps + 1) if is_each_step or step == 1 or states[step - 1] != states[step - 2]
        ]
        for step in tried:
            try:
                live(folder, story, settled, dies_at=step)
            except AssertionError as error:
                raise AssertionError(f"{name}, dying instead of step {step} of {steps}: {error}") from error
            collect()
    return Tried(steps, len(tried))


def live(
    folder: Path, story: Story, settled: Settled, *, dies_at: int | None, states: list[object] | None = None
) -> int:
    """Do the story, die instead of a step, start again, check. Return the steps that the first life had.

    `states`: gets what was outside the process before each of its steps, as something to compare.
    """
    _lay_out(folder, settled)
    world: World = pickle.loads(settled.world)
    clock = VirtualClock()
    since = len(world.proxy.tables)
    process, loop = Process(), VirtualLoop(begins_at=settled.time, dies_at=dies_at)
    loop.program = world.git.run
    told: list[str] = []
    if states is not None:
        loop.before_step = lambda: states.append((process.effects, len(told), loop.time(), world.changes))
    try:
        run(
            _first_life(folder, story, settled.app, world, clock, process, told),
            loop=loop,
            on_end=lambda: process.die(folder),
        )
    except Death:
        world.forget_process()
    else:
        assert dies_at is None, f"it did not live until step {dies_at}"
    world.git.dies = never
    heir = VirtualLoop(begins_at=loop.time())
    heir.program = world.git.run
    run(_second_life(folder, story, settled.app, world, clock, bool(told)), loop=heir)
    if story.is_served:
        promises.check_no_gap(world, settled.app.id, since=since, count=story.web)
    if story.web > 1:
        assert max(world.scheduler.most.values(), default=0) <= story.web + 1, "more ran than a batch beside the rest"
    return loop.steps


async def _first_life(
    folder: Path, story: Story, app: App, world: World, clock: VirtualClock, process: Process, told: list[str]
) -> None:
    world.scheduler.now = clock.now
    async with core(
        folder, world=world, clock=clock, opener=process.open, reach=process.reach, opens_store=SmallStore
    ) as c:
        async with c.at_work():
            await story.act(c, app)
            told.append("done")
            await asyncio.sleep(CALM_SECONDS)


async def _second_life(
    folder: Path, story: Story, app: App, world: World, clock: VirtualClock, is_acknowledged: bool
) -> None:
    process = Process()
    world.scheduler.now = clock.now
    async with core(folder, world=world, clock=clock, opener=process.open, opens_store=SmallStore) as c:
        await undo_broken_off(c.database, c.repos)
        async with c.at_work():
            broken = await _at_rest(lambda: _check(folder, story, app, c, is_acknowledged))
        # Not within the block, which would put it into a group.
        if broken is not None:
            raise broken


async def _at_rest(check: Callable[[], Awaitable[None]]) -> AssertionError | None:
    """Wait until `check` finds nothing wrong, and again nothing after a survey; return what it finds for too long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 2 * CALM_SECONDS
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await check()
            break
        except AssertionError as error:
            if loop.time() >= until:
                return error
    await asyncio.sleep(SURVEY_SECONDS)
    try:
        await check()
    except AssertionError as error:
        return error
    return None


async def _check(folder: Path, story: Story, app: App, c: Core, is_acknowledged: bool) -> None:
    await promises.check(c)
    apps = [app.id for app in await c.database.read.apps.all()]
    wrong = differences(folder, c.scheduler.output, apps=apps)
    assert not wrong, "; ".join(wrong)
    if is_acknowledged:
        await story.verify(c, app)
    if story.whole is not None:
        await story.whole(c, app)


def _lay_out(folder: Path, settled: Settled) -> None:
    """Make the folder what it was when the app had settled."""
    empty(folder)
    for path, content in settled.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        (folder / path).chmod(0o600)
