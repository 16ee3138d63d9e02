"""The files of one commit, read from git's object store; there is never a work tree on the host.

``git ls-tree`` walks the tree first, streamed, against caps on files, depth, path length, blob and total size: a
pack of a megabyte can unfold to a gigabyte of zeros, or to millions of folders. Folders are counted too, for a tree
of nothing but empty folders names no file and takes for ever. Only a tree that passed is read or archived.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import accumulate
from pathlib import Path

from agent.archives.caps import Caps, Tally, shown
from agent.errors import Unavailable, UserError
from agent.git.environment import command
from agent.git.git_folder import git_folder
from agent.git.process import READ_SECONDS, GitFailed, output, started
from agent.git.whole import standing_in
from agent.ports.source import TreeEntry

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SUBMODULE = 0o160000
"""Mode of a link to a commit of another repository."""
_REGULAR = (0o100644, 0o100755, 0o100664)
"""Modes of regular files. 0o100664 is in old histories; fsck refuses it in new pushes."""

_LISTED_AT_ONCE = 32 * 1024
"""Bytes of the listing read before others get their turn: some hundred files."""

_LFS_LINE = b"version https://git-lfs.github.com/spec/v1"
_LFS_SIZES = range(100, 201)
"""Bytes of a pointer file of Git LFS: three short lines, of which only the object's size varies."""
_LFS_LOOKED_AT = 50
_SMALL = 65_536
"""Bytes of a file that is read along with others: a manifest, not a lock file."""
_FOLDER_BYTES = 512 * 1024
_FOLDER_FILES = 64
"""How much of a folder is read at once, the smallest files first. A process of git costs some milliseconds, and whoever
reads one manifest asks for others beside it."""
_NAMED = 3
"""How many paths a note names before it says "and n more"."""


class GitTree:
    """Implements ``SourceTree`` by git. The walk is done once, its result kept."""

    def __init__(self, git_dir: Path, *, commit: str, caps: Caps | None = None) -> None:
        self._git_dir = git_dir
        self._commit = commit
        self._caps = caps or Caps()
        self._read = commit
        """What is read: `commit`, or what stands in for it (`agent.git.whole`). Known once `entries` was called."""
        self._entries: list[TreeEntry] | None = None
        self._regular: dict[str, TreeEntry] = {}
        """The regular files, by path."""
        self._contents: dict[str, bytes] = {}
        """What was read along with something else, by object id."""
        self._walking = asyncio.Lock()

    @property
    def commit(self) -> str:
        """The full object id of the commit."""
        return self._commit

    async def entries(self) -> list[TreeEntry]:
        """See ``SourceTree.entries``. Folders are walked and counted, but not returned."""
        async with self._walking:
            if self._entries is None:
                self._entries = await self._walk()
                self._regular = {entry.path: entry for entry in self._entries if entry.mode in _REGULAR}
        return self._entries

    async def read(self, path: str, *, limit: int = 1_000_000) -> bytes | None:
        """See ``SourceTree.read``."""
        await self.entries()
        entry = self._regular.get(path)
        if entry is None:
            return None
        if entry.size > limit:
            message = f"{shown(path)} has {entry.size:,} bytes; Pushboat reads at most {limit:,} of it."
            raise UserError("source.file-too-large", message, "Is it really the file you mean?")
        if entry.size > _SMALL:
            return await output(command(self._git_dir, "cat-file", "blob", entry.blob), limit=limit)
        if entry.blob not in self._contents:
            await self._hold([entry, *self._beside(entry)])
        return self._contents[entry.blob]

    async def archive(self, *, folder: str = "") -> AsyncGenerator[bytes, None]:
        """See ``SourceTree.archive``."""
        await self.entries()
        # Anything but the commit itself would be dated "now", and no rebuild would ever hit the cache.
        arguments = ["archive", "--format=tar", self._read, *(["--", folder] if folder else [])]
        async with started(command(self._git_dir, "-c", "tar.umask=0022", *arguments)) as git:
            while data := await git.read():
                yield data
            await git.finish()

    async def git_folder(self, *, name: str) -> AsyncGenerator[bytes, None]:
        """See ``SourceTree.git_folder``."""
        await self.entries()
        async with aclosing(git_folder(self._git_dir, self._commit, name=name)) as members:
            async for data in members:
                yield data

    async def notes(self) -> list[str]:
        """See ``SourceTree.notes``."""
        entries = await self.entries()
        notes = []
        if submodules := [entry.path for entry in entries if entry.mode == SUBMODULE]:
            notes.append(
                f"Submodules are not fetched: {_listed(submodules)} will be missing. If the build needs them, "
                "deploy with git:sync, which fetches them, or add the files to this repository (git subtree does it)."
            )
        if pointers := await self._lfs_pointers():
            notes.append(
                f"Files of Git LFS are not fetched: the build sees only the pointers of {_listed(pointers)}. "
                "Store the files in git itself (git lfs migrate export) if the build needs them."
            )
        return notes

    async def _walk(self) -> list[TreeEntry]:
        if not _COMMIT.fullmatch(self._commit):
            raise _no_such_commit(self._commit)
        self._read = await standing_in(self._git_dir, self._commit)
        walk = _Walk(self._caps)
        # -t names folders as well, so that a tree of empty folders reaches the cap.
        listing = command(self._git_dir, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", self._read)
        try:
            async with asyncio.timeout(READ_SECONDS), started(listing) as git:
                while data := await git.read(_LISTED_AT_ONCE):
                    walk.feed(data)
                await git.finish()
        except GitFailed as error:
            if error.status == 128:
                raise _no_such_commit(self._commit) from error
            raise
        except TimeoutError as error:
            raise Unavailable("git.slow", f"The files of {self._commit[:8]} could not be listed in time.") from error
        return walk.entries

    async def _lfs_pointers(self) -> list[str]:
        named = [entry for path, entry in self._regular.items() if path.rpartition("/")[2] == ".gitattributes"]
        attributes = [entry for entry in named[:_LFS_LOOKED_AT] if entry.size <= _SMALL]
        await self._hold(attributes)
        if not any(b"filter=lfs" in self._contents[entry.blob] for entry in attributes):
            return []
        candidates = [entry for entry in self._regular.values() if entry.size in _LFS_SIZES][:_LFS_LOOKED_AT]
        await self._hold(candidates)
        return [entry.path for entry in candidates if self._contents[entry.blob].startswith(_LFS_LINE)]

    def _beside(self, entry: TreeEntry) -> list[TreeEntry]:
        """Return the small files in the folder of `entry`, within bounds; itself is one of them, or not."""
        folder = entry.path.rpartition("/")[0]
        near = [each for path, each in self._regular.items() if path.rpartition("/")[0] == folder]
        near = sorted((each for each in near if each.size <= _SMALL), key=lambda each: each.size)
        sizes = accumulate(each.size for each in near)
        return [each for each, total in zip(near[:_FOLDER_FILES], sizes, strict=False) if total <= _FOLDER_BYTES]

    async def _hold(self, small: list[TreeEntry]) -> None:
        """Read the contents of these files by one process, unless they are known."""
        wanted = {entry.blob: entry.size for entry in small if entry.blob not in self._contents}
        if not wanted:
            return
        asked = "".join(f"{blob}\n" for blob in wanted).encode()
        answer = await output(command(self._git_dir, "cat-file", "--batch"), limit=8 << 20, stdin=asked)
        position = 0
        for blob, size in wanted.items():
            start = answer.index(b"\n", position) + 1
            self._contents[blob] = answer[start : start + size]
            position = start + size + 1


class _Walk:
    """Reads ``ls-tree -r -t -l -z`` as it comes, and stops at the first broken cap."""

    def __init__(self, caps: Caps) -> None:
        self.entries: list[TreeEntry] = []
        self._tally = Tally(caps, thing="commit")
        self._longest_record = caps.path_bytes + 200
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *records, self._rest = (self._rest + data).split(b"\0")
        for record in records:
            self._add(record)
        if len(self._rest) > self._longest_record:
            self._tally.path(self._rest.partition(b"\t")[2])

    def _add(self, record: bytes) -> None:
        facts, _, path = record.partition(b"\t")
        mode, kind, blob, size = facts.split()
        self._tally.entry(path)
        if kind == b"tree":
            return
        entry = TreeEntry(
            path=path.decode("utf-8", "surrogateescape"),
            mode=int(mode, 8),
            size=int(size) if kind == b"blob" else 0,
            blob=blob.decode("ascii"),
        )
        self._tally.file(entry.path, size=entry.size)
        self.entries.append(entry)


def _listed(paths: list[str]) -> str:
    named = ", ".join(shown(path) for path in paths[:_NAMED])
    return named if len(paths) <= _NAMED else f"{named} and {len(paths) - _NAMED} more"


def _no_such_commit(commit: str) -> UserError:
    return UserError("source.no-such-commit", f"The app's repository has no commit {commit[:12]}.", "Push it again.")
