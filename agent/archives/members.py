"""Reads tar, tar.gz and zip member by member. Nothing is ever extracted: what comes out are names, modes and bytes.

An archive is hostile. Names that lead out of it, links that point out of it and anything that is no file, folder or
link are refused; what it unfolds to is counted against the caps while it unfolds; and what the libraries would hold in
memory at once (long names, a zip's directory) is bounded.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

import msgspec

from agent.archives.caps import Caps, Tally, shown, too_large
from agent.errors import UserError
from agent.ports.source import ArchiveKind

FILE = 0o100644
PROGRAM = 0o100755
LINK = 0o120000

_CHUNK = 256 * 1024
MAX_AT_ONCE = 8 << 20
"""Bytes that a library may read in one go; a zip's directory of 100,000 files has about this much."""
_HEADER_BYTES = 2_048
"""Of a tar's headers and padding for each member, beside its content."""
MAX_LINK = 4_096
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    gzip.BadGzipFile,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
"""What the libraries raise about archives that are not as they should be."""


class Member(msgspec.Struct, frozen=True):
    """A file or link of an archive. Its content comes as the pieces that follow it, see `members`."""

    path: str
    """Relative, ``/`` between parts, no ``.``, ``..`` or empty ones."""
    mode: int
    """As git has it: `FILE`, `PROGRAM` or `LINK`, whose content is the target."""
    size: int
    """Bytes of the content."""
    same_as: str = ""
    """Path of the earlier file whose content this is, too: a hard link. There is no content then."""
    spare_folders: int = 0
    """Of a link: how many of the folders that it lies in could go without it leading out of what is left."""


def kind_of(head: bytes) -> ArchiveKind:
    """Return what an archive is by its first bytes."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar.gz" if head.startswith(b"\x1f\x8b") else "tar"


def members(file: IO[bytes], kind: ArchiveKind, *, caps: Caps) -> Iterator[Member | bytes]:
    """Yield each file and link, followed by the pieces of its content (up to 256 KiB each). Blocks while it reads.

    Folders are counted and not yielded, nor is a ``.git`` with all that is in it.

    Raises:
        UserError: ``archive.broken``, ``archive.unsafe``, ``archive.encrypted``, ``archive.unknown-compression``,
            ``source.too-large``.
    """
    tally = Tally(caps, thing="archive")
    try:
        yield from _zipped(file, tally) if kind == "zip" else _tarred(file, kind, tally)
    except _BROKEN as error:
        message = f"This is not a whole {kind} archive."
        hint = "Make it anew, or say what it is: --archive-type tar, tar.gz or zip."
        raise UserError("archive.broken", message, hint) from error


def _tarred(file: IO[bytes], kind: ArchiveKind, tally: Tally) -> Iterator[Member | bytes]:
    unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if kind == "tar.gz" else file
    limit = tally.caps.total_bytes + tally.caps.entries * _HEADER_BYTES
    with tarfile.open(fileobj=_bounded(unpacked, limit=limit), mode="r:", errors="surrogateescape") as archive:
        while (info := archive.next()) is not None:
            # The library keeps every one of them; the attribute is public there and missing in the type hints.
            archive.members.clear()  # type: ignore[attr-defined]
            path = _inside(info.name, tally)
            if info.isdir() or path is None:
                continue
            if info.islnk():
                yield Member(path, FILE, 0, same_as=_inside(info.linkname, tally) or "")
            elif info.issym():
                yield from _link(path, info.linkname.encode("utf-8", "surrogateescape"))
            elif info.isreg():
                yield _file(path, tally, size=info.size, is_program=bool(info.mode & 0o111))
                content = archive.extractfile(info)
                assert content is not None  # the library's promise for regular files
                yield from _content(content, info.size)
            else:
                raise unsafe(path, "is a device or the like")


def _zipped(file: IO[bytes], tally: Tally) -> Iterator[Member | bytes]:
    with zipfile.ZipFile(_bounded(file, limit=None)) as archive:
        for info in archive.infolist():
            path = _inside(info.filename, tally)
            mode = info.external_attr >> 16
            if info.is_dir() or path is None or stat.S_ISDIR(mode):
                continue
            if info.flag_bits & 1:
                raise UserError("archive.encrypted", f"{shown(path)} is encrypted.", "Make the archive without one.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                message = f"{shown(path)} is compressed in a way that is not read here."
                raise UserError("archive.unknown-compression", message, "Make the zip with plain deflate.")
            with archive.open(info) as content:
                if stat.S_ISLNK(mode):
                    yield from _link(path, content.read(MAX_LINK + 1))
                elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                    yield _file(path, tally, size=info.file_size, is_program=bool(mode & 0o111))
                    yield from _content(content, info.file_size)
                else:
                    raise unsafe(path, "is a device or the like")


def _file(path: str, tally: Tally, *, size: int, is_program: bool) -> Member:
    if size < 0:
        raise EOFError(f"{path} has a negative size")
    tally.file(path, size=size)
    return Member(path, PROGRAM if is_program else FILE, size)


def _content(content: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left and (piece := content.read(min(left, _CHUNK))):
        left -= len(piece)
        yield piece
    if left:
        raise EOFError("a member is shorter than it says")


def _link(path: str, target: bytes) -> Iterator[Member | bytes]:
    """Yield a symbolic link that stays inside, by its text: nothing here ever follows one."""
    if not target or len(target) > MAX_LINK or b"\0" in target:
        raise unsafe(path, "is a link to nothing that can be named")
    depth = spare = path.count("/")
    for part in target.split(b"/"):
        depth += -1 if part == b".." else part not in (b"", b".")
        spare = min(spare, depth)
    if target.startswith(b"/") or spare < 0:
        raise unsafe(path, "is a link that leads out of it")
    yield Member(path, LINK, len(target), spare_folders=spare)
    yield target


def _inside(name: str, tally: Tally) -> str | None:
    """Return the path that a member's name means; `None` for the root, and for what belongs to a ``.git``."""
    raw = name.encode("utf-8", "surrogateescape")
    tally.entry(raw)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise unsafe(name, "leads out of it")
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise unsafe(name, "has a control character in its name")
    if not parts or any(part.lower() == ".git" for part in parts):
        return None
    return "/".join(parts)


def unsafe(path: str, what: str) -> UserError:
    """Return the error of a member that is not taken; `what` says of it what it does."""
    message = f"The archive holds something that is not taken: {shown(path)[:200]!r} {what}."
    return UserError("archive.unsafe", message, "Make it of plain files, folders and links within it.")


def _bounded(file: IO[bytes], *, limit: int | None) -> IO[bytes]:
    """Return `file` as the libraries may read it: up to `limit` bytes of it, and never all at once."""
    return cast(IO[bytes], _Bounded(file, limit=limit))


class _Bounded(io.RawIOBase):
    """See `_bounded`."""

    def __init__(self, file: IO[bytes], *, limit: int | None) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        wanted = MAX_AT_ONCE + 1 if size < 0 else size
        if size > MAX_AT_ONCE:
            raise too_large("The archive's own directory or one of its names is too large.")
        data = self._file.read(wanted)
        if len(data) > MAX_AT_ONCE:
            raise too_large("The archive's own directory or one of its names is too large.")
        self._check(self._file.tell())
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)  # before a compressed file is unfolded up to there
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _check(self, position: int) -> None:
        if self._limit is not None and position > self._limit:
            raise too_large("The archive unfolds to more than a source may have.")
