"""One client connection, by hand: every way in which an answer can fail to come has a name."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

PATIENCE_SECONDS = 30.0
"""For an answer, beyond what the app was asked to take."""
CONNECT_SECONDS = 10.0


class Broken(Exception):
    """An answer did not come, or not whole; the text says how."""


@dataclass(frozen=True)
class Reply:
    """An answer that came whole."""

    status: int
    body: bytes
    is_last: bool
    """The connection ends with it."""


class Connection:
    """A connection to the proxy, opened when it is first needed and again when the other side ended it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.is_used = False
        """Whether a request before the last one was answered on the same connection."""
        self.sent_at = 0.0
        """When the last request was sent, by the monotonic clock."""
        self._is_fresh = True
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes, *, seconds: float = 0.0, patience: float = PATIENCE_SECONDS) -> Reply:
        """Send a request and return its answer. `seconds`: what the app was asked to take.

        A connection that ended while it was idle is no failure, if its end had come before the request was sent.

        Raises:
            Broken: no whole answer.
        """
        try:
            async with asyncio.timeout(seconds + patience):
                reader = await self.open()
                self.is_used, self._is_fresh = not self._is_fresh, False
                self.sent_at = time.monotonic()
                self.send(request)
                reply = await self._read(reader)
        except TimeoutError:
            self.close()
            raise Broken("no answer in time") from None
        except OSError as error:
            self.close()
            raise Broken(f"before an answer: {_name(error)}") from error
        except BaseException:
            self.close()
            raise
        if reply.is_last:
            self.close()
        return reply

    async def open(self) -> asyncio.StreamReader:
        """Return what can be read from, on a connection that is open as far as one can know.

        Raises:
            Broken: nobody takes it.
        """
        if self._reader is not None and not self._reader.at_eof() and self._reader.exception() is None:
            return self._reader
        self.close()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except TimeoutError:
            raise Broken("no connection in time") from None
        except OSError as error:
            raise Broken(f"no connection: {_name(error)}") from error
        return self._reader

    def send(self, data: bytes) -> None:
        """Write to a connection that was opened."""
        assert self._writer
        self._writer.write(data)

    def close(self) -> None:
        """End it; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        self._is_fresh = True

    async def _read(self, reader: asyncio.StreamReader) -> Reply:
        head = await _read_head(reader)
        status = int(head[9:12])
        lowered = head.lower()
        is_last = b"connection: close" in lowered or head.startswith(b"HTTP/1.0")
        try:
            if status == 101:
                return Reply(status, b"", False)
            if b"transfer-encoding: chunked" in lowered:
                return Reply(status, await _read_chunks(reader), is_last)
            _, has_length, rest = lowered.partition(b"content-length: ")
            if has_length:
                return Reply(status, await reader.readexactly(int(rest.split(b"\r\n")[0])), is_last)
            return Reply(status, await reader.read(), True)
        except asyncio.IncompleteReadError:
            raise Broken("answer cut short") from None
        except OSError as error:
            raise Broken(f"amid an answer: {_name(error)}") from error


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise Broken("head cut short" if error.partial else "closed without an answer") from None


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        piece = await reader.readexactly(size + 2)
        if size == 0:
            return body
        body += piece[:-2]


def _name(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
