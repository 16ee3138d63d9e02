"""Websockets: each is asked something every second, for as long as it lives."""

from __future__ import annotations

import asyncio
import time

from bench.visitors.connection import Broken, Connection
from bench.visitors.kinds import CHAT, PING_SECONDS, Street, request

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
ECHO_SECONDS = 20.0
MASK = b"\x01\x02\x03\x04"
TEXT, CLOSE = 0x81, 0x88


async def websocket(street: Street, app: str) -> None:
    """Hold a websocket open, and another when that one ends.

    It may end in one way: the app, told to stop, says good-bye; and not before it was held as long as promised. The
    app that nobody changes has no reason to.
    """
    kind = f"websocket of {'another app' if app == CHAT else 'the app'}"
    while not street.is_closing.is_set():
        link, began = Connection(street.port), time.monotonic()
        try:
            is_bye = await _converse(street, link, app)
        except (Broken, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            street.tallies[kind].fail(f"cut: {type(error).__name__}" if not isinstance(error, Broken) else str(error))
        else:
            held = time.monotonic() - began
            if is_bye and (app == CHAT or held < street.holds_seconds):
                street.tallies[kind].fail("ended by the app too early")
            else:
                street.tallies[kind].answered(street.phase, held * 1000)
        link.close()
        await street.pause(0.1)


async def _converse(street: Street, link: Connection, app: str) -> bool:
    """Ping until somebody ends it; tell whether it was the app, by the frame that says so."""
    reply = await link.ask(request(app, "/socket", headers=UPGRADE))
    if reply.status != 101:
        raise Broken(f"status {reply.status}")
    reader = await link.open()
    await _frame(reader)
    street.sockets += 1
    number = 0
    while not street.is_closing.is_set():
        number += 1
        text = b"ping %d" % number
        link.send(bytes((TEXT, 0x80 | len(text))) + MASK + _masked(text))
        kind, payload = await _frame(reader)
        if kind == CLOSE:
            return True
        if payload != text:
            raise Broken("wrong echo")
        # The app's good-bye comes while nothing is asked: it is there to be read at once.
        pause = asyncio.create_task(street.pause(PING_SECONDS))
        frame = asyncio.create_task(_frame(reader, seconds=None))
        try:
            await asyncio.wait((pause, frame), return_when=asyncio.FIRST_COMPLETED)
            if frame.done():
                return (await frame)[0] == CLOSE
        finally:
            for task in (pause, frame):
                task.cancel()
            await asyncio.gather(pause, frame, return_exceptions=True)
    return False


async def _frame(reader: asyncio.StreamReader, *, seconds: float | None = ECHO_SECONDS) -> tuple[int, bytes]:
    """Return the next frame: its first byte and what it carries."""
    async with asyncio.timeout(seconds):
        kind, size = await reader.readexactly(2)
        return kind, await reader.readexactly(size & 0x7F)


def _masked(text: bytes) -> bytes:
    return bytes(byte ^ MASK[index % 4] for index, byte in enumerate(text))
