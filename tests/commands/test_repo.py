from __future__ import annotations

from agent.lifecycle.building import build_options
from proto.wire import Exit
from tests.commands.desk import DOCKERFILE, Desk


async def test_a_purged_cache_is_not_used_by_the_next_build_and_by_the_one_after_it_is(desk: Desk) -> None:
    app, deploy = await desk.deployed("blog")
    read = desk.database.read
    before = await build_options(read, app=app.id, name="blog")
    assert (before.no_cache, before.cache_epoch) == (False, "")
    for _ in range(2):  # repeating changes nothing
        assert (await desk.give("repo:purge-cache blog")).status == 0
    purged = await build_options(read, app=app.id, name="blog")
    assert (purged.no_cache, purged.cache_epoch) == (True, deploy.id)
    # A build that fails has not made the cache anew.
    await desk.core.push(app, {**DOCKERFILE, "Dockerfile": "FROM scratch\nRUN false\n"}, commit="d" * 40)
    await desk.core.settle()
    assert (await build_options(read, app=app.id, name="blog")).no_cache
    await desk.core.push(app, DOCKERFILE, commit="e" * 40)
    await desk.core.settle()
    after = await build_options(read, app=app.id, name="blog")
    assert (after.no_cache, after.cache_epoch) == (False, deploy.id)


async def test_a_cache_can_be_purged_before_anything_was_pushed(desk: Desk) -> None:
    app = await desk.core.create("blog")
    assert (await desk.give("repo:purge-cache blog")).status == 0
    assert not (await build_options(desk.database.read, app=app.id, name="blog")).no_cache
    assert (await desk.give("repo:purge-cache nobody")).status == Exit.NO_SUCH_APP


async def test_a_repository_is_repacked_when_asked(desk: Desk) -> None:
    app = await desk.core.create("blog")
    done = await desk.give("repo:gc blog")
    assert done.status == 0 and "It took 3.0 kB and takes 3.0 kB now." in done.out
    assert desk.core.repos.collected == [app.id]
    assert (await desk.give("repo:gc nobody")).status == Exit.NO_SUCH_APP
