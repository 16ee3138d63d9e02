"""Which commits of an app may be built again, by a restarted agent or a rebuild."""

from __future__ import annotations

from agent.state.database import Tables
from proto.names import AppId


async def kept_commits(tables: Tables, app: AppId) -> set[str]:
    """Return the commits of the newest deploy, of those under way, and of every release whose image is kept."""
    newest = await tables.deploys.newest_of_source(app)
    deploys = [*await tables.deploys.under_way(app), *((newest,) if newest else ())]
    releases = [release for release in await tables.releases.of_app(app) if release.is_image_kept]
    return {each.commit_id for each in (*deploys, *releases) if each.commit_id is not None}
