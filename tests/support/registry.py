"""An image registry of one's own on loopback: Debian's docker-registry, and a tap before it that can be turned down.

The engine speaks plain HTTP to registries on 127.0.0.0/8, so no certificates are needed. What is pulled runs through
the tap: closed, it lets drops through, and a pull lasts as long as the test wants it to; open, it is a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tarfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import bcrypt
import msgspec

from scripts.house import processes
from scripts.house.addresses import LOOPBACK, free_port

START_SECONDS = 30.0
PAUSE_SECONDS = 0.02
DROP_BYTES = 16_384
DROP_SECONDS = 0.05
"""A closed tap lets 320 KB a second through: less than any image has, more than an idle connection."""


class Registry:
    """A registry that answers at `address`."""

    def __init__(self, address: str, tap: Tap) -> None:
        self.address = address
        """``127.0.0.1:PORT``: the first part of its images' names."""
        self.tap = tap

    def reference(self, name: str, tag: str = "1") -> str:
        """Return the full name of an image in it."""
        return f"{self.address}/{name}:{tag}"


class Tap:
    """Everything between clients and the registry runs through it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.passed = 0
        """Bytes that clients were sent so far."""
        self._is_open = asyncio.Event()
        self._is_open.set()

    def open(self) -> None:
        """Let everything through."""
        self._is_open.set()

    def close(self) -> None:
        """Let drops through."""
        self._is_open.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one client to the registry until one of them hangs up."""
        source, sink = await asyncio.open_connection(LOOPBACK, self._port)
        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_pour(reader, sink))
                group.create_task(self._drip(source, writer))

    async def _drip(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(DROP_BYTES):
                if not self._is_open.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._is_open.wait(), DROP_SECONDS)
                sink.write(data)
                await sink.drain()
                self.passed += len(data)
        finally:
            sink.close()


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


@asynccontextmanager
async def registry(folder: Path, *, auth: Mapping[str, object] | None = None) -> AsyncIterator[Registry]:
    """Run an empty registry that keeps its images in `folder`; `auth` is its configuration's table of that name."""
    port = free_port()
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}, "delete": {"enabled": True}},
        "http": {"addr": f"{LOOPBACK}:{port}", "secret": secrets.token_hex(16)},
        **({"auth": auth} if auth else {}),
    }
    file = folder / "registry.json"
    file.write_bytes(msgspec.json.encode(settings))  # JSON is YAML.
    command = ["docker-registry", "serve", str(file)]
    log = folder / "registry.log"
    process = processes.spawn(command, log=log, environment=os.environ, folder=folder)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(_answers, port):
                assert process.is_alive, log.read_text()
                await asyncio.sleep(PAUSE_SECONDS)
        tap = Tap(port)
        server = await asyncio.start_server(tap.serve, LOOPBACK, 0)
        async with server:
            yield Registry(f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}", tap)
    finally:
        await asyncio.to_thread(processes.end, process)


def known_users(folder: Path, users: Mapping[str, str]) -> Mapping[str, object]:
    """Return the ``auth`` of a registry that lets in these users alone, by their passwords."""
    file = folder / "users"
    file.write_text(
        "".join(
            f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
            for user, password in users.items()
        )
    )
    return {"htpasswd": {"realm": "tests", "path": str(file)}}


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/v2/", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # It wants to know who asks.
    except OSError:
        return False


def noise(size: int) -> bytes:
    """Return a layer (a tar archive) of `size` bytes that no compression makes smaller."""
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("noise")
        entry.size = size
        tar.addfile(entry, BytesIO(secrets.token_bytes(size)))
    return archive.getvalue()
