"""What nothing needs any more and is there all the same: rows, images, files, volumes, routes, what git keeps.

For a time when all is at rest. Containers and routes without a row are found by ``promises``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.state.deploys import Deploy
from agent.state.releases import Release
from proto.names import SERVER, AppId, DeployId
from tests.fakes.core import Core, World
from tests.simulation.stored import FOLDER

RECORDS = ("events", "invocations")
"""Tables that tell what happened, also to apps that are gone."""

EVIDENCE = {"deliveries": "dead IS NULL"}
"""Which rows are to go. What the bus has given up stays, to be looked into."""


async def leftovers(core: Core, folder: Path) -> list[str]:
    """Return what is left of apps that are gone, and of deploys whose image nothing needs."""
    read = core.database.read
    apps = [app.id for app in await read.apps.all()]
    deploys = {app: await read.deploys.of_app(app, limit=10_000) for app in apps}
    releases = {app: await read.releases.of_app(app, limit=10_000) for app in apps}
    known = set(apps)
    found = [f"rows of {app} in {table}" for table, app in _owners(folder) if app not in known | {SERVER}]
    found += [f"{what} of {app}" for what, app in _places(core.world, folder) if app not in known]
    found += [f"the volume {name} of nobody" for name in core.world.workshops.orphans]
    there = {deploy.id for of_app in deploys.values() for deploy in of_app}
    found += [f"what the deploy {deploy} said" for deploy in core.world.transcripts.lines if deploy not in there]
    return found + list(_images(core, deploys=deploys, releases=releases))


def _owners(folder: Path) -> list[tuple[str, AppId]]:
    """Return which tables have rows of which apps."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'state.db'}?mode=ro", uri=True)) as sql:
        tables = sql.execute(
            "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c ON c.name = 'app'"
            " WHERE m.type = 'table'"
        ).fetchall()
        return [
            (table, AppId(app))
            for (table,) in tables
            if table not in RECORDS
            for (app,) in sql.execute(f"SELECT DISTINCT app FROM {table} WHERE {EVIDENCE.get(table, 'TRUE')}")
        ]


def _places(world: World, folder: Path) -> Iterator[tuple[str, AppId]]:
    """Yield what there is of which apps beside rows."""
    repos = world.repos
    for app in {*repos.made, *repos.heads, *repos.kept, *(app for app, _ in (*repos.commits, *repos.tips))}:
        yield "a repository", app
    for path in (folder / FOLDER).glob("*"):
        yield f"files below {path.name}", AppId(path.name)
    for app in world.workshops.volumes:
        yield "a volume", app
    for app in world.proxy.served:
        yield "a route", app
    for status in world.scheduler.containers.values():
        yield f"the container {status.name}", status.app


def _images(core: Core, *, deploys: dict[AppId, list[Deploy]], releases: dict[AppId, list[Release]]) -> Iterable[str]:
    """Yield tags of images that no kept release has, and images without a tag."""
    images = core.world.images
    needed = {}
    for app, of_app in deploys.items():
        kept = {release.image for release in releases[app] if release.is_image_kept}
        needed |= {images.tag_for(app, DeployId(deploy.id)): kept for deploy in of_app}
    for tag, image in images.tags.items():
        if image not in needed.get(tag, ()):
            yield f"the image {tag}"
    for image in images.by_id.keys() - set(images.tags.values()):
        yield f"the image {image} without a name"
