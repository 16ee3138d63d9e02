"""The kinds of traffic. Each visitor goes on until he is told to leave, and then ends what he has under way."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from bench.visitors.connection import Broken, Connection, Reply
from bench.visitors.tally import Tally

SHOP, CHAT, IDLER, LATE, MORTAL = "shop", "chat", "idler", "late", "mortal"
"""The apps: one is changed all the time, one never, one closes idle connections after 5 s, one is slow to start, one
dies while it serves."""
SLOW_SECONDS = 20
EVENTS_SECONDS = 10
DEATH_PAUSE_SECONDS = 25.0
"""Between two deaths of the mortal app's replicas: time to be started again. One has to be there at each moment."""
DIED = "its replica died"
DEATH_WINDOW_SECONDS = 0.5
"""Around a death: a 502 to the mortal app's visitors is that of a request which its replica took with it, if it was
sent before the death. Where the connection had been used before, HAProxy closes it instead, without an answer (see
docs/reliability.md). Whoever asks later finds another replica, or it is a failure."""
BEFORE_AN_ANSWER = ("closed without an answer", "before an answer: connection reset by peer")
PING_SECONDS = 1.0
SMALL, LARGE = b"q" * 700, b"u" * 20_000
"""Bodies of a POST and of a chunked upload."""


class Doubtful(NamedTuple):
    """A request to the mortal app that failed: judged once all deaths are known. Times by the monotonic clock."""

    sent_at: float
    failed_at: float
    reason: str
    is_used: bool
    """Whether its connection had been used before."""

    def died_with(self, death: float) -> bool:
        """Tell whether the replica that died at `death` can have taken it along.

        A death is known a moment late, when its own request ends: what is sent in that moment has the benefit of the
        doubt, and whatever is sent later none.
        """
        return self.sent_at <= death and abs(self.failed_at - death) < DEATH_WINDOW_SECONDS


class Street:
    """What all visitors of one proxy share: where it is, what time it is, and what became of their requests."""

    def __init__(self, port: int, *, holds_seconds: float) -> None:
        self.port = port
        self.holds_seconds = holds_seconds
        """How long a websocket to a replaced replica is held at least."""
        self.phase = "before"
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.is_closing = asyncio.Event()
        self.sockets = 0
        """How many websockets were opened."""
        self.deaths: list[float] = []
        """When it was heard of each."""
        self._doubtful: list[Doubtful] = []

    async def ask(
        self, kind: str, link: Connection, request: bytes, *, right: Callable[[Reply], bool], seconds: float = 0.0
    ) -> Reply | None:
        """Ask and count what came of it; return the answer if it was right."""
        tally, phase, began = self.tallies[kind], self.phase, time.monotonic()
        try:
            reply = await link.ask(request, seconds=seconds)
        except Broken as error:
            self._count_refusal(kind, str(error), link)
            return None
        if reply.status != 200:
            self._count_refusal(kind, f"status {reply.status}", link)
        elif not right(reply):
            tally.fail("wrong body")
        else:
            tally.answered(phase, (time.monotonic() - began) * 1000)
            return reply
        return None

    async def pause(self, seconds: float) -> None:
        """Wait, or less if it is time to leave."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self.is_closing.wait()
        except TimeoutError:
            return

    def judge_deaths(self) -> None:
        """Count what failed of the mortal app: its replica took the request with it, or it is a failure."""
        for one in self._doubtful:
            is_death = any(one.died_with(death) for death in self.deaths)
            if is_death and one.reason == "status 502":
                self.tallies[MORTAL].exempt(f"502, {DIED}")
            elif is_death and one.is_used and one.reason in BEFORE_AN_ANSWER:
                self.tallies[MORTAL].exempt(f"used connection closed, {DIED}")
            else:
                self.tallies[MORTAL].fail(one.reason)
        self._doubtful.clear()

    def _count_refusal(self, kind: str, reason: str, link: Connection) -> None:
        if kind == MORTAL:
            self._doubtful.append(Doubtful(link.sent_at, time.monotonic(), reason, link.is_used))
        else:
            self.tallies[kind].fail(reason)


def request(app: str, path: str = "/", *, method: str = "GET", headers: str = "", version: str = "1.1") -> bytes:
    """Return the head of a request; `headers` are whole lines."""
    return f"{method} {path} HTTP/{version}\r\nHost: {app}.localhost\r\n{headers}\r\n".encode()


def is_page(reply: Reply) -> bool:
    """Tell whether it is the app's page, whole."""
    return reply.body.startswith(b"page of ") and reply.body.endswith(b" end\n")


def took(body: bytes) -> Callable[[Reply], bool]:
    """Return what tells whether the app says that it got `body`."""
    wanted = f"took {len(body)} {zlib.crc32(body)}\n".encode()
    return lambda reply: reply.body == wanted


CHUNKED = (
    request(SHOP, "/took", method="POST", headers="Transfer-Encoding: chunked\r\n")
    + b"".join(b"%x\r\n%s\r\n" % (4000, LARGE[at : at + 4000]) for at in range(0, len(LARGE), 4000))
    + b"0\r\n\r\n"
)
POST = request(SHOP, "/took", method="POST", headers=f"Content-Length: {len(SMALL)}\r\n") + SMALL
BULK: dict[str, tuple[bytes, Callable[[Reply], bool], bool]] = {
    "keep-alive": (request(SHOP), is_page, True),
    "fresh": (request(SHOP, headers="Connection: close\r\n"), is_page, False),
    "HTTP/1.0": (request(SHOP, version="1.0"), is_page, False),
    "POST": (POST, took(SMALL), True),
    "chunked": (CHUNKED, took(LARGE), True),
}
"""What makes up the number: request, judgement, and whether the connection is used again."""
SHARES = {"keep-alive": (0.60, 12), "fresh": (0.15, 6), "HTTP/1.0": (0.05, 2), "POST": (0.15, 6), "chunked": (0.05, 2)}
"""Of the rate, and how many visitors have a part in it."""


async def bulk(street: Street, kind: str, *, rate: float) -> None:
    """Ask `rate` times a second on one connection, or each time on another. A slow answer is not made up for."""
    text, right, is_kept = BULK[kind]
    link = Connection(street.port)
    due = time.monotonic() + random.random() / rate
    while not street.is_closing.is_set():
        await asyncio.sleep(max(due - time.monotonic(), 0))
        due = max(due + 1 / rate, time.monotonic() - 1 / rate)
        await street.ask(kind, link, text, right=right)
        if not is_kept:
            link.close()
    link.close()


async def slow(street: Street) -> None:
    """Ask for what takes 20 s to begin."""
    link = Connection(street.port)
    text = request(SHOP, f"/slow?ms={SLOW_SECONDS * 1000}")
    while not street.is_closing.is_set():
        await street.ask(f"answer after {SLOW_SECONDS} s", link, text, right=is_page, seconds=SLOW_SECONDS)
        await street.pause(0.1)
    link.close()


async def streamed(street: Street, path: str, kind: str, seconds: int) -> None:
    """Ask for what comes piece by piece, and look at each piece."""
    link = Connection(street.port)
    wanted = b"".join(b"data: %d\n\n" % number for number in range(seconds)) + b"data: last\n\n"
    text = request(SHOP, f"{path}?s={seconds}")
    while not street.is_closing.is_set():
        await street.ask(kind, link, text, right=lambda reply: reply.body == wanted, seconds=seconds)
        await street.pause(0.1)
    link.close()


async def idler(street: Street) -> None:
    """POST to the app that closes idle connections after 5 s, at every distance from those 5 s."""
    link = Connection(street.port)
    text = request(IDLER, "/took", method="POST", headers=f"Content-Length: {len(SMALL)}\r\n") + SMALL
    while not street.is_closing.is_set():
        await street.ask(IDLER, link, text, right=took(SMALL))
        await street.pause(random.choice((0.2, 2.0, 4.9, 4.98, 5.0, 5.02, 5.1)))
    link.close()


async def late(street: Street) -> None:
    """Ask the app that is slow to start."""
    link = Connection(street.port)
    while not street.is_closing.is_set():
        await street.ask(LATE, link, request(LATE), right=is_page)
        await street.pause(0.2)
    link.close()


async def mortal(street: Street, *, milliseconds: int, is_kept: bool) -> None:
    """Ask the app that dies for what takes a while, on one connection or each time on another."""
    link = Connection(street.port)
    text = request(MORTAL, f"/slow?ms={milliseconds}")
    while not street.is_closing.is_set():
        await street.ask(MORTAL, link, text, right=is_page)
        if not is_kept:
            link.close()
        await street.pause(0.1)
    link.close()


async def death(street: Street) -> None:
    """Have a replica of the mortal app die again and again. The request for it is one that dies with it."""
    while not street.is_closing.is_set():
        await street.pause(DEATH_PAUSE_SECONDS)
        if street.is_closing.is_set() or street.phase in ("before", "quiet"):
            continue
        link = Connection(street.port)
        try:
            reply = await link.ask(request(MORTAL, "/die"))
        except Broken as error:
            street.tallies[MORTAL].fail(f"death: {error}")
        else:
            street.deaths.append(time.monotonic())
            if reply.status == 502:
                street.tallies[MORTAL].exempt(f"502, {DIED}")
            else:
                street.tallies[MORTAL].fail(f"death: status {reply.status}")
        link.close()
