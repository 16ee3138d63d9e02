"""A Docker engine on a unix socket that answers as a test tells it to, right or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.docker.engine import Engine

Answer = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

VERSION = b'{"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}'


def http(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def scripted(folder: Path, answer: Answer) -> AsyncIterator[tuple[Engine, list[str]]]:
    """Give a client of a server that answers /version well and lets `answer` deal with all else."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = line.decode().strip()
                length = 0
                while header := (await reader.readline()).strip().lower():
                    length = int(header[15:]) if header.startswith(b"content-length:") else length
                await reader.readexactly(length)
                seen.append(request)
                if request.startswith("GET /version "):
                    writer.write(http(200, VERSION))
                else:
                    await answer(request, reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    path = folder / "engine.sock"
    server = await asyncio.start_unix_server(serve, path)
    try:
        async with Engine.open(f"unix://{path}", instance="i23456789abc") as engine:
            yield engine, seen
    finally:
        server.close()


def always(data: bytes) -> Answer:
    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer
