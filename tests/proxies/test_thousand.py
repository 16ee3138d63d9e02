"""A thousand apps: what changes cost. The figures are printed (``-s``), not asserted; what is served is."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from agent.ports.proxy import Upstream
from tests.proxies.apps import running_app
from tests.proxies.front import route, running_front, table

pytestmark = pytest.mark.real

APPS = 1000


async def test_a_thousand_apps_are_applied_switched_drained_and_surveyed() -> None:
    async with running_front(spare_backends=200) as front, running_app("r") as app:
        where = app.upstream
        routes = table(*(route(f"a{n}", Upstream(f"r{n}", where.host, where.port)) for n in range(APPS)))
        await timed("first table, with a reload", front.proxy.apply(routes))
        await timed("same table", front.proxy.apply(routes))
        changed = routes[route("a5").app] = route("a5", Upstream("new", where.host, where.port))
        await timed("one switch", front.proxy.apply(routes))
        assert await timed("survey", front.proxy.survey()) == ()
        others = {app: msgspec.structs.replace(one, upstreams=changed.upstreams[:0]) for app, one in routes.items()}
        await timed("all withdrawn", front.proxy.apply(others))
        drained = [front.proxy.is_drained(app, one.upstreams[0]) for app, one in routes.items()]
        assert all(await timed("all drained", asyncio.gather(*drained)))
        await timed("all back", front.proxy.apply(routes))

        assert await front.reloads() == 1
        assert [(await front.ask(f"a{n}.test")).status for n in (0, 5, 999)] == [200] * 3


async def timed(what, work):  # type: ignore[no-untyped-def]
    start, burnt = time.perf_counter(), time.process_time()
    result = await work
    print(f"{what}: {time.perf_counter() - start:.3f} s, of ours {time.process_time() - burnt:.3f} s on the processor")
    return result
