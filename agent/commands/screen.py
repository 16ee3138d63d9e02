"""The one way from a command to the person who asked: sanitised lines, with the line ends that a terminal needs.

A pty in SSH is no kernel terminal: nobody turns ``\\n`` into ``\\r\\n`` on the way, so that is done here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable

from agent import sanitise
from agent.commands.replies import INDENT, WARNING
from agent.ports.session import Terminal

BATCH_CHARACTERS = 32_768
"""Written at once. Each write waits for the reader, so this bounds what a slow one makes us hold."""


class Screen:
    """Writes to one session. A reader that is gone raises `ConnectionError`, which the dispatcher knows."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    async def lines(self, lines: Iterable[str], *, to_stderr: bool = False) -> None:
        """Write lines, sanitised, in batches."""
        batch: list[str] = []
        size = 0
        for line in lines:
            batch.append(sanitise.clean(line))
            size += len(line)
            if size >= BATCH_CHARACTERS:
                await self._write(self._encoded("\n".join((*batch, ""))), to_stderr)
                batch, size = [], 0
        if batch:
            await self._write(self._encoded("\n".join((*batch, ""))), to_stderr)

    async def line(self, line: str) -> None:
        """Write one line."""
        await self.lines((line,))

    async def prompt(self, text: str) -> None:
        """Write without a line's end, where an answer is to be typed."""
        await self._write(self._encoded(sanitise.clean(text)), False)

    async def raw(self, text: str) -> None:
        """Write text for scripts: untouched, unless a terminal is at the other end."""
        if self._terminal.is_tty:
            await self._write(self._encoded(sanitise.clean(text)), False)
        else:
            data = text.encode("utf-8", "surrogateescape")
            for start in range(0, len(data), BATCH_CHARACTERS):
                await self._write(data[start : start + BATCH_CHARACTERS], False)

    async def trouble(self, message: str, hint: str = "") -> None:
        """Write what went wrong, and below it what to do, to standard error."""
        lines = [f"{WARNING}{line}" for line in message.split("\n")]
        lines += [f"{INDENT}{line}" for line in hint.split("\n")] if hint else []
        await self.lines(lines, to_stderr=True)

    def _encoded(self, text: str) -> bytes:
        return (text.replace("\n", "\r\n") if self._terminal.is_tty else text).encode("utf-8", "replace")

    async def _write(self, data: bytes, to_stderr: bool) -> None:
        await (self._terminal.write_error(data) if to_stderr else self._terminal.write(data))


async def read_line(terminal: Terminal, *, limit: int = 1_000) -> str:
    """Return one typed line without its end, echoing it where nobody else does (a pty); empty when there is none.

    Backspace works. More than `limit` bytes are cut.
    """
    typed = bytearray()
    async with contextlib.aclosing(_keys(terminal)) as keys:
        async for key in keys:
            if key in b"\r\n\x03\x04":
                if terminal.is_tty:
                    await terminal.write(b"\r\n")
                return "" if key == 3 else typed.decode("utf-8", "replace")
            if key in b"\x7f\x08":
                if typed and terminal.is_tty:
                    await terminal.write(b"\b \b")
                del typed[-1:]
            elif len(typed) < limit:
                typed.append(key)
                if terminal.is_tty and key >= 0x20:
                    await terminal.write(bytes([key]))
    return typed.decode("utf-8", "replace")


async def _keys(terminal: Terminal) -> AsyncGenerator[int, None]:
    while data := await terminal.read(4_096):
        for key in data:
            yield key


async def read_all(terminal: Terminal, *, limit: int) -> bytes | None:
    """Return all of standard input, or `None` if it has more than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await terminal.read():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
