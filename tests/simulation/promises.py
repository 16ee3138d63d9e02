"""What must hold once a core has come to rest, whatever happened before."""

from __future__ import annotations

from agent.lifecycle import replicas
from agent.lifecycle.tasks import BEFORE
from agent.ports.proxy import Upstream
from agent.state.replicas import WANTED, Replica
from proto.names import AppId
from tests.fakes.core import Core, World

STOPPED_EACH_TIME = "Pushboat itself was stopped each time it worked on this."
"""Why the bus gives up what it began as often as it may and never ended, since it died each time."""


async def check(core: Core, *, may_have_died: bool = False) -> None:
    """Compare what is stored, what runs and what is routed with each other.

    `may_have_died`: whether the agent may have died so often at the same work that it gave that up.
    """
    read = core.database.read
    under_way = [(row.app, row.id, row.status) for row in await read.deploys.under_way()]
    assert under_way == [], f"deploys without an outcome: {under_way}"
    given_up = [row for row in await read.outbox.dead() if not (may_have_died and row.reason == STOPPED_EACH_TIME)]
    assert given_up == [], "a delivery was given up"
    assert await read.apps.destroyed() == [], "a destroyed app of which something is left"
    rows = await read.replicas.all()
    assert {row.id for row in rows} == core.scheduler.containers.keys(), "containers and rows differ"
    await _check_wishes(core, rows)
    assert all(row.state == "ready" for row in rows), [(row.label, row.state) for row in rows]
    assert all(status.phase == "running" for status in core.scheduler.containers.values())
    for app in await read.apps.all():
        wanted = {(slot.release, slot.process, slot.number) for slot in await replicas.wanted(read, app.id)}
        there = [(row.release, row.process, row.number) for row in rows if row.app == app.id and row.state in WANTED]
        assert sorted(there) == sorted(wanted), "what runs is not what should run"
    await _check_tasks(core)
    await _check_pushes(core)
    await _check_routes(core)
    await _check_images(core)


async def _check_tasks(core: Core) -> None:
    """Assert that no task ran twice, that none is half done, and that none was left out before a release went live."""
    read = core.database.read
    starts = core.scheduler.task_starts
    assert all(count == 1 for count in starts.values()), "a task was started twice"
    assert await read.tasks.unfinished() == [], "a task without an end"
    for app in await read.apps.all():
        for deploy in await read.deploys.of_app(app.id, limit=1000):
            for task in await read.tasks.of_deploy(deploy.id):
                assert task.reason is not None or starts[task.id] == 1, "a task counts as done that never ran"
                if deploy.status == "live" and task.kind in BEFORE:
                    assert task.reason is None, "a release went live although a task before it did not succeed"


async def _check_pushes(core: Core) -> None:
    """Assert that no push is half done, and that what went live with a new image is in its registry."""
    read = core.database.read
    for app in await read.apps.all():
        for deploy in await read.deploys.of_app(app.id, limit=1000):
            push = await read.pushes.get(deploy.id)
            if push is None:
                continue
            assert push.status != "due", "a push without an end"
            if push.status == "pushed":
                assert core.registries.pushed.items() >= dict.fromkeys(push.names, push.image).items()
            if deploy.status == "live" and push.is_awaited:
                assert push.status == "pushed", "a release went live that is not in its registry"


async def _check_wishes(core: Core, rows: list[Replica]) -> None:
    """Every container is of its release's image, and has its release's config."""
    read = core.database.read
    for row in rows:
        wish = core.scheduler.wishes[row.id]
        release = await read.releases.get(row.app, row.release)
        assert release and wish.image == release.image, "a container of another image than its release's"
        config = await read.configs.get(row.app, release=row.release)
        assert config.items() <= wish.env.items(), "a container with other config than its release's"


async def _check_routes(core: Core) -> None:
    read = core.database.read
    apps = {app.id: app for app in await read.apps.all()}
    assert core.proxy.served.keys() == apps.keys(), "a route of no app, or an app without a route"
    domains = [domain for route in core.proxy.served.values() for domain in route.domains]
    assert len(domains) == len(set(domains)), "a domain that leads to two apps"
    global_ones = await read.domains.global_ones()
    for app in apps.values():
        route = core.proxy.served[app.id]
        rows = [row for row in await read.replicas.of_app(app.id) if row.port and row.release == app.live_release]
        ready = {Upstream(row.id, row.address, row.port) for row in rows}
        assert set(route.upstreams) == ready, "what is routed is not what serves"
        assert route.is_deployed == (app.live_release is not None), "visitors are told the wrong page"
        own = set(await read.domains.of_app(app.id))
        usual = {app.name} if "." in app.name else {f"{app.name}.{domain}" for domain in global_ones}
        assert own <= set(route.domains) <= own | usual, "an app answers to other domains than its own"


async def _check_images(core: Core) -> None:
    read = core.database.read
    for app in await read.apps.all():
        for release in await read.releases.of_app(app.id):
            is_there = not release.is_image_kept or release.image in core.images.by_id or release.live_at is None
            assert is_there, f"the image of {app.name} v{release.version}, which one may roll back to, was collected"
    live = [(app.id, app.live_release) for app in await read.apps.all() if app.live_release]
    for app_id, version in live:
        release = await read.releases.get(app_id, version)
        assert release and release.image in core.images.by_id, "the image of a live release was collected"


def check_no_gap(world: World, app: AppId, *, since: int, count: int = 1) -> None:
    """Assert that the app was routed to `count` replicas, at least, in every table since the given one."""
    gaps = [table for table in world.proxy.tables[since:] if app in table and len(table[app].upstreams) < count]
    assert gaps == [], "the old release did not serve until the new one did"
