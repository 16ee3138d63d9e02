"""What must hold once a core has come to rest, whatever happened before."""

from __future__ import annotations

from agent.lifecycle import replicas
from agent.lifecycle.tasks import BEFORE
from agent.state.replicas import WANTED
from proto.names import AppId
from tests.fakes.core import Core


async def check(core: Core) -> None:
    """Compare what is stored, what runs and what is routed with each other."""
    read = core.database.read
    assert await read.deploys.under_way() == [], "a deploy without an outcome"
    assert await read.outbox.dead() == [], "a delivery was given up"
    assert await read.apps.destroyed() == [], "a destroyed app of which something is left"
    rows = await read.replicas.all()
    assert {row.id for row in rows} == core.scheduler.containers.keys(), "containers and rows differ"
    assert all(row.state == "ready" for row in rows), [(row.label, row.state) for row in rows]
    assert all(status.phase == "running" for status in core.scheduler.containers.values())
    for app in await read.apps.all():
        wanted = {(slot.release, slot.process, slot.number) for slot in await replicas.wanted(read, app.id)}
        there = [(row.release, row.process, row.number) for row in rows if row.app == app.id and row.state in WANTED]
        assert sorted(there) == sorted(wanted), "what runs is not what should run"
    await _check_tasks(core)
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


async def _check_routes(core: Core) -> None:
    read = core.database.read
    apps = {app.id: app for app in await read.apps.all()}
    assert core.proxy.served.keys() == apps.keys(), "a route of no app, or an app without a route"
    for app in apps.values():
        routed = {upstream.name for upstream in core.proxy.upstreams(app.id)}
        ready = {row.id for row in await read.replicas.of_app(app.id) if row.port and row.release == app.live_release}
        assert routed == ready, "what is routed is not what serves"


async def _check_images(core: Core) -> None:
    read = core.database.read
    needed = set()
    for app in await read.apps.all():
        needed |= {release.image for release in await read.releases.of_app(app.id) if release.is_image_kept}
        for release in await read.releases.of_app(app.id):
            assert not release.is_image_kept or release.image in core.images.by_id or release.live_at is None
    live = [(app.id, app.live_release) for app in await read.apps.all() if app.live_release]
    for app_id, version in live:
        release = await read.releases.get(app_id, version)
        assert release and release.image in core.images.by_id, "the image of a live release was collected"


def check_no_gap(core: Core, app: AppId, *, since: int) -> None:
    """Assert that the app was routed somewhere in every table since the given one."""
    gaps = [table for table in core.proxy.tables[since:] if app in table and not table[app].upstreams]
    assert gaps == [], "the old release did not serve until the new one did"
