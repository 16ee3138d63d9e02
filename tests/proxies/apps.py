"""An app to stand behind a proxy, in the test's own loop: it tells what it was sent, and waits if told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from agent.ports.proxy import Upstream

WEBSOCKET_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class App:
    """One replica. ``/`` echoes; ``/wait`` and ``/events`` end when `released` is set; ``/socket`` is a websocket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.waiting = asyncio.Event()
        """Set while a request is in flight on ``/wait`` or ``/events``."""
        self.released = asyncio.Event()
        self.idle_seconds: float | None = None
        """If set: seconds after which an idle connection is closed by the app."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def upstream(self) -> Upstream:
        assert self._server is not None
        return Upstream(self.name, "127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def start(self, port: int = 0) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return self

    def stop(self) -> None:
        """Stop listening, as a stopped container does."""
        assert self._server is not None
        self._server.close()

    def vanish(self) -> None:
        """Stop listening and cut what is open, as a removed container does."""
        self.stop()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.idle_seconds)).decode()
        self.requests += 1
        method, path, _ = head.split("\r\n", 1)[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(headers.get("content-length", 0)))
        match path:
            case "/wait":
                self.waiting.set()
                await self.released.wait()
            case "/events":
                return await self._stream(writer)
            case "/socket":
                return await self._websocket(reader, writer, headers)
        body = json.dumps({"name": self.name, "method": method, "path": path, "headers": headers}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        return True

    async def _stream(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        self.waiting.set()
        await self.released.wait()
        writer.write(b"4\r\nlast\r\n0\r\n\r\n")
        await writer.drain()
        return True

    async def _websocket(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> bool:
        digest = hashlib.sha1((headers["sec-websocket-key"] + WEBSOCKET_KEY).encode()).digest()
        accept = base64.b64encode(digest)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while data := await reader.read(1024):
            writer.write(data)
        return False


@asynccontextmanager
async def running_app(name: str) -> AsyncIterator[App]:
    """Run an app on a port of its own."""
    app = await App(name).start()
    try:
        yield app
    finally:
        app.released.set()
        app.stop()
