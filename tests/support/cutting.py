"""A man in the middle before the Docker engine: passes everything on, and loses or forges one answer when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ENGINE = "/var/run/docker.sock"


class Cutter:
    """Loses the answer to the next request whose first line has `armed` in it, after the engine has given it."""

    def __init__(self) -> None:
        self.armed = b""
        self.forged = b""
        """Given instead, by the next such request, which the engine then never sees."""
        self.cut = 0
        """How many answers were lost."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        engine_reader, engine_writer = await asyncio.open_unix_connection(ENGINE)
        lost = asyncio.Event()

        async def forth() -> None:
            while data := await reader.read(65_536):
                if self.armed and self.armed in data.partition(b"\r\n")[0]:
                    self.armed = b""
                    if self.forged:
                        self.cut += 1
                        writer.write(self.forged)
                        await writer.drain()
                        continue
                    lost.set()
                engine_writer.write(data)
                await engine_writer.drain()
            engine_writer.write_eof()

        async def back() -> None:
            while data := await engine_reader.read(65_536):
                if lost.is_set():
                    self.cut += 1
                    break
                writer.write(data)
                await writer.drain()
            writer.close()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait({tasks[1]})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            engine_writer.close()
            writer.close()


@asynccontextmanager
async def cutter(folder: Path) -> AsyncIterator[tuple[str, Cutter]]:
    """Give the socket of a man in the middle (``unix:///…``), and his lever."""
    made, path = Cutter(), folder / "cut.sock"
    server = await asyncio.start_unix_server(made.serve, path)
    try:
        yield f"unix://{path}", made
    finally:
        server.close()
