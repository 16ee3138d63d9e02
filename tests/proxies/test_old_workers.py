"""After a reload the old worker goes on with its connections and its old servers; drains have to wait for that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.ports.proxy import Route
from tests.proxies.apps import App, running_app
from tests.proxies.front import KEEP_ALIVE, Client, Front, eventually, route, running_front, table

pytestmark = pytest.mark.real


async def reload(front: Front, *routes: Route) -> None:
    """Change what only a reload can change: how another app balances."""
    before = await front.reloads()
    await front.proxy.apply(table(*routes, route("other", balance="leastconn")))
    assert await front.reloads() == before + 1


@asynccontextmanager
async def two_replicas() -> AsyncIterator[tuple[Front, App, App]]:
    async with running_front() as front, running_app("r1") as old, running_app("r2") as new:
        await front.proxy.apply(table(route("blog", old), route("other")))
        yield front, old, new


async def switch(front: Front, new: App) -> None:
    await front.proxy.apply(table(route("blog", new), route("other", balance="leastconn")))


async def test_a_request_in_flight_in_the_old_worker_keeps_its_replica() -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        await client.send("blog.test", "/wait")
        await old.waiting.wait()
        await reload(front, route("blog", old))
        await switch(front, new)
        assert (await front.ask("blog.test")).app == "r2"

        oldest = (await front.master.processes()).old[0]
        await eventually(lambda: is_replaced_longer_ago(front, KEEP_ALIVE + 2))
        assert not await front.proxy.is_drained(route("blog").app, old.upstream)
        old.released.set()
        assert (await client.answer()).app == "r1"

        await eventually(lambda: front.proxy.is_drained(route("blog").app, old.upstream))
        assert oldest.pid not in {worker.pid for worker in (await front.master.processes()).old}
        client.close()


async def test_an_idle_client_of_the_old_worker_is_answered_as_long_as_it_may_ask() -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        assert (await client.ask("blog.test")).app == "r1"
        await reload(front, route("blog", old))
        await switch(front, new)

        assert not await front.proxy.is_drained(route("blog").app, old.upstream)
        # It is still with the old worker, which knows nothing of the switch.
        assert (await client.ask("blog.test")).app == "r1"
        assert await client.reader.read() == b""


async def test_an_idle_client_of_the_old_worker_is_gone_before_the_replica_is_drained() -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        assert (await client.ask("blog.test")).app == "r1"
        await reload(front, route("blog", old))
        await switch(front, new)

        await eventually(lambda: front.proxy.is_drained(route("blog").app, old.upstream))
        old.stop()

        # Neither 502 nor 503: the connection ends, and the client may ask again elsewhere.
        assert await client.reader.read() == b""
        assert (await front.ask("blog.test")).app == "r2"


async def test_an_old_worker_that_a_websocket_of_another_app_holds_does_not_hold_up_drains() -> None:
    async with two_replicas() as (front, old, new), running_app("r3") as chat:
        await front.proxy.apply(table(route("blog", old), route("chat", chat), route("other")))
        client = await Client.connect(front.port)
        await client.send("chat.test", "/events")
        await chat.waiting.wait()
        await reload(front, route("blog", old), route("chat", chat))
        await front.proxy.apply(
            table(route("blog", new), route("chat", chat), route("other", balance="leastconn")),
        )

        await eventually(lambda: front.proxy.is_drained(route("blog").app, old.upstream))

        assert (await front.master.processes()).old
        assert not await front.proxy.is_drained(route("chat").app, chat.upstream)
        client.close()


async def test_an_agent_started_anew_knows_what_drains() -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        await client.send("blog.test", "/wait")
        await old.waiting.wait()
        await switch(front, new)
        await front.proxy.close()

        again = front.proxy = front.another_agent()
        await again.start()

        assert not await again.is_drained(route("blog").app, old.upstream)
        assert not await again.is_drained(route("blog").app, new.upstream)
        old.released.set()
        assert (await client.answer()).app == "r1"
        await eventually(lambda: again.is_drained(route("blog").app, old.upstream))
        client.close()


async def test_what_is_left_of_a_drained_replica_goes_at_the_next_survey() -> None:
    async with two_replicas() as (front, _, new):
        await front.proxy.apply(table(route("blog", new), route("other")))
        assert "r1" in (await front.order("show servers state"))[0]

        await eventually(lambda: is_gone_after_survey(front, "r1"))


async def is_gone_after_survey(front: Front, name: str) -> bool:
    assert not await front.proxy.survey()
    return name not in (await front.order("show servers state"))[0]


async def is_replaced_longer_ago(front: Front, seconds: float) -> bool:
    return (await front.master.processes()).current.uptime > seconds
