"""Reads a tar of the engine as it comes, member by member, without holding more of it than a piece."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from typing import Final

from agent.errors import Unavailable

_BLOCK: Final = tarfile.BLOCKSIZE
_ZEROS: Final = bytes(_BLOCK)
_EXTENSIONS: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""What stands before a member and says more of it, none of which is needed here: names are short."""


class TarStream:
    """The members of one stream, in their order."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._left = 0
        """Bytes of the current member's content that are still to come."""
        self._padding = 0

    async def next(self) -> tarfile.TarInfo | None:
        """Return the next member, or `None` at the end. What is left of the one before is passed over.

        Raises:
            Unavailable: the stream is no tar, or breaks off.
        """
        while True:
            async for _ in self.content():
                pass
            await self._take(self._padding)
            header = await self._take(_BLOCK)
            if header == _ZEROS:
                self._padding = 0
                return None
            try:
                member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise _senseless() from error
            self._left, self._padding = member.size, -member.size % _BLOCK
            if member.type not in _EXTENSIONS:
                return member

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the content of the member that `next` returned, in pieces.

        Raises:
            Unavailable: the stream breaks off.
        """
        while self._left:
            if not self._rest:
                self._rest = await self._more()
            piece, self._rest = self._rest[: self._left], self._rest[self._left :]
            self._left -= len(piece)
            yield piece

    async def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._rest += await self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    async def _more(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration as error:
            raise _senseless() from error


def _senseless() -> Unavailable:
    return Unavailable("docker.unavailable", "Docker gave an archive that makes no sense.")
