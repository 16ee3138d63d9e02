"""After a reload the old worker goes on with its connections and its old servers; drains have to wait for that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.ports.proxy import Route
from tests.proxies.apps import App, running_app
from tests.proxies.front import (
    HANDSHAKE,
    KEEP_ALIVE,
    Client,
    Front,
    echoes,
    eventually,
    route,
    running_front,
    table,
)

pytestmark = pytest.mark.real

CLIENTS = 8

WHOEVER_THE_WORKERS_ARE = pytest.mark.parametrize("user", ["haproxy", ""])
"""Workers that give up root's rights meet at another kind of socket than those that had none."""


async def reload(front: Front, *routes: Route) -> None:
    """Change what only a reload can change: how another app balances."""
    before = await front.reloads()
    await front.proxy.apply(table(*routes, route("other", balance="leastconn")))
    assert await front.reloads() == before + 1


@asynccontextmanager
async def two_replicas(**options: object) -> AsyncIterator[tuple[Front, App, App]]:
    async with running_front(**options) as front, running_app("r1") as old, running_app("r2") as new:
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


async def test_an_idle_client_of_the_old_worker_is_handed_over_to_the_new_replica() -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        assert (await client.ask("blog.test")).app == "r1"
        await reload(front, route("blog", old))
        await switch(front, new)

        assert not await front.proxy.is_drained(route("blog").app, old.upstream)
        # It is still with the old worker, which was told nothing of the switch.
        assert (await client.ask("blog.test")).app == "r2"
        assert await client.reader.read() == b""


@WHOEVER_THE_WORKERS_ARE
async def test_a_request_that_is_handed_over_tells_the_app_who_asks_as_any_other(user: str) -> None:
    lies = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Request-Id": "mine"}
    async with two_replicas(user=user) as (front, old, new):
        client = await Client.connect(front.port, source="127.0.0.2")
        direct = await client.ask("blog.test", headers=lies)
        await reload(front, route("blog", old))
        await switch(front, new)

        answer = await client.ask("blog.test", headers=lies)

    assert (direct.app, answer.app) == ("r1", "r2")
    before, after = direct.sent, answer.sent
    request_id = after.pop("x-request-id")
    assert request_id == answer.headers["x-request-id"]
    assert request_id not in ("mine", before.pop("x-request-id"))
    assert after.pop("x-request-start") >= before.pop("x-request-start")
    assert after == before
    assert after["x-forwarded-for"] == "127.0.0.2"
    assert after["x-forwarded-port"] == str(front.port)


@WHOEVER_THE_WORKERS_ARE
async def test_what_a_trusted_proxy_says_is_handed_over_once(user: str) -> None:
    told = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Request-Id": "abc-1"}
    async with two_replicas(user=user, trusted=["127.0.0.2"]) as (front, old, new):
        client = await Client.connect(front.port, source="127.0.0.2")
        await client.ask("blog.test", headers=told)
        await reload(front, route("blog", old))
        await switch(front, new)

        answer = await client.ask("blog.test", headers=told)

    assert answer.app == "r2"
    assert answer.sent["x-forwarded-for"] == "1.2.3.4, 127.0.0.2"
    assert answer.sent["x-forwarded-proto"] == "https"
    assert answer.sent["x-request-id"] == answer.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize(
    "orders",
    [
        ["set server handover/current state maint"],
        ["set server handover/current state maint", "del server handover/current"],
        [
            *("set server handover/current state maint", "del server handover/current"),
            *("add server handover/current 127.0.0.1:9", "enable server handover/current"),
        ],
    ],
)
async def test_a_handover_that_was_changed_by_hand_and_mended_leads_to_the_new_replica(orders: list[str]) -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        assert (await client.ask("blog.test")).app == "r1"
        await front.order(*orders)
        assert route("blog").app in await front.proxy.survey()
        await front.proxy.apply(table(route("blog", old), route("other")))
        assert not await front.proxy.survey()
        await reload(front, route("blog", old))
        await switch(front, new)

        assert (await client.ask("blog.test")).app == "r2"


async def test_a_websocket_that_begins_in_the_old_worker_leads_to_the_new_replica() -> None:
    async with two_replicas() as (front, old, new):
        client = await Client.connect(front.port)
        assert (await client.ask("blog.test")).app == "r1"
        await reload(front, route("blog", old))
        await switch(front, new)

        await client.send("blog.test", "/socket", headers=HANDSHAKE)
        assert (await client.answer()).status == 101
        assert await echoes(client)

        await front.proxy.apply(table(route("blog"), route("other", balance="leastconn")))
        assert new.requests == 1
        assert not await front.proxy.is_drained(route("blog").app, new.upstream)
        client.close()
        await eventually(lambda: front.proxy.is_drained(route("blog").app, new.upstream))


async def test_a_client_that_several_reloads_have_passed_by_is_handed_on_to_the_current_worker() -> None:
    async with two_replicas() as (front, old, new), running_app("r3") as report:
        busy: list[Client] = []
        for balance in ("roundrobin", "leastconn", "roundrobin", "leastconn"):
            both = route("blog", old), route("report", report)
            await front.proxy.apply(table(*both, route("other", balance=balance)))
            busy.append(await Client.connect(front.port))
            await busy[-1].send("report.test", "/events")
            await busy[-1].reader.readuntil(b"first\r\n")
        await front.proxy.apply(table(route("blog", new), route("report", report), route("other", balance="leastconn")))
        assert len((await front.master.processes()).old) == 3
        await eventually(lambda: front.proxy.is_drained(route("blog").app, old.upstream))
        old.stop()

        report.released.set()
        for client in busy:
            await client.reader.readuntil(b"0\r\n\r\n")
            assert (await client.ask("blog.test", method="POST")).app == "r2"


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


async def test_a_client_busy_with_another_apps_answer_in_the_old_worker_is_served_once_it_is_done() -> None:
    async with two_replicas() as (front, old, new), running_app("r3") as report:
        await front.proxy.apply(table(route("blog", old), route("report", report), route("other")))
        busy = [await Client.connect(front.port) for _ in range(CLIENTS)]
        for client in busy:
            assert (await client.ask("blog.test")).app == "r1"
            await client.send("report.test", "/events")
            await client.reader.readuntil(b"first\r\n")
        await reload(front, route("blog", old), route("report", report))
        await front.proxy.apply(
            table(route("blog", new), route("report", report), route("other", balance="leastconn")),
        )
        await eventually(lambda: front.proxy.is_drained(route("blog").app, old.upstream))
        old.stop()

        report.released.set()
        for client in busy:
            await client.reader.readuntil(b"0\r\n\r\n")
            assert (await client.ask("blog.test", method="POST")).app == "r2"
            assert await client.reader.read() == b""


@pytest.mark.slow
async def test_half_a_request_in_the_old_worker_is_served_once_it_is_whole() -> None:
    async with two_replicas(keep_alive_seconds=8.0, request_seconds=8.0) as (front, old, new):
        clients = [await Client.connect(front.port) for _ in range(CLIENTS)]
        for client in clients:
            assert (await client.ask("blog.test")).app == "r1"
        await reload(front, route("blog", old))
        await switch(front, new)
        # Shortly before they would have been idle for too long, they begin.
        await eventually(lambda: is_replaced_longer_ago(front, 5))
        for client in clients:
            client.writer.write(b"POST / HTTP/1.1\r\nHo")
        await eventually(lambda: front.proxy.is_drained(route("blog").app, old.upstream))
        old.stop()

        for client in clients:
            client.writer.write(b"st: blog.test\r\n\r\n")
            assert (await client.answer()).app == "r2"
            assert await client.reader.read() == b""


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
