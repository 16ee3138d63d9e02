"""An ssh agent of one key: ssh asks it for signatures, and never gets the key itself.

So the private key is in this process's memory alone, on no disk, in no environment, in no argument vector. The
protocol is draft-miller-ssh-agent: a length, a byte that says what is asked, and strings with their lengths. ssh needs
two questions of it, the list of keys and a signature.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)

_FAILURE: Final = 5
_LIST, _LISTED = 11, 12
_SIGN, _SIGNED = 13, 14
_LENGTH = struct.Struct(">I")
_MOST: Final = 256 * 1024
"""Bytes of a question, as OpenSSH's own agent."""
_KIND: Final = b"ssh-ed25519"


class Signer:
    """Answers what ssh asks of an agent, for one ed25519 key."""

    def __init__(self, private: str) -> None:
        """`private`: in OpenSSH's format."""
        key = load_ssh_private_key(private.encode(), password=None)
        assert isinstance(key, Ed25519PrivateKey)  # we make no others
        self._key = key
        self._blob = _string(_KIND) + _string(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def answer(self, question: bytes) -> bytes:
        """Return the answer to a question, both without their lengths."""
        kind, strings = question[:1], _strings(question[1:])
        if kind == bytes([_LIST]):
            return bytes([_LISTED]) + _LENGTH.pack(1) + _string(self._blob) + _string(b"")
        if kind == bytes([_SIGN]) and len(strings) == 2 and strings[0] == self._blob:
            signature = _string(_KIND) + _string(self._key.sign(strings[1]))
            return bytes([_SIGNED]) + _string(signature)
        return bytes([_FAILURE])


@asynccontextmanager
async def listening(path: Path, signer: Signer) -> AsyncIterator[None]:
    """Answer at the socket `path` for the length of a block. Its folder must be for nobody else."""
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while question := await _read(reader):
                writer.write(_string(signer.answer(question)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # ssh has what it wanted
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        clients.add(task)
        task.add_done_callback(clients.discard)

    server = await asyncio.start_unix_server(accepted, path=str(path))
    try:
        yield
    finally:
        server.close()
        for task in tuple(clients):
            task.cancel()
        if clients:
            await asyncio.wait(tuple(clients))


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length) if length <= _MOST else b""


def _string(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _strings(data: bytes) -> list[bytes]:
    """Return the strings that `data` begins with, up to what is none (the flags of a request)."""
    found = []
    position = 0
    while position + _LENGTH.size < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        found.append(data[position : position + length])
        position += length
    return found
