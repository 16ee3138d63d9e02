"""A connection of its own to the engine, for streams that an HTTP client gets in the way of.

- ``attach`` and ``exec`` turn the connection into a plain duplex stream ("hijacking", docs of API 1.41). Closing our
  half of it is how a program in the container learns that its input has ended; aiodocker can only close both.
- Followed logs come as one HTTP chunk per line. Asked for in HTTP/1.0 they come without chunks, so that one read takes
  as many lines as there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, cast
from urllib.parse import quote, urlencode

import msgspec

from agent.docker.engine import CALL_SECONDS, CONNECT_SECONDS, READ_BUFFER, Engine, Faulted, Refused
from agent.errors import Unavailable

HEAD_LIMIT: Final = 65_536
"""Bytes of an answer's head, or of a message in its place."""

_LOST = "The connection to Docker was lost."


class RawStream:
    """Bytes to and from the engine. Writing waits for a slow reader at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return the bytes that have come, at least one; empty at the end. Cancelling loses nothing.

        Raises:
            Unavailable: the connection broke.
        """
        try:
            return await self._reader.read(READ_BUFFER)
        except OSError as error:
            raise Unavailable("docker.unavailable", _LOST) from error

    async def gather(self, seconds: float) -> None:
        """Leave what comes meanwhile in the kernel, so that the next read takes much at once.

        For after a read that gave less than it could: then nothing waits in this process.
        """
        # The loop's own class, which need not be asyncio's.
        transport = cast("asyncio.ReadTransport", self._writer.transport)
        if transport.is_closing():
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if not transport.is_closing():
                transport.resume_reading()

    async def write(self, data: bytes) -> None:
        """Send bytes. What the other end no longer takes is dropped: its own output tells why it ended."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            return

    def end_input(self) -> None:
        """Close our half: no more will be written."""
        if self._writer.can_write_eof() and not self._writer.is_closing():
            try:
                self._writer.write_eof()
            except OSError:
                return


@asynccontextmanager
async def open_raw(
    engine: Engine,
    method: Literal["GET", "POST"],
    path: str,
    *,
    params: Mapping[str, str | int] | None = None,
    data: object | None = None,
) -> AsyncIterator[RawStream]:
    """Give the raw stream that the engine answers with; leaving closes it. A POST asks for hijacking, a GET does not.

    Raises:
        Refused: a 4xx answer.
        Unavailable: no usable answer within `CALL_SECONDS`.
    """
    target = f"/{await engine.api_version()}/{quote(path)}?{urlencode(params or {})}"
    head = request_head(method, target, body=b"" if data is None else msgspec.json.encode(data))
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(
                engine.socket.removeprefix("unix://"), limit=max(HEAD_LIMIT, READ_BUFFER)
            )
    except (OSError, TimeoutError) as error:
        raise Unavailable("docker.unavailable", "Docker does not answer at its socket.") from error
    try:
        writer.write(head)
        await _read_head(reader)
        yield RawStream(reader, writer)
    finally:
        writer.close()


def request_head(method: str, target: str, *, body: bytes) -> bytes:
    """Return a whole request: HTTP/1.0 for a plain stream (GET), HTTP/1.1 with an upgrade for a duplex one."""
    version = "1.0" if method == "GET" else "1.1"
    lines = [f"{method} {target} HTTP/{version}", "Host: docker"]
    if method == "POST":
        lines += ["Connection: Upgrade", "Upgrade: tcp", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _read_head(reader: asyncio.StreamReader) -> None:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.split(b" ", 2)
            status = int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0
            if status in (101, 200):
                return
            message = await _message(reader)
    except TimeoutError as error:
        raise Unavailable("docker.unavailable", "Docker took too long to answer.") from error
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unavailable("docker.unavailable", _LOST) from error
    if 400 <= status < 500:
        raise Refused(status, message)
    raise Faulted(status, message)


async def _message(reader: asyncio.StreamReader) -> str:
    body = await reader.read(HEAD_LIMIT)
    try:
        return msgspec.json.decode(body, type=dict[str, str]).get("message", "")
    except msgspec.MsgspecError:
        return body.decode(errors="replace").strip()
