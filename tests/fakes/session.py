"""One person at the other end, made of lists."""

from __future__ import annotations

import asyncio

from agent.ports.session import User
from proto.names import Fingerprint

ADA = User("ada", Fingerprint("SHA256:ada"))


class FakeSession:
    """Fulfils ``Session``. What was written is in `out` and `err`."""

    def __init__(
        self,
        stdin: bytes = b"",
        *,
        user: User = ADA,
        is_tty: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.user = user
        self.environment = environment or {}
        self.is_tty = is_tty
        self.term = "xterm" if is_tty else ""
        self.written = bytearray()
        self.complained = bytearray()
        self.left = asyncio.Event()
        """Set: the other end is gone."""
        self._stdin = stdin
        self._news = asyncio.Event()

    @property
    def out(self) -> str:
        return self.written.decode()

    @property
    def err(self) -> str:
        return self.complained.decode()

    def size(self) -> tuple[int, int]:
        return (80, 24)

    async def resized(self) -> tuple[int, int]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def read(self, size: int = 65_536) -> bytes:
        data, self._stdin = self._stdin[:size], self._stdin[size:]
        return data

    async def write(self, data: bytes) -> None:
        if self.left.is_set():
            raise ConnectionResetError
        self.written += data
        self._news.set()

    async def write_error(self, data: bytes) -> None:
        if self.left.is_set():
            raise ConnectionResetError
        self.complained += data

    async def printed(self, text: str) -> None:
        """Wait until `text` was written."""
        while text not in self.out:
            self._news.clear()
            await self._news.wait()

    async def gone(self) -> None:
        await self.left.wait()
