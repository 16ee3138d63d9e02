"""A reload, a switch, the end of the old replica, again and again, with every kind of client in the old worker.

`PUSHBOAT_TEST_ROUNDS` says how often, `PUSHBOAT_TEST_SEED` what restless clients draw. A replica is ended here as soon
as no worker has a session on it, which is sooner than the agent does it: nobody in an old worker may need the replicas
that it knows.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.ports.proxy import Balance
from agent.proxies.haproxy.drain import is_drained
from agent.proxies.haproxy.runtime import look
from tests.proxies.apps import App, running_app
from tests.proxies.front import HANDSHAKE, Client, Front, echoes, eventually, route, running_front, table

pytestmark = pytest.mark.real

ROUNDS = int(os.environ.get("PUSHBOAT_TEST_ROUNDS", "15"))
SEED = int(os.environ.get("PUSHBOAT_TEST_SEED", "20"))
RESTLESS = 6
PATIENCE = 600.0
"""Seconds that an idle client, and half a request, may take: longer than the test."""
MANY_RELOADS = 22
"""HAProxy was once told to end a worker after twenty."""


class Blog:
    """An app whose only replica is replaced again and again; others' long answers and websockets come from `report`."""

    def __init__(self, front: Front, report: App) -> None:
        self.front = front
        self.report = report
        self.gone: set[str] = set()
        """Names of replicas that were ended."""
        self.serving: App | None = None
        self.is_over = False
        self.asked = 0

    async def replace(self, number: int) -> App | None:
        """Have a new replica serve; return the former one."""
        former, self.serving = self.serving, await App(f"r{number}").start()
        await self._apply(self.serving, number)
        return former

    async def reload(self, number: int) -> None:
        """Change what only a reload can change, and nothing else."""
        before = await self.front.reloads()
        await self._apply(self.serving, number)
        assert await self.front.reloads() == before + 1

    async def _apply(self, replica: App | None, number: int) -> None:
        assert replica
        other = route("other", balance="leastconn" if number % 2 else "roundrobin")
        await self.front.proxy.apply(table(route("blog", replica), route("report", self.report), other))

    async def is_without_sessions(self, replica: App) -> bool:
        """Tell whether no worker has anything in flight on it."""
        return is_drained(await look(self.front.master), replica.name, idle_seconds=-2)

    async def client(self) -> Client:
        """Return one that has asked once, so that its connection is kept."""
        client = await Client.connect(self.front.port)
        await self.is_served(client)
        return client

    async def is_served(self, client: Client, *, method: str = "GET") -> bool:
        """Ask; tell whether the connection goes on. Whoever answers was not gone when he was asked."""
        gone = frozenset(self.gone)
        answer = await client.ask("blog.test", method=method)
        assert answer.status == 200
        assert answer.app not in gone
        self.asked += 1
        return answer.headers.get("connection") != "close"

    async def pester(self, chance: random.Random) -> None:
        """Ask again and again, on one connection for as long as it lives."""
        client = await Client.connect(self.front.port)
        while not self.is_over:
            if not await self.is_served(client, method=chance.choice(("GET", "POST"))):
                client.close()
                client = await Client.connect(self.front.port)
            await asyncio.sleep(chance.random() / 50)
        client.close()


@asynccontextmanager
async def pestered_blog() -> AsyncIterator[Blog]:
    options = {"keep_alive_seconds": PATIENCE, "request_seconds": PATIENCE}
    async with running_front(**options) as front, running_app("report") as report, asyncio.TaskGroup() as group:
        blog = Blog(front, report)
        await blog.replace(0)
        for number in range(RESTLESS):
            group.create_task(blog.pester(random.Random(f"{SEED}-{number}")))
        try:
            yield blog
        finally:
            blog.is_over = True
            assert blog.serving
            blog.serving.stop()


async def test_a_reload_then_a_switch_then_the_end_of_the_old_replica_costs_nobody_a_request() -> None:
    print(f"{ROUNDS} rounds of seed {SEED}")
    async with pestered_blog() as blog:
        for number in range(1, ROUNDS + 1):
            await one_round(blog, number)
        assert blog.asked > ROUNDS * RESTLESS


async def test_a_websocket_goes_on_however_often_other_apps_have_haproxy_reload() -> None:
    async with running_front() as front, running_app("r1") as chat:
        await front.proxy.apply(table(route("chat", chat), route("other")))
        client = await Client.connect(front.port)
        await client.send("chat.test", "/socket", headers=HANDSHAKE)
        assert (await client.answer()).status == 101
        for number in range(MANY_RELOADS):
            balance: Balance = "roundrobin" if number % 2 else "leastconn"
            await front.proxy.apply(table(route("chat", chat), route("other", balance=balance)))
        assert await front.reloads() == MANY_RELOADS
        assert await echoes(client)
        client.close()


async def one_round(blog: Blog, number: int) -> None:
    blog.report.released = release = asyncio.Event()
    old = blog.serving
    assert old
    waiting, sending, idle, later, half, busy = [await blog.client() for _ in range(6)]
    await waiting.send("blog.test", "/wait")
    await sending.send("blog.test", method="POST", headers={"Content-Length": "8"})
    sending.writer.write(b"half")
    await busy.send("report.test", "/events")
    await busy.reader.readuntil(b"first\r\n")
    half.writer.write(b"POST / HTTP/1.1\r\nHo")
    await old.waiting.wait()

    await blog.reload(number)
    assert await blog.replace(number) is old
    assert not await blog.is_served(idle), "the old worker goes on with a client that it could hand over"
    assert not await blog.is_without_sessions(old)
    old.released.set()
    assert (await waiting.answer()).app == old.name
    sending.writer.write(b"half")
    assert (await sending.answer()).app == old.name
    await eventually(lambda: blog.is_without_sessions(old))
    old.vanish()
    blog.gone.add(old.name)

    half.writer.write(b"st: blog.test\r\n\r\n")
    release.set()
    await busy.reader.readuntil(b"0\r\n\r\n")
    assert (await half.answer()).app not in ("", *blog.gone)
    for client in (busy, later):
        assert not await blog.is_served(client, method="POST")
    for client in (waiting, sending, idle, later, half, busy):
        client.close()
