"""The app that visitors visit, alone in its container: standard library only, one process, one event loop.

    /                 a page
    /took             POST: what came, by length and checksum
    /slow?ms=N        the page after a while
    /stream?s=N       a piece each second, ``last`` at the end
    /events?s=N       the same as server-sent events
    /socket           a websocket that says which replica it is and echoes
    /die              the process ends, and answers nothing

It does what a good app does at SIGTERM: it listens no more, says good-bye to websockets (1001), finishes what it has in
flight and ends. `IDLE_SECONDS`: it closes connections that are idle for so long. `START_SECONDS`: it listens late.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import socket
import zlib
from collections.abc import Coroutine
from urllib.parse import parse_qs, urlsplit

REPLICA = socket.gethostname()
PAGE = f"page of {REPLICA} {'.' * 900} end\n".encode()
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "0"))
START_SECONDS = float(os.environ.get("START_SECONDS", "0"))
GOODBYE_SECONDS = 9.0
"""For what is in flight at SIGTERM; an engine kills after ten."""
GOING_AWAY = b"\x88\x02\x03\xe9"
"""A websocket's close frame, status 1001 (RFC 6455)."""
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Visit(asyncio.Protocol):
    """One connection."""

    everyone: set[Visit] = set()
    is_leaving = False
    all_gone: asyncio.Event

    def __init__(self) -> None:
        self._buffer = b""
        self._head: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._is_socket = False
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._to = transport
        Visit.everyone.add(self)
        self._wait_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        Visit.everyone.discard(self)
        if Visit.is_leaving and not Visit.everyone:
            Visit.all_gone.set()
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._buffer += data
        if self._is_socket:
            return self._echo()
        while self._task is None and self._next():
            pass

    def leave(self) -> None:
        """The process is to end: close when nothing is in flight."""
        if self._is_socket:
            self._to.write(GOING_AWAY)
            self._to.close()
        elif self._task is None and not self._buffer:
            self._to.close()

    def _next(self) -> bool:
        """Answer the next request if it is whole; tell whether it was."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        headers = head.lower().split(b"\r\n")
        body = b""
        if b"transfer-encoding: chunked" in headers:
            dechunked = _dechunk(rest)
            if dechunked is None:
                return False
            body, rest = dechunked
        else:
            length = next((int(line[15:]) for line in headers if line.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return False
            body, rest = rest[:length], rest[length:]
        self._buffer = rest
        if self._idle:
            self._idle.cancel()
        self._answer(head, headers, body)
        return True

    def _answer(self, head: bytes, headers: list[bytes], body: bytes) -> None:
        is_last = b"connection: close" in headers or Visit.is_leaving
        target = urlsplit(head.split(b" ", 2)[1].decode())
        query = {name: float(values[0]) for name, values in parse_qs(target.query).items()}
        match target.path:
            case "/took":
                self._reply(f"took {len(body)} {zlib.crc32(body)}\n".encode(), is_last)
            case "/slow":
                self._spawn(self._slow(query, is_last))
            case "/stream" | "/events":
                self._spawn(self._stream(query, is_last, is_event=target.path == "/events"))
            case "/socket":
                self._upgrade(headers, head)
            case "/die":
                os._exit(1)
            case _:
                self._reply(PAGE, is_last)

    def _reply(self, body: bytes, is_last: bool) -> None:
        close = b"Connection: close\r\n" if is_last else b""
        self._to.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), close) + body)
        if is_last:
            self._to.close()
        else:
            self._wait_idle()

    def _wait_idle(self) -> None:
        if IDLE_SECONDS:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._to.close)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def whole() -> None:
            await work
            self._task = None
            if Visit.is_leaving:
                self._to.close()
            elif self._buffer:
                self.data_received(b"")

        self._task = asyncio.get_running_loop().create_task(whole())

    async def _slow(self, query: dict[str, float], is_last: bool) -> None:
        await asyncio.sleep(query["ms"] / 1000)
        self._reply(PAGE, is_last)

    async def _stream(self, query: dict[str, float], is_last: bool, *, is_event: bool) -> None:
        kind = b"text/event-stream\r\nX-Accel-Buffering: no" if is_event else b"text/plain"
        close = b"Connection: close\r\n" if is_last else b""
        self._to.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%sContent-Type: %s\r\n\r\n" % (close, kind))
        for number in range(int(query["s"])):
            self._chunk(b"data: %d\n\n" % number)
            await asyncio.sleep(1)
        self._chunk(b"data: last\n\n")
        self._to.write(b"0\r\n\r\n")
        if is_last:
            self._to.close()
        else:
            self._wait_idle()

    def _chunk(self, text: bytes) -> None:
        self._to.write(b"%x\r\n%s\r\n" % (len(text), text))

    def _upgrade(self, headers: list[bytes], head: bytes) -> None:
        key = next(line[18:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
        self._to.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        name = REPLICA.encode()
        self._to.write(bytes((0x81, len(name))) + name)
        self._is_socket = True
        if Visit.is_leaving:
            self.leave()

    def _echo(self) -> None:
        """Send each short masked frame back, unmasked."""
        while len(self._buffer) >= 6 and len(self._buffer) >= 6 + (size := self._buffer[1] & 0x7F):
            kind, mask, masked = self._buffer[0], self._buffer[2:6], self._buffer[6 : 6 + size]
            self._buffer = self._buffer[6 + size :]
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
            self._to.write(bytes((kind, size)) + payload)
            if kind == GOING_AWAY[0]:
                self._to.close()


def _dechunk(text: bytes) -> tuple[bytes, bytes] | None:
    """Return the body and what follows it, or `None` while it is not whole."""
    body = b""
    while True:
        line, end, rest = text.partition(b"\r\n")
        if not end:
            return None
        size = int(line.split(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        if size == 0:
            return body, rest[2:]
        body, text = body + rest[:size], rest[size + 2 :]


async def serve(port: int) -> None:
    """Serve until SIGTERM, and then until nothing is in flight."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    await asyncio.sleep(START_SECONDS)
    server = await loop.create_server(Visit, "0.0.0.0", port, backlog=1024)
    await told.wait()
    server.close()
    Visit.is_leaving, Visit.all_gone = True, asyncio.Event()
    for visit in tuple(Visit.everyone):
        visit.leave()
    if Visit.everyone:
        loop.call_later(GOODBYE_SECONDS, Visit.all_gone.set)
        await Visit.all_gone.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(os.environ["PORT"])))
