"""A pack looked through while it streams past: what would unfold to far more than it weighs is refused before git
unpacks it.

Each object of a pack says its size before its content, and a delta the size of what it makes (gitformat-pack(5)). So
a gigabyte of zeros, a megabyte in the pack, is known by its first bytes, where git would inflate it, hash it and
store it for ten seconds before anybody could look at the tree. To find the next object, the content is inflated
and forgotten. What is no pack is git's to refuse: from there on everything passes.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from agent.archives.caps import in_units
from agent.errors import UserError

LARGEST_OBJECT = 256 << 20
"""Bytes that git unpacks in a moment. Below it a file that is too large is found in the tree, by its name."""

LARGEST_FOLDER = 100_000
"""The same for the entries of one folder."""

_START = struct.Struct(">4sII")
_VERSIONS = (2, 3)
_TREE, _OFS_DELTA, _REF_DELTA = 2, 6, 7
_KINDS = (1, 2, 3, 4, _OFS_DELTA, _REF_DELTA)
_OID = 20
_LONGEST_HEAD = 64
"""Bytes of the longest head of an object: its size, and how far back or what its base is."""
_SLICE = 65_536
"""Bytes given to zlib at once, which copies what it does not need."""
_INFLATED = 1 << 20
_SMALLEST_ENTRY = len(b"40000 a\0") + _OID


class PackLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one object of a pack may unfold to."""

    object_bytes: int = LARGEST_OBJECT
    folder_entries: int = LARGEST_FOLDER


class _Lost(Exception):
    """This is no pack, or none that we can read."""


class PackReader:
    """Reads a pack as it comes, however it is cut, and holds none of it."""

    def __init__(self, limits: PackLimits) -> None:
        self._limits = limits
        self._rest = b""
        self._left: int | None = None
        """How many objects have not ended yet; `None` until the pack has said how many it has."""
        self._is_lost = False
        self._object: _Object | None = None

    def feed(self, data: bytes) -> None:
        """Look through what came.

        Raises:
            UserError: ``source.too-large``, an object of it would unfold to more than `PackLimits`.
        """
        if self._is_lost:
            return
        self._rest += data
        try:
            self._read(memoryview(self._rest))
        except (_Lost, zlib.error):
            self._is_lost, self._rest, self._object = True, b"", None

    def _read(self, view: memoryview) -> None:
        position = 0
        if self._left is None:
            if len(view) < _START.size:
                return
            word, version, self._left = _START.unpack_from(view)
            if word != b"PACK" or version not in _VERSIONS:
                raise _Lost
            position = _START.size
        while self._left and position < len(view):
            if self._object is None:
                head = _read_head(bytes(view[position : position + _LONGEST_HEAD]))
                if head is None:
                    break
                size, kind, length = head
                self._object = _Object(kind, size, self._limits)
                position += length
            position += self._object.feed(view[position:])
            if self._object.is_over:
                self._object = None
                self._left -= 1
        self._rest = bytes(view[position:]) if self._left else b""


class _Object:
    """One object whose content streams past."""

    def __init__(self, kind: int, size: int, limits: PackLimits) -> None:
        self.is_over = False
        self._limits = limits
        self._size = size
        self._inflater = zlib.decompressobj()
        self._is_delta = kind in (_OFS_DELTA, _REF_DELTA)
        self._start = b""
        # A folder that cannot have too many entries, whatever they are called, need not be counted.
        counts = kind == _TREE and size > limits.folder_entries * _SMALLEST_ENTRY
        self._folder = _Folder(limits.folder_entries) if counts else None
        self._check(size)

    def feed(self, view: memoryview) -> int:
        """Inflate what there is of the object; return how many bytes of it that was."""
        used = 0
        # Incompressible content grows a little (zlib's compressBound); a little more does no harm.
        step = min(_SLICE, self._size + (self._size >> 8) + 64)
        while used < len(view) and not self._inflater.eof:
            piece = view[used : used + step]
            self._take(self._inflater.decompress(piece, _INFLATED))
            while self._inflater.unconsumed_tail and not self._inflater.eof:
                self._take(self._inflater.decompress(self._inflater.unconsumed_tail, _INFLATED))
            used += len(piece) - len(self._inflater.unused_data)
        self.is_over = self._inflater.eof
        return used

    def _take(self, content: bytes) -> None:
        if self._folder is not None:
            self._folder.feed(content)
        if self._is_delta and len(self._start) < _LONGEST_HEAD:
            self._start += content[:_LONGEST_HEAD]
            self._check(max(_delta_sizes(self._start)))

    def _check(self, size: int) -> None:
        if size > self._limits.object_bytes:
            raise UserError(
                "source.too-large",
                f"A file in this push or its history is larger than {in_units(self._limits.object_bytes)}.",
                "Take it out of the history: git filter-repo --strip-blobs-bigger-than 100M",
            )


class _Folder:
    """Counts the entries of a tree object: mode, blank, name, NUL, object id."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._rest = b""

    def feed(self, content: bytes) -> None:
        data = self._rest + content
        position = 0
        while (end := data.find(b"\0", position)) >= 0 and len(data) > end + _OID:
            position = end + 1 + _OID
            self._count += 1
            if self._count > self._most:
                raise UserError(
                    "source.too-large",
                    f"A folder in this push has more than {self._most:,} files.",
                    "Take out of the repository what the app does not need.",
                )
        self._rest = data[position:]


def _read_head(data: bytes) -> tuple[int, int, int] | None:
    """Return size and kind of the object that begins here, and the length of its head; `None` if more must come."""
    kind, size, shift, end = data[0] >> 4 & 7, data[0] & 15, 4, 1
    if kind not in _KINDS:
        raise _Lost
    try:
        while data[end - 1] & 0x80:
            size |= (data[end] & 0x7F) << shift
            shift, end = shift + 7, end + 1
        if kind == _OFS_DELTA:
            while data[end] & 0x80:
                end += 1
            end += 1
        elif kind == _REF_DELTA:
            end += _OID
    except IndexError:
        end = len(data) + 1
    if end <= len(data):
        return size, kind, end
    if len(data) >= _LONGEST_HEAD:
        raise _Lost
    return None


def _delta_sizes(data: bytes) -> tuple[int, ...]:
    """Return what is known by now of a delta's two sizes: of what it starts from, and of what it makes."""
    sizes = [0]
    shift = 0
    for byte in data:
        sizes[-1] |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            if len(sizes) == 2:
                return tuple(sizes)
            sizes, shift = [*sizes, 0], 0
    return tuple(sizes[:-1]) or (0,)
