"""From an archive's bytes as they come to a file, and from what is made of it to bytes again, off the event loop."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import IO, Final

from agent.archives.caps import in_units
from agent.errors import Unavailable, UserError

HEAD_BYTES: Final = 8
"""By so many ``members.kind_of`` tells archives apart."""
_TOGETHER: Final = 1 << 20
"""Bytes of one piece: a trip to a thread for each."""


async def store(file: IO[bytes], upload: AsyncIterator[bytes], *, max_bytes: int) -> None:
    """Write what comes into `file`, and go back to its beginning.

    Raises:
        UserError: ``archive.too-large``, there is more than `max_bytes`; ``archive.empty``, there is nothing.
    """
    count = 0
    async for chunk in upload:
        count += len(chunk)
        if count > max_bytes:
            message = f"This archive is larger than {in_units(max_bytes)}."
            hint = "Leave out what is not needed, or let the server take more: settings [git], max_…_bytes."
            raise UserError("archive.too-large", message, hint)
        await asyncio.to_thread(file.write, chunk)
    if count == 0:
        raise UserError("archive.empty", "There is no archive: nothing came.", "Give one: … < app.tar.gz")
    await asyncio.to_thread(file.seek, 0)


async def in_pieces(stream: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield what `stream` yields in pieces of about a megabyte, each made in a thread."""
    while piece := await asyncio.to_thread(_next, stream):
        yield piece


def raise_if_full(error: OSError) -> None:
    """Raise ``Unavailable`` ``disk.full`` if that is what happened."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise Unavailable("disk.full", "The server's disk is full.", "Make space; doctor says where.") from error


def _next(stream: Iterator[bytes]) -> bytes:
    """Return the next pieces of `stream` as one; empty at its end."""
    collected = bytearray()
    for piece in stream:
        collected += piece
        if len(collected) >= _TOGETHER:
            break
    return bytes(collected)
