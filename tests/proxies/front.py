"""A real HAProxy for one test, and a client small enough to see every byte."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import msgspec

from agent.ports.proxy import Balance, Route, Upstream
from agent.proxies.haproxy import HaproxyProxy, shutdown
from agent.proxies.haproxy.config import Layout
from agent.proxies.haproxy.control import Master
from agent.proxies.haproxy.process import Identity, recall
from proto.names import AppId
from scripts.house.addresses import free_port
from tests.proxies.apps import App

KEEP_ALIVE = 1.0
DEADLINE = 30.0
"""Seconds a real process may take for what it does in milliseconds on an idle machine."""

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Answer(msgspec.Struct):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def app(self) -> str:
        """Which replica answered; empty if it was the proxy."""
        return str(json.loads(self.body)["name"]) if self.body.startswith(b"{") else ""

    @property
    def sent(self) -> dict[str, str]:
        """The headers that reached the app."""
        return dict(json.loads(self.body)["headers"])


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, *, source: str = "127.0.0.1") -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))

    async def ask(self, host: str, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] = {}) -> Answer:
        await self.send(host, path, method=method, headers=headers)
        return await self.answer(has_body=method != "HEAD")

    async def send(self, host: str, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] = {}) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{key}: {value}" for key, value in headers.items())]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def answer(self, *, has_body: bool = True) -> Answer:
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.strip().split("\r\n")
            headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in rest)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)) if has_body else 0)
        return Answer(int(first.split(" ")[1]), headers, body)

    def close(self) -> None:
        self.writer.close()


class Front:
    """A HAProxy of this test's own."""

    def __init__(self, folder: Path, port: int, **options: object) -> None:
        self.folder = folder
        self.port = port
        self.options = options
        self.layout = Layout(folder)
        self.master = Master(self.layout.master_socket)
        self.proxy = self.another_agent()

    def another_agent(self) -> HaproxyProxy:
        """Return the object that an agent started anew would make."""
        settings: dict[str, object] = {
            "binds": [f"127.0.0.1:{self.port}"],
            "is_supervised": True,
            "keep_alive_seconds": KEEP_ALIVE,
            "request_seconds": KEEP_ALIVE,
            "spare_backends": 5,
        } | self.options
        return HaproxyProxy(self.folder, **settings)  # type: ignore[arg-type]

    async def ask(self, host: str, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] = {}) -> Answer:
        client = await Client.connect(self.port)
        try:
            return await client.ask(host, path, method=method, headers=headers)
        finally:
            client.close()

    async def order(self, *orders: str) -> list[str]:
        """Tamper: give orders to the current worker, past the agent."""
        pid = (await self.master.processes()).current.pid
        async with self.master.worker(pid) as worker:
            return [await worker.ask(order) for order in orders]

    async def reloads(self) -> int:
        return (await self.master.processes()).reloads

    def process(self) -> Identity:
        identity = recall(self.layout)
        assert identity is not None
        return identity


@asynccontextmanager
async def running_front(*, port: int = 0, **options: object) -> AsyncIterator[Front]:
    """Run HAProxy on a free port, unless told which, in a folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="pushboat-proxy-"))
    front = Front(folder, port or free_port(), **options)
    try:
        await front.proxy.start()
        yield front
    finally:
        await front.proxy.close()
        await shutdown(folder)
        shutil.rmtree(folder)


def route(name: str, *apps: App | Upstream, domains: tuple[str, ...] = (), balance: Balance = "roundrobin") -> Route:
    """Return a route of the app with that name, at ``<name>.test`` unless told."""
    return Route(
        app=AppId(f"app-{name}"),
        app_name=name,
        domains=domains or (f"{name}.test",),
        upstreams=tuple(app.upstream if isinstance(app, App) else app for app in apps),
        balance=balance,
    )


def table(*routes: Route) -> dict[AppId, Route]:
    return {route.app: route for route in routes}


async def echoes(client: Client) -> bool:
    """Tell whether a websocket to an `App` is whole in both directions."""
    client.writer.write(b"ping")
    async with asyncio.timeout(DEADLINE):
        return await client.reader.readexactly(4) == b"ping"


async def eventually(is_true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another process does in its own time."""
    async with asyncio.timeout(DEADLINE):
        while not await is_true():
            await asyncio.sleep(0.05)
