"""Short stories of one app: what is done, and what must be so once it was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.commands.watching import DeployWatcher
from agent.lifecycle import apps, checks
from agent.lifecycle.cleaning import Doorkeeper
from agent.lifecycle.properties import set_property
from agent.ports.images import ImageInfo
from agent.ssh.push import Pushes
from agent.state.apps import App
from proto.names import AppId, ProcessType
from tests.commands.desk import FACTS, Desk
from tests.fakes.core import Core
from tests.fakes.git import GitClient

HELLO_COMMIT = "c" * 40
"""What every story begins with."""
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


async def _push(c: Core, app: App) -> None:
    """Push as git does; return when it was told that its commit is stored, or the agent died."""
    await pushed_by(c, app, GitClient("d" * 40, OTHER))


async def pushed_by(c: Core, app: App, client: GitClient) -> None:
    """Push with this git; return when it was told that its commit is stored, or the agent died."""
    watcher = DeployWatcher(c.database, transcripts=c.transcripts, server=FACTS)
    door = Doorkeeper(c.disks, build_bytes=1, push_bytes=1)
    pushes = Pushes(c.database, c.repos, watcher, ids=c.ids, door=door)  # type: ignore[arg-type]
    serving = asyncio.ensure_future(Desk(c, services=(pushes,)).dispatcher.run("git-receive-pack 'blog'", client))
    while not (client.is_acknowledged or serving.done()):
        await asyncio.wait((serving,), timeout=0.1)


async def _push_again(c: Core, app: App) -> None:
    """Push what was pushed and deployed already: nothing happens, and nobody is told otherwise."""
    await pushed_by(c, app, GitClient(HELLO_COMMIT, HELLO))


async def _nothing_new(c: Core, app: App) -> None:
    newest = await c.database.read.deploys.newest(app.id)
    assert newest and newest.kind == "config"


async def _push_and_leave(c: Core, app: App) -> None:
    """Leave with half of the pack sent."""
    await pushed_by(c, app, GitClient("d" * 40, OTHER, breaks_off_at=0.8))


async def _push_to_dying_git(c: Core, app: App) -> None:
    """Have git killed when it has moved the branch and told nobody."""
    c.world.git.dies = lambda moment: moment == "moved"
    client = GitClient("d" * 40, OTHER)
    await pushed_by(c, app, client)
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
    await asyncio.gather(_push(c, app), pushed_by(c, app, GitClient("b" * 40, THIRD)))


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
