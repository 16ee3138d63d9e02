"""Packs that unfold to far more than they weigh, made by hand: no client of git would send them."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence

COMMIT, TREE, BLOB = 1, 2, 3
_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}
_REF_DELTA = 7
_PIECE = 1 << 20

Packed = tuple[str, bytes]
"""An object's id, and what stands for it in a pack."""


def small(kind: int, content: bytes, *, level: int = -1) -> Packed:
    """Return an ordinary object, compressed at a level of zlib's."""
    oid = hashlib.sha1(_NAMES[kind] + b" %d\0" % len(content) + content).hexdigest()
    return oid, _head(kind, len(content)) + zlib.compress(content, level)


def zeros(size: int) -> Packed:
    """Return a blob of `size` zeros, a multiple of 1 MiB: about a thousandth of that in the pack."""
    pieces = size // _PIECE
    assert pieces * _PIECE == size
    digest = hashlib.sha1(b"blob %d\0" % size)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(_PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(pieces):
        digest.update(bytes(_PIECE))
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    # Adler-32 (RFC 1950) of zeros: one sum stays 1, the other counts them.
    body = b"\x78\xda" + piece * pieces + end + struct.pack(">I", (size % 65_521) << 16 | 1)
    return digest.hexdigest(), _head(BLOB, size) + body


def repeated(base: Packed, size: int, *, times: int) -> Packed:
    """Return a delta that makes a blob of `base`, of `size` bytes (below 64 KiB), over and over."""
    copy = b"\xb0" + struct.pack("<H", size)
    delta = _number(size) + _number(size * times) + copy * times
    return "", _head(_REF_DELTA, len(delta)) + bytes.fromhex(base[0]) + zlib.compress(delta)


def tree(*entries: tuple[str, str, str]) -> Packed:
    """Return a tree of (mode, name, object id)."""
    return small(TREE, b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries))


def commit(tree: str) -> Packed:
    """Return a commit without a parent."""
    who = "Ann <ann@example.com> 1714979289 +0000"
    return small(COMMIT, f"tree {tree}\nauthor {who}\ncommitter {who}\n\nA bomb\n".encode())


def pack(objects: Sequence[Packed]) -> bytes:
    """Return the pack that holds these objects."""
    body = b"PACK" + struct.pack(">II", 2, len(objects)) + b"".join(data for _, data in objects)
    return body + hashlib.sha1(body).digest()


def push(tip: str, objects: Sequence[Packed], *, ref: str = "refs/heads/main") -> bytes:
    """Return all that a client sends to push `objects` to an empty repository, without waiting for its greeting."""
    line = f"{'0' * 40} {tip} {ref}\0 report-status\n".encode()
    return b"%04x" % (len(line) + 4) + line + b"0000" + pack(objects)


def push_of_zeros(size: int) -> bytes:
    """Return the push of one file of `size` zeros."""
    blob = zeros(size)
    folder = tree(("100644", "zeros", blob[0]))
    tip = commit(folder[0])
    return push(tip[0], [blob, folder, tip])


def push_of_depth(levels: int) -> bytes:
    """Return the push of one file that many folders deep."""
    objects = [small(BLOB, b"x")]
    objects.append(tree(("100644", "d", objects[-1][0])))
    for _ in range(levels):
        objects.append(tree(("40000", "d", objects[-1][0])))
    objects.append(commit(objects[-1][0]))
    return push(objects[-1][0], objects)


def push_of_width(files: int) -> bytes:
    """Return the push of one folder with that many files."""
    blob = small(BLOB, b"x")
    folder = tree(*(("100644", f"{number:07}", blob[0]) for number in range(files)))
    tip = commit(folder[0])
    return push(tip[0], [blob, folder, tip])


def push_of_folds(levels: int) -> bytes:
    """Return the push of ten to the power of `levels` files, all one and the same, in a few objects."""
    objects = [small(BLOB, b"x")]
    mode = "100644"
    for _ in range(levels):
        objects.append(tree(*((mode, f"{number}", objects[-1][0]) for number in range(10))))
        mode = "40000"
    objects.append(commit(objects[-1][0]))
    return push(objects[-1][0], objects)


def _head(kind: int, size: int) -> bytes:
    """Return type and size as a pack writes them (gitformat-pack(5))."""
    if size < 16:
        return bytes([kind << 4 | size])
    return bytes([0x80 | kind << 4 | size & 15]) + _number(size >> 4)


def _number(size: int) -> bytes:
    """Return a number, seven bits at a time, the lowest first."""
    out = bytearray()
    while size > 0x7F:
        out.append(0x80 | size & 0x7F)
        size >>= 7
    return bytes([*out, size])
