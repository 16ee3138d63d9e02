"""A terminal made of queues."""

from __future__ import annotations

import asyncio


class FakeTerminal:
    """Fulfils ``agent.ports.session.Terminal``: what is typed is set by the test, what is printed is kept."""

    def __init__(self, *, is_tty: bool = False, term: str = "", size: tuple[int, int] = (80, 24)) -> None:
        self.out = b""
        self.err = b""
        self._is_tty = is_tty
        self._term = term
        self._size = size
        self._input: asyncio.Queue[bytes] = asyncio.Queue()
        self._sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._printed = asyncio.Condition()

    @property
    def is_tty(self) -> bool:
        """See ``Terminal``."""
        return self._is_tty

    @property
    def term(self) -> str:
        """See ``Terminal``."""
        return self._term

    def size(self) -> tuple[int, int]:
        """See ``Terminal``."""
        return self._size

    async def resized(self) -> tuple[int, int]:
        """See ``Terminal``."""
        self._size = await self._sizes.get()
        return self._size

    async def read(self, size: int = 65_536) -> bytes:
        """See ``Terminal``."""
        return await self._input.get()

    async def write(self, data: bytes) -> None:
        """See ``Terminal``."""
        if self._gone.is_set():
            raise ConnectionResetError
        async with self._printed:
            self.out += data
            self._printed.notify_all()

    async def write_error(self, data: bytes) -> None:
        """See ``Terminal``."""
        if self._gone.is_set():
            raise ConnectionResetError
        async with self._printed:
            self.err += data
            self._printed.notify_all()

    async def gone(self) -> None:
        """See ``Terminal``."""
        await self._gone.wait()

    # What a test does with it.

    def type(self, data: bytes) -> None:
        """Give input; empty bytes end it."""
        self._input.put_nowait(data)

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size."""
        self._sizes.put_nowait((columns, rows))

    def leave(self) -> None:
        """Close the connection."""
        self._gone.set()

    async def printed(self, text: bytes) -> None:
        """Wait until `text` has been printed."""
        async with self._printed, asyncio.timeout(20):
            await self._printed.wait_for(lambda: text in self.out + self.err)
