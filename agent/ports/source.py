"""Port: the git repositories that pushes land in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import Literal, Protocol

import msgspec

from proto.names import AppId


class TreeEntry(msgspec.Struct, frozen=True):
    """One file of a commit."""

    path: str
    """Relative to the root, ``/`` between parts, never ``..`` or absolute (git refuses those trees)."""
    mode: int
    """``0o100644``, ``0o100755``, ``0o120000`` (symbolic link) or ``0o160000`` (submodule)."""
    size: int
    """Bytes of the blob; 0 for a submodule."""
    blob: str
    """Object id."""


class Commit(msgspec.Struct, frozen=True):
    """What the first lines of ``git log`` tell."""

    id: str
    author: str
    subject: str
    """First line of the message. Hostile text like all the rest."""


ArchiveKind = Literal["tar", "tar.gz", "zip"]


class ArchiveCommit(msgspec.Struct, frozen=True, kw_only=True):
    """How the files of an archive become a commit."""

    branch: str
    """What it is put on; made if there is none."""
    kind: ArchiveKind | None = None
    """What the archive is said to be; `None`: see what it is."""
    author: str
    email: str
    message: str
    at: float
    """Unix seconds."""


class SourceTree(Protocol):
    """The files of one commit, read from git's object store. There is no work tree on the host, ever."""

    @property
    def commit(self) -> str:
        """The full object id of the commit."""
        ...

    async def entries(self) -> list[TreeEntry]:
        """Return every file.

        Raises:
            UserError: ``source.too-large`` etc., the tree breaks a cap (files, depth, path length, blob, total).
        """
        ...

    async def read(self, path: str, *, limit: int = 1_000_000) -> bytes | None:
        """Return the content of the regular file at `path`, or `None` if there is none.

        Raises:
            UserError: ``source.file-too-large``, it has more than `limit` bytes.
        """
        ...

    def archive(self, *, folder: str = "") -> AsyncGenerator[bytes, None]:
        """Yield the tar stream of ``git archive`` (of `folder` alone, if given), export-ignore and export-subst undone.

        Names are relative to the root of the repository, and times are the commit's, so that the same commit always
        gives the same bytes. Closing the generator ends the git process: do so (``contextlib.aclosing``). Calls
        `entries`, which checks the caps.
        """
        ...

    def git_folder(self, *, name: str) -> AsyncGenerator[bytes, None]:
        """Yield tar members, without an end, of a ``.git`` called `name` that holds the commit alone.

        It is one commit deep and knows no remote, no branch and no user. Close the generator as that of `archive`.
        """
        ...

    async def notes(self) -> list[str]:
        """Return what a build of this commit will miss, in sentences for the user: submodules, files of Git LFS."""
        ...


class SourceRepo(Protocol):
    """Bare repositories, one per app, in folders named by app id."""

    async def create(self, app: AppId) -> None:
        """Make the app's repository and sync it to disk. Repeating is harmless.

        Raises:
            Unavailable: ``disk.full``; nothing was made.
        """
        ...

    async def remove(self, app: AppId) -> None:
        """Delete the repository. Repeating is harmless."""
        ...

    async def tip(self, app: AppId, branch: str) -> str | None:
        """Return the commit id that ``refs/heads/<branch>`` points at, or `None`."""
        ...

    async def branches(self, app: AppId) -> list[str]:
        """Return the names of all branches, sorted."""
        ...

    async def set_head(self, app: AppId, branch: str) -> None:
        """Point HEAD at ``refs/heads/<branch>``, so that clones check it out and git refuses to delete it."""
        ...

    async def describe(self, app: AppId, commit: str) -> Commit | None:
        """Return the commit, or `None` if the repository does not have it."""
        ...

    def tree(self, app: AppId, commit: str) -> SourceTree:
        """Return a reader of the commit's files.

        Reading raises ``UserError`` (``source.no-such-commit``) if the commit is not there.
        """
        ...

    async def import_archive(self, app: AppId, upload: AsyncIterator[bytes], commit: ArchiveCommit) -> str:
        """Make a commit of the files in an archive, and no others, on top of its branch; return the branch's tip.

        That is the old tip if the archive holds just its files. Nothing changes if anything is wrong. A folder that
        holds everything is taken for the root. Members that lead out of the archive, by name or link, are refused.

        Raises:
            UserError: ``archive.…`` or ``source.…``: the archive is not taken; or ``source.moved``, the branch was
                moved by somebody else meanwhile.
            Unavailable: ``disk.full``, ``archive.slow`` or ``git.…``.
        """
        ...

    async def sync(self, app: AppId) -> None:
        """Return once all that git wrote so far is on disk, the names of new files too.

        Called after git has taken a push and before the push is acknowledged or its deploy recorded.
        """
        ...

    async def left_over(self, app: AppId) -> int:
        """Return the bytes of what killed pushes left in the app's repository, which `tidy` would remove."""
        ...

    async def tidy(self, app: AppId, *, kept: Collection[str]) -> None:
        """Remove what killed pushes left, and repack when it is worth it. Safe beside pushes; repeating is harmless.

        `kept`: commits that may be built again. The submodules' files that others were fetched with are let go, unless
        a branch ends there.
        """
        ...

    async def collect(self, app: AppId, *, kept: Collection[str]) -> None:
        """Do as `tidy`, and repack in any case. Waits for a push of the app, and has others wait meanwhile.

        Repeating is harmless.

        Raises:
            Unavailable: ``git.…``, it took too long or failed, or ``disk.full``. The repository is as good as before.
        """
        ...


class Downloads(Protocol):
    """What lies at URLs."""

    def fetch(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yield what is at `url` (http or https), as it comes. Close the generator to end it.

        Raises:
            UserError: ``download.invalid``, ``download.has-password``, ``download.forbidden`` (a link-local address),
                ``download.failed``; the text names the URL without its query.
        """
        ...
