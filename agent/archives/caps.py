"""What a source tree may hold, counted while it is read, so that reading stops at the first thing that is too much."""

from __future__ import annotations

import msgspec

from agent.errors import UserError


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What a tree may hold. Each default is far above real projects and far below what hurts a small server."""

    entries: int = 100_000
    """Files, symbolic links, submodules and folders."""
    depth: int = 100
    """Folders above a file, or above a folder."""
    path_bytes: int = 4_096
    """Of a whole path: PATH_MAX of Linux."""
    blob_bytes: int = 1 << 30
    total_bytes: int = 2 << 30
    """Of all files together, as they unfold."""


class Tally:
    """Counts the entries of one tree against the caps. Each method raises ``UserError`` ``source.too-large``."""

    def __init__(self, caps: Caps, *, thing: str) -> None:
        """`thing` is what is read, for messages: ``commit``, ``archive``."""
        self.caps = caps
        self._thing = thing
        self._count = 0
        self._total = 0

    def entry(self, path: bytes) -> None:
        """Count a file or folder."""
        self._count += 1
        if self._count > self.caps.entries:
            raise too_large(f"The {self._thing} has more than {self.caps.entries:,} files and folders.")
        self.path(path)

    def path(self, path: bytes) -> None:
        """Look at a path, or at the beginning of one."""
        start = path[:80].decode("utf-8", "replace")
        if len(path) > self.caps.path_bytes:
            raise too_large(f"A path has more than {self.caps.path_bytes:,} bytes: {start}…")
        if path.count(b"/") > self.caps.depth:
            raise too_large(f"A path is more than {self.caps.depth} folders deep: {start}…")

    def file(self, path: str, *, size: int) -> None:
        """Count the bytes of a file."""
        self._total += size
        if size > self.caps.blob_bytes:
            raise too_large(f"{shown(path)} is larger than {in_units(self.caps.blob_bytes)}.")
        if self._total > self.caps.total_bytes:
            raise too_large(f"The files of the {self._thing} are larger than {in_units(self.caps.total_bytes)} in all.")


def shown(path: str) -> str:
    """Return `path` as text that any stream can encode (names in git are bytes)."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def in_units(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count} bytes"


def too_large(message: str) -> UserError:
    """Return the error of a source that breaks a cap."""
    return UserError("source.too-large", message, "Leave out of it what the app does not need.")
