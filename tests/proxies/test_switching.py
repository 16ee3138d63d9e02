"""Changes under load: nothing in flight is dropped, and HAProxy is seldom reloaded."""

from __future__ import annotations

import asyncio

import pytest

from agent.ports.proxy import Upstream
from agent.proxies.haproxy.held import parse_servers
from tests.proxies.apps import App, running_app
from tests.proxies.front import HANDSHAKE, Client, Front, echoes, eventually, route, running_front, table

pytestmark = pytest.mark.real

SWITCHES = 200


async def keep_asking(port: int, host: str, *, until: asyncio.Event) -> int:
    """Ask over one keep-alive connection, anew where the proxy says it closes; return how often."""
    client = await Client.connect(port)
    good = 0
    while not until.is_set():
        answer = await client.ask(host, method="POST")
        assert answer.status == 200, answer
        good += 1
        if answer.headers.get("connection") == "close":
            client.close()
            client = await Client.connect(port)
    client.close()
    return good


async def websocket(front: Front, host: str) -> Client:
    client = await Client.connect(front.port)
    await client.send(host, "/socket", headers=HANDSHAKE)
    assert (await client.answer()).status == 101
    return client


async def test_no_request_fails_through_200_switches_that_each_stop_the_former_replica() -> None:
    over = asyncio.Event()
    async with running_front() as front:
        app = await App("r0").start()
        await front.proxy.apply(table(route("blog", app)))
        async with asyncio.TaskGroup() as group:
            visitors = [group.create_task(keep_asking(front.port, "blog.test", until=over)) for _ in range(8)]
            for number in range(1, SWITCHES + 1):
                former, app = app, await App(f"r{number}").start()
                await front.proxy.apply(table(route("blog", app)))
                gone = former.upstream
                await eventually(lambda gone=gone: front.proxy.is_drained(route("blog").app, gone))
                former.stop()
            over.set()
        app.stop()

        assert sum(visitor.result() for visitor in visitors) > SWITCHES
        assert await front.reloads() == 0
        # Nothing of the 200 is left behind.
        assert list(parse_servers((await front.order("show servers state"))[0])) == [("slot0001", f"r{SWITCHES}")]


async def test_no_request_fails_through_reloads() -> None:
    over = asyncio.Event()
    async with running_front() as front, running_app("r1") as app:
        async with asyncio.TaskGroup() as group:
            await front.proxy.apply(table(route("blog", app)))
            visitors = [group.create_task(keep_asking(front.port, "blog.test", until=over)) for _ in range(4)]
            for balance in ("leastconn", "roundrobin") * 3:
                await front.proxy.apply(table(route("blog", app, balance=balance)))
            over.set()

        assert all(visitor.result() for visitor in visitors)
        assert await front.reloads() == 6


async def test_a_websocket_outlives_changes_of_other_apps_reloads_and_its_own_replicas_drain() -> None:
    async with running_front() as front, running_app("r1") as old, running_app("r2") as new:
        await front.proxy.apply(table(route("chat", old)))
        socket = await websocket(front, "chat.test")

        await front.proxy.apply(table(route("chat", old), route("blog", new)))
        assert await echoes(socket)
        await front.proxy.apply(table(route("chat", old), route("blog", new, balance="leastconn")))
        assert await front.reloads() == 1
        assert await echoes(socket)
        await front.proxy.apply(table(route("chat", new)))
        assert await echoes(socket)

        assert not await front.proxy.is_drained(route("chat").app, old.upstream)
        socket.close()
        await eventually(lambda: front.proxy.is_drained(route("chat").app, old.upstream))


async def test_new_apps_take_spare_backends_without_a_reload_until_they_run_out() -> None:
    async with running_front() as front, running_app("r1") as app:
        where = app.upstream
        apps = [route(f"app{n}", Upstream(f"r{n}", where.host, where.port)) for n in range(6)]
        for count in range(1, 6):
            await front.proxy.apply(table(*apps[:count]))
        assert await front.reloads() == 0

        await front.proxy.apply(table(*apps))

        assert await front.reloads() == 1
        assert [(await front.ask(f"app{n}.test")).app for n in range(6)] == ["r1"] * 6
        assert front.layout.config.read_text().count("backend slot") == 11


async def test_a_backend_that_an_app_left_is_taken_again_without_a_reload() -> None:
    async with running_front(spare_backends=1) as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one)))
        await front.proxy.apply({})
        await front.proxy.apply(table(route("shop", two)))

        assert await front.reloads() == 0
        assert (await front.ask("shop.test")).app == "r2"
        assert (await front.ask("blog.test")).status == 404


async def test_a_domain_moves_from_one_app_to_another() -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one, domains=("a.test",)), route("shop", two, domains=("b.test",))))
        await front.proxy.apply(table(route("blog", one, domains=("b.test",)), route("shop", two, domains=("a.test",))))

        assert (await front.ask("a.test")).app == "r2"
        assert (await front.ask("b.test")).app == "r1"


async def test_an_app_that_closes_idle_connections_loses_no_post() -> None:
    async with running_front(keep_alive_seconds=15.0) as front, running_app("r1") as app:
        app.idle_seconds = 3.0
        await front.proxy.apply(table(route("blog", app)))

        # Each posts again when the app's patience is about to end.
        pauses = [2.0 + number / 16 for number in range(32)]
        async with asyncio.TaskGroup() as group:
            visitors = [group.create_task(post_with_pauses(front.port, pause)) for pause in pauses]

    assert {answer for visitor in visitors for answer in visitor.result()} == {200}


async def post_with_pauses(port: int, pause: float) -> list[int]:
    client = await Client.connect(port)
    statuses = [(await client.ask("blog.test", method="POST")).status]
    for _ in range(2):
        await asyncio.sleep(pause)
        statuses.append((await client.ask("blog.test", method="POST")).status)
    client.close()
    return statuses
