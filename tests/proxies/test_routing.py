"""What visitors and apps see of a real HAProxy."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agent.ports.proxy import Upstream
from agent.proxies.haproxy.pages import load_pages
from tests.proxies.apps import running_app
from tests.proxies.front import DEADLINE, HANDSHAKE, Client, echoes, route, running_front, table

pytestmark = pytest.mark.real


async def test_an_exact_name_wins_over_a_wildcard_and_the_longest_wildcard_over_shorter_ones() -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two, running_app("r3") as three:
        await front.proxy.apply(table(route("wide", one, domains=("*.test",))))
        # Added at run time, after the wider one: the order of addition must not count.
        narrow = route("narrow", two, domains=("*.shop.test",))
        exact = route("exact", three, domains=("www.shop.test",))
        await front.proxy.apply(table(route("wide", one, domains=("*.test",)), narrow, exact))

        assert (await front.ask("a.test")).app == "r1"
        assert (await front.ask("a.b.test")).app == "r1"
        assert (await front.ask("a.shop.test")).app == "r2"
        assert (await front.ask("a.b.shop.test")).app == "r2"
        assert (await front.ask("shop.test")).app == "r1"
        assert (await front.ask("www.shop.test")).app == "r3"
        assert (await front.ask("test")).status == 404
        assert await front.reloads() == 0


@pytest.mark.parametrize("host", ["blog.test", "BLOG.Test", "blog.test:80", "blog.test.", "blog.test.:8080"])
async def test_a_host_is_matched_whatever_its_case_port_or_final_dot(host: str) -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))

        assert (await front.ask(host)).app == "r1"


async def test_an_unknown_host_gets_a_page_that_says_so_and_keeps_its_connection() -> None:
    async with running_front() as front:
        client = await Client.connect(front.port)
        for _ in range(2):
            answer = await client.ask("nobody.test")
            assert answer.status == 404
            assert b"no app of it has this domain" in answer.body
        assert (await client.ask("nobody.test", method="HEAD")).status == 404
        assert (await client.ask("nobody.test")).status == 404
        client.close()


async def test_an_app_without_a_release_gets_a_page_that_says_so() -> None:
    async with running_front() as front:
        await front.proxy.apply(table(msgspec.structs.replace(route("blog"), is_deployed=False)))

        answer = await front.ask("blog.test")

        assert answer.status == 503
        assert b"has no release yet" in answer.body


async def test_an_app_without_a_ready_replica_asks_visitors_to_come_again() -> None:
    async with running_front() as front:
        await front.proxy.apply(table(route("blog")))

        answer = await front.ask("blog.test")

        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert b"not ready" in answer.body


async def test_a_replica_that_refuses_connections_is_passed_over_for_another() -> None:
    async with running_front() as front, running_app("r1") as gone, running_app("r2") as app:
        await front.proxy.apply(table(route("blog", gone, app)))
        gone.stop()

        assert {(await front.ask("blog.test", method="POST")).app for _ in range(6)} == {"r2"}


async def test_requests_go_round_all_ready_replicas_also_from_one_connection() -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one, two)))

        client = await Client.connect(front.port)
        answers = [await client.ask("blog.test") for _ in range(6)]
        client.close()

        assert sorted(answer.app for answer in answers) == ["r1"] * 3 + ["r2"] * 3


async def test_least_connections_passes_busy_replicas_over() -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one, two, balance="leastconn")))
        busy = await Client.connect(front.port)
        await busy.send("blog.test", "/wait")
        async with asyncio.timeout(DEADLINE):
            while not (one.waiting.is_set() or two.waiting.is_set()):
                await asyncio.sleep(0)
        idle = "r2" if one.waiting.is_set() else "r1"

        assert {(await front.ask("blog.test")).app for _ in range(6)} == {idle}
        busy.close()


async def test_an_app_that_breaks_off_its_answer_gets_a_page_that_says_so() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        writer.close()

    async with running_front() as front, await asyncio.start_server(hang_up, "127.0.0.1", 0) as app:
        where = Upstream("r1", "127.0.0.1", app.sockets[0].getsockname()[1])
        await front.proxy.apply(table(route("blog", where)))

        answer = await front.ask("blog.test")

    assert answer.status == 502
    assert b"The app broke off its answer" in answer.body


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_replica_that_dies_takes_requests_with_it_and_none_is_sent_to_another(method: str) -> None:
    async with running_front() as front, running_app("r1") as dying, running_app("r2") as other:
        await front.proxy.apply(table(route("blog", dying)))
        first, used = await Client.connect(front.port), await Client.connect(front.port)
        assert (await used.ask("blog.test")).app == "r1"
        for client in (first, used):
            dying.waiting.clear()
            await client.send("blog.test", "/wait", method=method)
            await dying.waiting.wait()
        await front.proxy.apply(table(route("blog", dying, other)))

        dying.vanish()

        assert (await first.answer()).status == 502
        # HAProxy means the client to ask again, as nobody can know whether a used connection was still good
        # (https://github.com/haproxy/haproxy/issues/2375). There is no setting for it.
        async with asyncio.timeout(DEADLINE):
            assert await used.reader.read() == b""
        assert other.requests == 0
        assert {(await front.ask("blog.test", method=method)).app for _ in range(4)} == {"r2"}


async def test_who_drips_a_request_is_hung_up_on() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        client = await Client.connect(front.port)
        client.writer.write(b"GET / HTTP/1.1\r\nHost: blog.test\r\n")

        async with asyncio.timeout(DEADLINE):
            assert (await client.reader.read()).startswith(b"HTTP/1.1 408 ")
        assert app.requests == 0


async def test_what_a_stranger_says_of_himself_is_replaced() -> None:
    lies = {
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Host": "bank.test",
        "X-Forwarded-Prefix": "/admin",
        "X_Forwarded_For": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "X-Request-Id": "mine",
        "Proxy": "http://evil.test",
    }
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))

        answer = await front.ask("blog.test", headers=lies)

    sent = {key: value for key, value in answer.sent.items() if key in {lie.lower() for lie in lies}}
    request_id = sent.pop("x-request-id")
    assert sent == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-port": str(front.port),
        "x-forwarded-host": "blog.test",
    }
    assert len(request_id) == 36
    assert answer.headers["x-request-id"] == request_id


async def test_what_a_trusted_proxy_says_is_believed_and_its_address_added() -> None:
    told = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Request-Id": "abc-1"}
    async with running_front(trusted=["127.0.0.0/8"], apps="127.0.2.0/24") as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))

        answer = await front.ask("blog.test", headers=told)
        plain = await front.ask("blog.test", headers={"X-Request-Id": "a b\tc"})
        replica = await Client.connect(front.port, source="127.0.2.9")
        by_an_app = await replica.ask("blog.test", headers=told)
        replica.close()

    assert answer.sent["x-forwarded-for"] == "1.2.3.4, 127.0.0.1"
    assert answer.sent["x-forwarded-proto"] == "https"
    assert answer.sent["x-forwarded-port"] == "443"
    assert answer.sent["x-request-id"] == "abc-1"
    assert plain.sent["x-forwarded-proto"] == "http"
    assert len(plain.sent["x-request-id"]) == 36
    # What apps say about visitors is not believed, though their network is within a trusted one.
    assert by_an_app.sent["x-forwarded-for"] == "127.0.2.9"
    assert by_an_app.sent["x-forwarded-proto"] == "http"
    assert len(by_an_app.sent["x-request-id"]) == 36


@pytest.mark.parametrize(
    ("told", "is_believed"),
    [
        ("4f7a0c1e-1b7d-4c55", True),
        ("root.1_a~b", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("a%20b", False),
        ("a,b\tc", False),
        ('a"b', False),
        ("\u00e9", False),
        ("", False),
    ],
)
async def test_a_request_id_is_taken_over_only_if_it_is_plain_and_short(told: str, is_believed: bool) -> None:
    async with running_front(trusted=["127.0.0.0/8"]) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))

        answer = await front.ask("blog.test", headers={"X-Request-Id": told})

    assert answer.headers["x-request-id"] == answer.sent["x-request-id"]
    assert (answer.sent["x-request-id"] == told) is is_believed
    assert is_believed or len(answer.sent["x-request-id"]) == 36


async def test_an_event_reaches_the_visitor_before_the_response_ends() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        client = await Client.connect(front.port)
        await client.send("blog.test", "/events")

        async with asyncio.timeout(10):
            await client.reader.readuntil(b"first")
            assert not app.released.is_set()
            app.released.set()
            await client.reader.readuntil(b"last")
        client.close()


async def test_two_names_in_one_request_are_refused() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        client = await Client.connect(front.port)
        client.writer.write(b"GET http://blog.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")

        assert (await client.answer()).status == 400
        client.close()


async def test_who_answers_too_late_is_given_up_with_a_page_while_a_silent_websocket_goes_on() -> None:
    async with running_front(server_seconds=0.3, tunnel_seconds=30.0) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        socket = await Client.connect(front.port)
        await socket.send("blog.test", "/socket", headers=HANDSHAKE)
        assert (await socket.answer()).status == 101

        late = await front.ask("blog.test", "/wait")

        assert (late.status, late.body) == (504, load_pages()["gateway-timeout"].partition(b"\r\n\r\n")[2])
        assert app.waiting.is_set() and app.requests == 2, "it was asked, and once"
        assert await echoes(socket), "it was silent for longer than an app may be"
        socket.close()


async def test_a_websocket_that_is_silent_for_longer_than_it_may_is_ended() -> None:
    async with running_front(server_seconds=30.0, tunnel_seconds=0.3) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        socket = await Client.connect(front.port)
        await socket.send("blog.test", "/socket", headers=HANDSHAKE)
        assert (await socket.answer()).status == 101
        assert await asyncio.wait_for(socket.reader.read(), DEADLINE) == b""
        assert (await front.ask("blog.test")).app == "r1"


async def test_past_the_number_of_connections_a_visitor_waits_for_another_to_leave() -> None:
    async with running_front(max_connections=2, keep_alive_seconds=DEADLINE) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        first, second = await Client.connect(front.port), await Client.connect(front.port)
        assert (await first.ask("blog.test")).app == (await second.ask("blog.test")).app == "r1"
        third = await Client.connect(front.port)
        await third.send("blog.test")
        for client in (first, second):
            assert (await client.ask("blog.test")).status == 200
        assert app.requests == 4
        first.close()
        assert (await third.answer()).app == "r1"
        for client in (second, third):
            client.close()
