"""What every `Proxy` does. Run against HAProxy, and against the fake that stands for it elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import msgspec
import pytest

from agent.errors import Unavailable
from agent.ports.proxy import Proxy, Route, RouteRefused, Upstream
from tests.fakes.proxy import FakeProxy
from tests.proxies.apps import App
from tests.proxies.front import Client, Front, eventually, route, running_front, table


class Subject(Protocol):
    """A proxy, and the world around it."""

    proxy: Proxy

    async def replica(self, name: str) -> Upstream: ...

    async def visit(self, domain: str) -> str:
        """Return the name of the replica that answered, or empty."""
        ...

    def spoil(self, spoilt: Route) -> Route:
        """Return that route, made such that the proxy must refuse it."""
        ...

    async def tamper(self, served: Route) -> None: ...

    async def hang(self) -> None: ...

    def busy(self, upstream: Upstream, domain: str) -> AbstractAsyncContextManager[None]:
        """Have a request in flight on the replica that serves the domain."""
        ...


class Fake:
    def __init__(self) -> None:
        self.proxy = FakeProxy()

    async def replica(self, name: str) -> Upstream:
        return Upstream(name, "127.0.0.1", 5000)

    async def visit(self, domain: str) -> str:
        for served in self.proxy.served.values():
            if domain in served.domains and served.upstreams:
                return served.upstreams[0].name
        return ""

    def spoil(self, spoilt: Route) -> Route:
        self.proxy.refused[spoilt.app] = "spoilt"
        return spoilt

    async def tamper(self, served: Route) -> None:
        self.proxy.tamper(served.app)

    async def hang(self) -> None:
        self.proxy.is_available = False

    @asynccontextmanager
    async def busy(self, upstream: Upstream, domain: str) -> AsyncIterator[None]:
        self.proxy.sessions[upstream.name] = 1
        yield
        self.proxy.sessions[upstream.name] = 0


class Real:
    def __init__(self, front: Front, stack: AsyncExitStack) -> None:
        self.front = front
        self.proxy = front.proxy
        self._stack = stack
        self._apps: dict[str, App] = {}

    async def replica(self, name: str) -> Upstream:
        app = self._apps[name] = await App(name).start()
        self._stack.callback(app.stop)
        return app.upstream

    async def visit(self, domain: str) -> str:
        return (await self.front.ask(domain)).app

    def spoil(self, spoilt: Route) -> Route:
        return msgspec.structs.replace(spoilt, domains=("two words.test\nother.test slot0001",))

    async def tamper(self, served: Route) -> None:
        await self.front.order(f"del map {self.front.layout.exact_map} {served.domains[0]}")

    async def hang(self) -> None:
        pid = self.front.process().pid
        os.kill(pid, signal.SIGSTOP)
        self._stack.callback(os.kill, pid, signal.SIGCONT)

    @asynccontextmanager
    async def busy(self, upstream: Upstream, domain: str) -> AsyncIterator[None]:
        app = self._apps[upstream.name]
        client = await Client.connect(self.front.port)
        await client.send(domain, "/wait")
        await app.waiting.wait()
        yield
        app.released.set()
        assert (await client.answer()).app == upstream.name
        client.close()


@pytest.fixture(params=["fake", pytest.param("haproxy", marks=pytest.mark.real)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield Fake()
        return
    async with running_front() as front, AsyncExitStack() as stack:
        yield Real(front, stack)


async def test_an_applied_route_is_served(subject: Subject) -> None:
    await subject.proxy.apply(table(route("blog", await subject.replica("r1"))))

    assert await subject.visit("blog.test") == "r1"
    assert not await subject.proxy.survey()


async def test_a_new_table_replaces_the_former_one_whole(subject: Subject) -> None:
    blog, shop = route("blog", await subject.replica("r1")), route("shop", await subject.replica("r2"))
    await subject.proxy.apply(table(blog))

    await subject.proxy.apply(table(shop))

    assert await subject.visit("blog.test") == ""
    assert await subject.visit("shop.test") == "r2"


async def test_applying_the_same_table_again_changes_nothing(subject: Subject) -> None:
    blog = table(route("blog", await subject.replica("r1")))
    await subject.proxy.apply(blog)

    await subject.proxy.apply(blog)

    assert await subject.visit("blog.test") == "r1"
    assert not await subject.proxy.survey()


async def test_a_refused_route_keeps_the_former_one_and_stops_no_other(subject: Subject) -> None:
    blog, shop = route("blog", await subject.replica("r1")), route("shop", await subject.replica("r2"))
    await subject.proxy.apply(table(blog))

    with pytest.raises(RouteRefused) as caught:
        await subject.proxy.apply(table(subject.spoil(blog), shop))

    assert caught.value.app == blog.app
    assert list(caught.value.refusals) == [blog.app]
    assert await subject.visit("blog.test") == "r1"
    assert await subject.visit("shop.test") == "r2"
    assert not await subject.proxy.survey()


async def test_calls_at_once_end_with_the_newest_table_served(subject: Subject) -> None:
    replicas = [await subject.replica(f"r{number}") for number in range(20)]

    await asyncio.gather(*(subject.proxy.apply(table(route("blog", replica))) for replica in replicas))

    assert await subject.visit("blog.test") == "r19"


async def test_a_replica_in_the_table_is_not_drained(subject: Subject) -> None:
    replica = await subject.replica("r1")
    blog = route("blog", replica)
    await subject.proxy.apply(table(blog))

    assert not await subject.proxy.is_drained(blog.app, replica)


async def test_a_replica_in_a_table_that_waits_for_its_turn_is_not_drained(subject: Subject) -> None:
    old, new = await subject.replica("r1"), await subject.replica("r2")
    await subject.proxy.apply(table(route("shop", old)))
    applying = [
        asyncio.ensure_future(subject.proxy.apply(table(route("shop", old), *more)))
        for more in ((), (route("blog", new),))
    ]
    await asyncio.sleep(0)

    assert not await subject.proxy.is_drained(route("blog").app, new)
    await asyncio.gather(*applying)
    assert await subject.visit("blog.test") == "r2"


async def test_a_replica_is_drained_once_it_is_out_of_the_table_and_idle(subject: Subject) -> None:
    old, new = await subject.replica("r1"), await subject.replica("r2")
    blog = route("blog", old)
    await subject.proxy.apply(table(blog))

    async with subject.busy(old, "blog.test"):
        await subject.proxy.apply(table(route("blog", new)))
        assert not await subject.proxy.is_drained(blog.app, old)
        assert await subject.visit("blog.test") == "r2"

    await eventually(lambda: subject.proxy.is_drained(blog.app, old))
    assert await subject.proxy.is_drained(blog.app, old)


async def test_a_replica_of_a_removed_app_is_drained_too(subject: Subject) -> None:
    replica = await subject.replica("r1")
    blog = route("blog", replica)
    await subject.proxy.apply(table(blog))

    async with subject.busy(replica, "blog.test"):
        await subject.proxy.apply({})
        assert not await subject.proxy.is_drained(blog.app, replica)

    await eventually(lambda: subject.proxy.is_drained(blog.app, replica))


async def test_a_replica_can_come_back_into_the_table_while_it_drains(subject: Subject) -> None:
    old, new = await subject.replica("r1"), await subject.replica("r2")
    blog = route("blog", old)
    await subject.proxy.apply(table(blog))
    await subject.proxy.apply(table(route("blog", new)))

    await subject.proxy.apply(table(blog))

    assert await subject.visit("blog.test") == "r1"
    assert not await subject.proxy.is_drained(blog.app, old)


async def test_a_survey_names_the_app_that_somebody_else_changed(subject: Subject) -> None:
    blog, shop = route("blog", await subject.replica("r1")), route("shop", await subject.replica("r2"))
    await subject.proxy.apply(table(blog, shop))

    await subject.tamper(blog)

    assert list(await subject.proxy.survey()) == [blog.app]
    await subject.proxy.apply(table(blog, shop))
    assert await subject.visit("blog.test") == "r1"
    assert not await subject.proxy.survey()


async def test_a_proxy_that_does_not_answer_is_said_to_be_unavailable(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await subject.replica("r1")
    blog = route("blog", replica)
    await subject.proxy.apply(table(blog))
    monkeypatch.setattr("agent.proxies.haproxy.control.ANSWER_SECONDS", 0.2)

    await subject.hang()

    with pytest.raises(Unavailable):
        await subject.proxy.apply({})
    with pytest.raises(Unavailable):
        await subject.proxy.survey()
    with pytest.raises(Unavailable):
        await subject.proxy.is_drained(route("gone").app, Upstream("r9", "127.0.0.1", 9))
    assert await subject.proxy.problems()


async def test_a_proxy_that_is_well_has_no_problems(subject: Subject) -> None:
    assert not await subject.proxy.problems()
