"""The visitors of ``bench/switch`` see each way in which a request can fail, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.switch_report import tell
from bench.visitors import app, kinds
from bench.visitors.connection import Connection
from bench.visitors.kinds import CHAT, CHUNKED, LARGE, MORTAL, SHOP, Street, is_page, request, took
from bench.visitors.sockets import websocket
from bench.visitors.tally import Tally, percentile
from scripts.house.addresses import free_port

PAGE = b"page of r1 end\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + PAGE
DEADLINE = 30.0


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[int]:
    """Answer one request a connection with these bytes, in turn, and close it."""
    left = iter(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(left))
        await writer.drain()
        writer.close()

    serving = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with serving:
        yield serving.sockets[0].getsockname()[1]


@asynccontextmanager
async def conversation(*answers: bytes) -> AsyncIterator[int]:
    """Answer one request after the other on each connection, and close it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for text in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text)
            await writer.drain()
        writer.close()

    serving = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with serving:
        yield serving.sockets[0].getsockname()[1]


@asynccontextmanager
async def running_app(**environment: str) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """Run the app that containers run; yield its port and what sends it SIGTERM."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", app.__file__), env={**os.environ, "PORT": str(port), **environment}
    )
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        yield port, lambda: process.send_signal(signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (WHOLE, {}),
        (b"", {"closed without an answer": 1}),
        (b"HTTP/1.1 200 OK\r\nCon", {"head cut short": 1}),
        (WHOLE[:-1], {"answer cut short": 1}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n", {"answer cut short": 1}),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", {"status 502": 1}),
        (WHOLE.replace(b"end", b"..."), {"wrong body": 1}),
    ],
)
async def test_each_way_to_lose_an_answer_is_counted_by_its_name(answer: bytes, reasons: dict[str, int]) -> None:
    async with server(answer) as port:
        street = Street(port, holds_seconds=0)
        await street.ask("fresh", Connection(port), request(SHOP), right=is_page)
    assert street.tallies["fresh"].failures == reasons
    assert street.tallies["fresh"].requests == 1


async def test_nobody_who_listens_is_a_failure() -> None:
    street = Street(free_port(), holds_seconds=0)
    await street.ask("fresh", Connection(street.port), request(SHOP), right=is_page)
    assert street.tallies["fresh"].failures == {"no connection: connection refused": 1}


async def test_a_connection_that_ended_while_it_was_idle_is_no_failure() -> None:
    async with server(WHOLE, WHOLE) as port:
        street, link = Street(port, holds_seconds=0), Connection(port)
        await street.ask("keep-alive", link, request(SHOP), right=is_page)
        reader = await link.open()
        await reader.read()
        await street.ask("keep-alive", link, request(SHOP), right=is_page)
    assert street.tallies["keep-alive"].failed == 0
    assert street.tallies["keep-alive"].requests == 2


REFUSAL = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("answer", [REFUSAL, b""])
@pytest.mark.parametrize(
    ("died", "is_death"),
    [("while it was waited for", True), ("long before", False), ("just before it was sent", False)],
)
async def test_what_a_dead_replica_took_with_it_is_counted_apart_around_a_death_only(
    answer: bytes, died: str, is_death: bool
) -> None:
    async with server(answer) as port:
        street, link = Street(port, holds_seconds=0), Connection(port)
        await street.ask(MORTAL, link, request(MORTAL), right=is_page)
    sent, heard = link.sent_at, time.monotonic()
    street.deaths.append(
        {"while it was waited for": heard, "long before": heard - 10, "just before it was sent": sent - 0.001}[died]
    )
    street.judge_deaths()
    tally = street.tallies[MORTAL]
    # Closed without an answer: only a connection that was used before may be.
    assert (tally.apart.total(), tally.failed) == ((1, 0) if is_death and answer else (0, 1))


async def test_a_refusal_and_a_close_that_a_death_brought_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    street = Street(0, holds_seconds=0)
    for answers in ((REFUSAL,), (WHOLE, b"")):
        async with conversation(*answers) as port:
            link = Connection(port)
            for _ in answers:
                await street.ask(MORTAL, link, request(MORTAL), right=is_page)
            link.close()
    street.deaths.append(time.monotonic())
    street.judge_deaths()
    tally = street.tallies[MORTAL]
    assert tally.apart == {"502, its replica died": 1, "used connection closed, its replica died": 1}
    assert (tally.requests, tally.failed) == (3, 0)
    assert tell({MORTAL: tally}, {}, changes=(1, 0)) == 0
    said = capsys.readouterr().err
    assert "ours, mortal: 1 of 3 apart: 502, its replica died\n" in said
    assert "ours, mortal: 1 of 3 apart: used connection closed, its replica died\n" in said


@pytest.mark.slow
async def test_the_app_answers_every_kind_of_visitor() -> None:
    async with running_app() as (port, _):
        street, link = Street(port, holds_seconds=0), Connection(port)
        for kind, (text, right, _) in kinds.BULK.items():
            await street.ask(kind, link, text, right=right)
        await street.ask("slow", link, request(SHOP, "/slow?ms=1"), right=is_page)
        await street.ask("events", link, request(SHOP, "/events?s=0"), right=lambda r: r.body == b"data: last\n\n")
        await street.ask("wrong", link, CHUNKED, right=took(LARGE[1:]))
        link.close()
    assert {kind: tally.failures for kind, tally in street.tallies.items() if tally.failed} == {
        "wrong": {"wrong body": 1}
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "holds", "failures"),
    [(SHOP, 0.0, {}), (SHOP, 60.0, {"ended by the app too early": 1}), (CHAT, 0.0, {"ended by the app too early": 1})],
)
async def test_a_websocket_may_be_ended_by_its_app_alone_and_not_too_early(
    name: str, holds: float, failures: dict[str, int]
) -> None:
    async with running_app() as (port, stop):
        street = Street(port, holds_seconds=holds)
        visitor = asyncio.create_task(websocket(street, name))
        async with asyncio.timeout(DEADLINE):
            while not street.sockets:
                await asyncio.sleep(0.02)
        stop()
        kind = f"websocket of {'another app' if name == CHAT else 'the app'}"
        async with asyncio.timeout(DEADLINE):
            while not street.tallies[kind].requests:
                await asyncio.sleep(0.02)
        street.is_closing.set()
        await visitor
    counted = {reason: n for reason, n in street.tallies[kind].failures.items() if not reason.startswith("no conn")}
    assert counted == failures


def test_what_is_written_down_is_read_back() -> None:
    tally = Tally()
    tally.answered("quiet", 1.5)
    tally.fail("status 502")
    tally.exempt("502, its replica died")
    assert Tally.of(tally.plain()) == tally


def test_the_slowest_hundredth_is_not_exceeded_by_the_others() -> None:
    assert percentile(range(100), 0.99) == 99
    assert percentile(range(200), 0.5) == 100
    assert percentile((), 0.99) == 0
