"""Short stories of one app: what is done, and what must be so once it was acknowledged."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from agent.commands.watching import DeployWatcher
from agent.lifecycle import apps, checks, config
from agent.lifecycle.cleaning import Doorkeeper
from agent.lifecycle.properties import set_property
from agent.ports.images import ImageInfo
from agent.ssh.arriving import undo_broken_off
from agent.ssh.push import Pushes
from agent.state.apps import App
from proto.names import AppId, ProcessType
from tests.commands.desk import FACTS, Desk
from tests.fakes.core import Core, World, core
from tests.fakes.git import GitClient, never
from tests.simulation import promises
from tests.simulation.mortal import Process
from tests.simulation.stored import SmallStore, differences
from tests.simulation.virtual import Death, VirtualClock, VirtualLoop, run, without_pauses
from tests.support.places import empty, silence

CALM_SECONDS = 100.0
"""Virtual. Longer than a drain, a survey and most pauses together."""
LOOK_SECONDS = 20.0
"""Virtual, between two looks whether all is at rest."""
SURVEY_SECONDS = 35.0
"""Virtual. Longer than the pause between two surveys."""

HELLO = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nworker: ./work\n"}
OTHER = {"Dockerfile": "FROM scratch\nEXPOSE 8081\n", "Procfile": "web: ./serve\nworker: ./work\n"}
THIRD = {"Dockerfile": "FROM scratch\nEXPOSE 8085\n", "Procfile": "web: ./serve\nworker: ./work\n"}
MIGRATING = {
    "Dockerfile": "FROM scratch\nEXPOSE 8082\n",
    "Procfile": "web: ./serve\nworker: ./work\nrelease: ./migrate\n",
}
TELLING = {
    "Dockerfile": "FROM scratch\nEXPOSE 8083\n",
    "Procfile": "web: ./serve\nworker: ./work\n",
    "app.json": '{"scripts": {"pushboat": {"predeploy": "./check", "postdeploy": "./tell"}}}',
}
FOREIGN = "registry.example.com/blog:1"
ELSEWHERE = "https://git.example.com/team/blog.git"
CHECKED = OTHER | {"app.json": '{"healthchecks": {"web": [{"path": "/", "attempts": 1}]}}'}
HELLO_COMMIT = "c" * 40
ROLLING = 2
"""Replicas of an app that is rolled out in batches: the first, and the last, which is the switch."""
TASK_SECONDS = 3.0
"""How long a task of these apps runs."""


class Story(NamedTuple):
    act: Callable[[Core, App], Awaitable[None]]
    verify: Callable[[Core, App], Awaitable[None]]
    """Asserts what must be so once `act` has returned, however often the process died after that."""
    is_served: bool
    """Whether the app must be routed somewhere all the time."""
    whole: Callable[[Core, App], Awaitable[None]] | None = None
    """Asserts that it was done or not done, whether or not that was acknowledged."""
    web: int = 1
    """Replicas that the app has at the beginning. Fewer must never be routed, and never more than a batch more run."""


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
            await _pushed_by(c, app, GitClient(HELLO_COMMIT, HELLO))
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


async def _push(c: Core, app: App) -> None:
    """Push as git does; return when it was told that its commit is stored, or the agent died."""
    await _pushed_by(c, app, GitClient("d" * 40, OTHER))


async def _pushed_by(c: Core, app: App, client: GitClient) -> None:
    watcher = DeployWatcher(c.database, transcripts=c.transcripts, server=FACTS)
    door = Doorkeeper(c.disks, build_bytes=1, push_bytes=1)
    pushes = Pushes(c.database, c.repos, watcher, ids=c.ids, door=door)  # type: ignore[arg-type]
    serving = asyncio.ensure_future(Desk(c, services=(pushes,)).dispatcher.run("git-receive-pack 'blog'", client))
    while not (client.is_acknowledged or serving.done()):
        await asyncio.wait((serving,), timeout=0.1)


async def _push_again(c: Core, app: App) -> None:
    """Push what was pushed and deployed already: nothing happens, and nobody is told otherwise."""
    await _pushed_by(c, app, GitClient(HELLO_COMMIT, HELLO))


async def _nothing_new(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.kind == "config"


async def _push_and_leave(c: Core, app: App) -> None:
    """Leave with half of the pack sent."""
    await _pushed_by(c, app, GitClient("d" * 40, OTHER, breaks_off_at=0.8))


async def _push_to_dying_git(c: Core, app: App) -> None:
    """Have git killed when it has moved the branch and told nobody."""
    c.world.git.dies = lambda moment: moment == "moved"
    client = GitClient("d" * 40, OTHER)
    await _pushed_by(c, app, client)
    assert not client.is_acknowledged


async def _is_done_or_not_done(c: Core, app: App) -> None:
    """The branch is at what was deployed last, whether or not anybody was told of it."""
    commits = [deploy.commit_id for deploy in await c.database.read.deploys.of_app(app.id) if deploy.commit_id]
    assert await c.repos.tip(app.id, "main") == commits[0], "the branch is at a commit that nobody deployed"


async def _pushed(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.kind == "push" and newest.commit_id == "d" * 40 and newest.status == "live"


async def _push_together(c: Core, app: App) -> None:
    """Two people push at once: the second waits for its turn, and finds the branch where the first has left it."""
    await asyncio.gather(_push(c, app), _pushed_by(c, app, GitClient("b" * 40, THIRD)))


async def _pushed_together(c: Core, app: App) -> None:
    last, first, *_ = await c.database.read.deploys.of_app(app.id)
    assert {first.commit_id, last.commit_id} == {"d" * 40, "b" * 40}
    assert last.status == "live" and first.status in ("live", "superseded")


async def _change_together(c: Core, app: App) -> None:
    """Three people push, scale and roll back at once."""
    await asyncio.gather(_push(c, app), _scale(c, app), _roll_back(c, app))


async def _changed_together(c: Core, app: App) -> None:
    last, first, *_ = await c.database.read.deploys.of_app(app.id)
    assert {first.kind, last.kind} == {"push", "rollback"}
    assert last.status == "live" and first.status in ("live", "superseded")
    await _scaled(c, app)


async def _break_build(c: Core, app: App) -> None:
    await c.push(app, {"Dockerfile": "RUN false"}, commit="e" * 40)


async def _broken(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    row = await c.database.read.apps.get(app.id)
    assert newest and newest.status == "failed" and row and row.live_release == 2


async def _replace_alone(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await checks.set_mode(tx, app=app.id, mode="disabled", types=[])
    await _push(c, app)


async def _migrate(c: Core, app: App) -> None:
    c.scheduler.task_seconds = TASK_SECONDS
    await c.push(app, MIGRATING, commit="f" * 40)


async def _migrated(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.commit_id == "f" * 40
    if newest.status != "live":
        # It died between noting that the task is started and starting it, which is told and not tried again.
        assert (newest.status, newest.stage) == ("failed", "release")
        assert "has not run" in (newest.reason or "")
        assert c.scheduler.task_starts == {}


async def _tell(c: Core, app: App) -> None:
    c.scheduler.task_seconds = TASK_SECONDS
    await c.push(app, TELLING, commit="f" * 40)


async def _break_migration(c: Core, app: App) -> None:
    c.scheduler.task_exits["release"] = 1
    await _migrate(c, app)


async def _not_migrated(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    row = await c.database.read.apps.get(app.id)
    assert newest and (newest.status, newest.stage) == ("failed", "release") and row and row.live_release == 2


async def _break_batch(c: Core, app: App) -> None:
    c.prober.refused[3, f"web.{ROLLING}"] = "It answers 500."
    await c.push(app, CHECKED, commit="d" * 40)


async def _gone_back(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    row = await c.database.read.apps.get(app.id)
    assert newest and (newest.status, newest.stage) == ("failed", "checks") and row and row.live_release == 2


async def _to_registry(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await set_property(tx, app=app.id, name="registry.server", value="registry.example.com")
        await set_property(tx, app=app.id, name="registry.push-on-release", value="true")
    await _migrate(c, app)


async def _in_registry(c: Core, app: App) -> None:
    await _migrated(c, app)
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and c.registries.pushed == {f"registry.example.com/pushboat/{app.name}:3": newest.image}


async def _to_no_registry(c: Core, app: App) -> None:
    c.registries.is_refusing = True
    await _to_registry(c, app)


async def _in_no_registry(c: Core, app: App) -> None:
    await _not_migrated(c, app)
    assert c.scheduler.task_starts == {} and c.registries.pushed == {}


async def _roll_back(c: Core, app: App) -> None:
    await c.accept(app, kind="rollback", from_release=1)


async def _rolled_back(c: Core, app: App) -> None:
    row = await c.database.read.apps.get(app.id)
    assert row and row.live_release == 3
    assert await c.database.read.configs.get(app.id) == {}


async def _get_image(c: Core, app: App) -> None:
    c.images.registry[FOREIGN] = ImageInfo(id="sha256:foreign", ports=(8084,))
    await c.accept(app, kind="image", image=FOREIGN)


async def _got_image(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.status == "live" and newest.image == "sha256:foreign"


async def _has_no_foreign_name(c: Core, app: App) -> None:
    assert FOREIGN not in c.images.tags, "the name that a pull gave was left behind"
    assert await c.database.read.pulls.of_app(app.id) == {}


async def _scale(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.scale(tx, app=app, quantities={ProcessType("web"): 3, ProcessType("worker"): 1})


async def _scaled(c: Core, app: App) -> None:
    rows = await c.database.read.replicas.of_app(app.id)
    assert [row.label for row in rows] == ["web.1", "web.2", "web.3", "worker.1"]


async def _restart_web(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.restart(tx, app=app, process=ProcessType("web"))


async def _restarted_web(c: Core, app: App) -> None:
    (row,) = await c.database.read.replicas.of_app(app.id)
    release = await c.database.read.releases.get(app.id, row.release)
    assert release and release.version == 2 and row.label == "web.1" and not row.is_replaced
    assert release.live_at and row.planned_at > release.live_at, "it is the one that was to be replaced"


async def _sync(c: Core, app: App) -> None:
    c.remotes.have(ELSEWHERE, "d" * 40, OTHER)
    answer = await Desk(c).give(f"git:sync --build-if-changes blog {ELSEWHERE}")
    assert answer.status == 0, answer


async def _synced(c: Core, app: App) -> None:
    await _pushed(c, app)
    answer = await Desk(c).give(f"git:sync --build-if-changes blog {ELSEWHERE}")
    assert "Skipping build" in answer.out


async def _configure(c: Core, app: App) -> None:
    answer = await Desk(c).give("config:set blog COLOUR=green")
    assert answer.status == 0


async def _configured(c: Core, app: App) -> None:
    assert _colours(c, app.id) == {"green"}


async def _is_whole(c: Core, app: App) -> None:
    """The draft and what runs changed both, or neither did."""
    draft = await c.database.read.configs.get(app.id)
    assert _colours(c, app.id) == {draft["COLOUR"]}, "config was stored without the deploy that takes it"


def _colours(c: Core, app: AppId) -> set[str]:
    return {c.scheduler.wishes[replica.replica].env["COLOUR"] for replica in c.scheduler.running(app)}


async def _stop(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.stop(tx, app=app)


async def _stopped(c: Core, app: App) -> None:
    assert c.scheduler.running(app.id) == []


async def _destroy(c: Core, app: App) -> None:
    async with c.database.transaction() as tx:
        await apps.destroy(tx, app=app)


async def _destroyed(c: Core, app: App) -> None:
    assert await c.database.read.apps.get(app.id) is None
    assert c.images.tags == {}


STORIES = {
    "push": Story(_push, _pushed, True, _is_done_or_not_done),
    "push of what is there": Story(_push_again, _nothing_new, True, _is_done_or_not_done),
    "push that breaks off": Story(_push_and_leave, _nothing_new, True, _is_done_or_not_done),
    "push to a git that dies": Story(_push_to_dying_git, _nothing_new, True, _is_done_or_not_done),
    "two pushes at once": Story(_push_together, _pushed_together, True, _is_done_or_not_done),
    "push, scale and rollback at once": Story(_change_together, _changed_together, True, _is_done_or_not_done),
    "failing build": Story(_break_build, _broken, True),
    "rolling push": Story(_push, _pushed, True, web=ROLLING),
    "failing batch": Story(_break_batch, _gone_back, True, web=ROLLING),
    "push without checks": Story(_replace_alone, _pushed, False),
    "release task": Story(_migrate, _migrated, True),
    "failing release task": Story(_break_migration, _not_migrated, True),
    "tasks of app.json": Story(_tell, _migrated, True),
    "image of a registry": Story(_get_image, _got_image, True, _has_no_foreign_name),
    "push to a registry": Story(_to_registry, _in_registry, True),
    "push to a registry that refuses": Story(_to_no_registry, _in_no_registry, True),
    "rollback": Story(_roll_back, _rolled_back, True),
    "sync": Story(_sync, _synced, True),
    "scale": Story(_scale, _scaled, True),
    "restart of one type": Story(_restart_web, _restarted_web, True),
    "config": Story(_configure, _configured, True, _is_whole),
    "stop": Story(_stop, _stopped, False),
    "destroy": Story(_destroy, _destroyed, False),
}
