"""The text that tells ``git fast-import`` to make one commit of the members of an archive (git-fast-import(1))."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from agent.archives.members import LINK, Member, unsafe
from agent.errors import UserError
from agent.ports.source import ArchiveCommit

REF = "refs/heads/import"
"""Where the commit is put."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f<>]")


class _Entry(msgspec.Struct, frozen=True):
    mode: int
    mark: int
    spare_folders: int = 0


def render(members: Iterator[Member | bytes], commit: ArchiveCommit, *, parent: str | None) -> Iterator[bytes]:
    """Yield the stream: contents as they come, then the commit that names them.

    `parent` is the id of the commit before it. One folder that holds everything is left out of the paths, as most
    archives have one. Of two members with one path the later counts.

    Raises:
        UserError: ``archive.empty``, ``archive.unsafe``, and what `members` raises.
    """
    entries: dict[str, _Entry] = {}
    mark = 0
    for item in members:
        if isinstance(item, bytes):
            yield item
            continue
        before = entries.pop(item.path, None)  # so that the later one stands last
        if item.same_as:
            entries[item.path] = _linked(item, before if item.same_as == item.path else entries.get(item.same_as))
            continue
        mark += 1
        entries[item.path] = _Entry(item.mode, mark, item.spare_folders)
        yield b"%sblob\nmark :%d\ndata %d\n" % (b"\n" if mark > 1 else b"", mark, item.size)
    if not entries:
        raise UserError("archive.empty", "The archive holds no files.", "Put the app's files into it.")
    yield _header(commit, parent)
    strip = _common_folder(entries)
    for path, entry in entries.items():
        if strip and entry.mode == LINK and not entry.spare_folders:
            raise unsafe(path, "is a link that leads out of it")
        yield b"M %o :%d %s\n" % (entry.mode, entry.mark, _quoted(path[strip:]))
    yield b"\ndone\n"


def _linked(member: Member, original: _Entry | None) -> _Entry:
    if original is None:
        raise unsafe(member.path, "is a hard link to no file before it")
    return original


def _common_folder(paths: dict[str, _Entry]) -> int:
    """Return the length of ``folder/`` if one folder holds every file, else 0."""
    first = next(iter(paths)).partition("/")[0] + "/"
    return len(first) if all(path.startswith(first) for path in paths) else 0


def _header(commit: ArchiveCommit, parent: str | None) -> bytes:
    who = f"{_fit(commit.author) or 'nobody'} <{_fit(commit.email)}>".encode()
    message = commit.message.encode()
    lines = [
        b"\ncommit %s" % REF.encode(),
        b"committer %s %d +0000" % (who, int(commit.at)),
        b"data %d" % len(message),
        message,
    ]
    if parent is not None:
        lines += [b"from %s" % parent.encode(), b"deleteall"]
    return b"\n".join(lines) + b"\n"


def _fit(text: str) -> str:
    """Return `text` without what ends a name or an address in a commit."""
    return _UNFIT.sub("", text).strip()


def _quoted(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
