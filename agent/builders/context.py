"""The build context: git's tar stream, rewritten member by member on its way to the engine.

Nothing is ever unpacked. The rewriter is fed pieces of git's stream and gives pieces of its own: it leaves out what
``.dockerignore`` names, takes the build folder off the names, and puts another text in the place of the Dockerfile; or
it puts all files into a folder and one of its own beside them.
It holds one header and never more than one piece, whatever the size of the whole.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

import msgspec

from agent.errors import UserError
from agent.ports.source import SourceTree

_BLOCK: Final = tarfile.BLOCKSIZE
MAX_EXTENDED: Final = 64 * 1024
"""Bytes of one extended header: two paths and some numbers."""
_ZEROS: Final = bytes(_BLOCK)
_END: Final = 2 * _ZEROS
GIT_DIR_MARK: Final = ".git/HEAD"
"""The file of a ``.git`` that is asked about where files may be ignored."""


class ContextPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the members. Paths are relative to ``folder``."""

    folder: str = ""
    """Folder of the repository that is the context, without ``/`` at its ends."""
    ignored: frozenset[str] = frozenset()
    """Files to leave out. Folders of which nothing is left are left out too."""
    replaced: Mapping[str, bytes] = {}
    """Files that get another content."""
    inner: str = ""
    """Folder of the context that the files are put into; empty: they are the context."""
    added: Mapping[str, bytes] = {}
    """Files to put beside that folder, by their names in the context."""
    has_git_dir: bool = False
    """Whether a ``.git`` with the commit comes along, unless it is ignored."""
    owner: tuple[int, int] = (0, 0)
    """User and group of what is put into ``inner``, and of that folder."""
    max_bytes: int = 3 << 30
    """Of all file contents. The tree was walked against caps, but line ends and encodings may be converted since."""


class _Member(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    size: int
    header: bytes
    """As git wrote it."""
    target: str | None
    """Of a symbolic link, where the header has no room for it."""
    is_plain: bool
    """Whether the header can be sent as it is."""


async def context(source: SourceTree, plan: ContextPlan) -> AsyncGenerator[bytes, None]:
    """Yield the tar stream of the build context.

    Raises:
        UserError: ``source.too-large``, or what ``SourceTree.archive`` raises.
    """
    rewriter = TarRewriter(plan)
    async with aclosing(source.archive(folder=plan.folder)) as archive:
        async for data in archive:
            if rewritten := rewriter.feed(data):
                yield rewritten
    if plan.has_git_dir and GIT_DIR_MARK not in plan.ignored:
        async with aclosing(source.git_folder(name=f"{plan.inner}/.git".lstrip("/"))) as folder:
            async for data in folder:
                yield data
    yield rewriter.finish()


class TarRewriter:
    """Takes a tar stream in pieces of any size, gives the rewritten one."""

    def __init__(self, plan: ContextPlan) -> None:
        self._plan = plan
        self._prefix = f"{plan.folder}/" if plan.folder else ""
        self._inner = f"{plan.inner}/" if plan.inner else ""
        self._rest = bytearray()
        self._extended: dict[str, str] = {}
        self._folders: list[_Member] = []
        """Folders whose headers wait until something in them is sent."""
        self._body = 0
        """Bytes of the current member that are still to come, padding included."""
        self._is_copied = False
        self._total = 0
        self._has_ended = False
        self._first = bytearray(_beginning(plan))
        """What is sent before anything of git's."""

    def feed(self, data: bytes) -> bytes:
        """Return what can be sent now that `data` has come."""
        out, self._first = self._first, bytearray()
        if not self._has_ended:  # what follows the end is padding
            self._rest += data
        while not self._has_ended:
            if self._body:
                size = min(self._body, len(self._rest))
                if self._is_copied:
                    out += self._rest[:size]
                del self._rest[:size]
                self._body -= size
                if self._body:
                    break
            if not self._take_header(out):
                break
        return bytes(out)

    def finish(self) -> bytes:
        """Return the end of the archive.

        Raises:
            ValueError: the stream broke off.
        """
        if not self._has_ended:
            raise ValueError("the tar stream has no end")
        return _END

    def _take_header(self, out: bytearray) -> bool:
        """Read one header, or an extended header with its body, if it is there whole."""
        if len(self._rest) < _BLOCK:
            return False
        header = bytes(self._rest[:_BLOCK])
        if header == _ZEROS:
            self._has_ended = True
            self._rest.clear()
            return False
        if header[257:262] != b"ustar":
            raise ValueError("the tar stream is malformed")
        kind, size = header[156:157], int(header[124:136].strip(b"\0 ") or b"0", 8)
        if kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            if size > MAX_EXTENDED:
                raise ValueError(f"an extended tar header has {size} bytes")
            if len(self._rest) < _BLOCK + _padded(size):
                return False
            if kind == tarfile.XHDTYPE:
                self._extended = _records(bytes(self._rest[_BLOCK : _BLOCK + size]))
            del self._rest[: _BLOCK + _padded(size)]
            return True
        del self._rest[:_BLOCK]
        self._begin(header, kind=kind, size=size, out=out)
        return True

    def _begin(self, header: bytes, *, kind: bytes, size: int, out: bytearray) -> None:
        extended, self._extended = self._extended, {}
        whole_name = extended.get("path") or _name_in(header)
        size = int(extended.get("size", size))
        self._body = _padded(size)
        self._is_copied = False
        name = self._name_of(whole_name.rstrip("/"))
        if not name:
            return
        is_plain = not extended and not self._prefix and not self._plan.inner
        member = _Member(name=name, size=size, header=header, target=extended.get("linkpath"), is_plain=is_plain)
        if kind == tarfile.DIRTYPE:
            # Git names a folder right before what is in it: those that do not hold this one are over.
            while self._folders and not name.startswith(f"{self._folders[-1].name}/"):
                self._folders.pop()
            self._folders.append(member)
        elif kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.SYMTYPE) and name not in self._plan.ignored:
            self._send(member, kind=kind, out=out)

    def _name_of(self, whole_name: str) -> str:
        """Return the member's name in the context; empty if it is none of it."""
        if not whole_name.startswith(self._prefix):
            return ""
        name = whole_name[len(self._prefix) :]
        if any(part in ("", ".", "..") for part in name.split("/")):
            return ""  # git makes no such name; nothing else may come through here
        return name

    def _send(self, member: _Member, *, kind: bytes, out: bytearray) -> None:
        for folder in self._folders:
            if member.name.startswith(f"{folder.name}/"):
                out += self._header(folder)
        self._folders.clear()
        self._total += member.size
        if self._total > self._plan.max_bytes:
            raise UserError("source.too-large", "The files of the commit are too large to be sent to the build.")
        replacement = None if kind == tarfile.SYMTYPE else self._plan.replaced.get(member.name)
        if replacement is None:
            out += self._header(member)
            self._is_copied = True
            return
        size = len(replacement)
        out += self._header(msgspec.structs.replace(member, size=size, is_plain=False))
        out += replacement + bytes(_padded(size) - size)

    def _header(self, member: _Member) -> bytes:
        """Return the header to send: git's own where nothing of it changes, which is nearly always."""
        if member.is_plain:
            return member.header
        made = tarfile.TarInfo.frombuf(member.header, "utf-8", "surrogateescape")
        made.name, made.size = f"{self._inner}{member.name}", member.size
        made.uid, made.gid = self._plan.owner
        if member.target is not None:
            made.linkname = member.target
        return _encoded(made)


def _beginning(plan: ContextPlan) -> bytes:
    """Return the files that are added, and the folder for the others: it is there even if nothing is in it."""
    out = b""
    for name, content in plan.added.items():
        file = tarfile.TarInfo(name)
        file.size, file.mode = len(content), 0o644
        out += _encoded(file) + content + bytes(_padded(file.size) - file.size)
    if plan.inner:
        folder = tarfile.TarInfo(plan.inner)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        folder.uid, folder.gid = plan.owner
        out += _encoded(folder)
    return out


def _encoded(member: tarfile.TarInfo) -> bytes:
    # GNU's format takes names of any bytes and length, and every engine reads it.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _name_in(header: bytes) -> str:
    """Return the path of a ustar header: what is in its prefix field, and its name field."""
    prefix, name = header[345:500].partition(b"\0")[0], header[:100].partition(b"\0")[0]
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _records(body: bytes) -> dict[str, str]:
    """Return the records of a pax extended header: ``<length> <key>=<value>\\n`` (POSIX, pax)."""
    records = {}
    while body:
        length = int(body.partition(b" ")[0])
        record = body[:length]
        if length <= 0 or not record.endswith(b"\n"):
            raise ValueError("a tar header is malformed")
        key, _, value = record[:-1].partition(b" ")[2].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        body = body[length:]
    return records
