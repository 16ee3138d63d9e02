"""A person at a terminal: a program in a pseudo-terminal of its own, typed to and read from."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

PATIENCE_SECONDS = 60.0


class Typist:
    """Somebody who types to one program and sees what it prints."""

    def __init__(self, terminal: int, process: asyncio.subprocess.Process) -> None:
        self._terminal = terminal
        self._process = process
        self.seen = ""
        """All that the program has printed so far."""

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size; the program is told by SIGWINCH."""
        _resize(self._terminal, columns, rows)

    def type(self, keys: str) -> None:
        """Press keys; Enter is ``\\r``, Ctrl-C ``\\x03``."""
        os.write(self._terminal, keys.encode())

    async def sees(self, text: str) -> None:
        """Wait until `text` has been printed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in self.seen and await self._look():
                pass
        assert text in self.seen, f"{text!r} is not in {self.seen!r}"

    async def status(self) -> int:
        """Wait for the program's end; return its exit status."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self._look():
                pass
            return await self._process.wait()

    async def _look(self) -> bool:
        """Read what comes next; return false at the end."""
        try:
            data = await asyncio.to_thread(os.read, self._terminal, 65_536)
        except OSError:
            # How Linux tells that nobody has the other side open any more.
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@asynccontextmanager
async def typist(
    *command: str, environment: Mapping[str, str], folder: Path, size: Sequence[int] = (80, 24)
) -> AsyncIterator[Typist]:
    """Start a program in a terminal of its own, and end it afterwards."""
    terminal, inside = pty.openpty()
    _resize(terminal, *size)
    try:
        process = await asyncio.create_subprocess_exec(
            # A session of its own, whose controlling terminal it is: window changes and Ctrl-C arrive as signals.
            *("setsid", "--ctty", "--wait", *command),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={"TERM": "xterm-256color", **environment},
            cwd=folder,
        )
        os.close(inside)
        try:
            yield Typist(terminal, process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        os.close(terminal)


def _resize(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
