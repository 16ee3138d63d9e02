"""Bare repositories, one per app, in folders named by app id.

A repository appears whole or not at all: it is made under another name, synced to disk, and renamed. It goes the
same way. Git syncs the objects and refs that it writes but not the folders that name them, so `GitRepos.sync` does:
only then is a push on disk.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import structlog

from agent.archives.caps import Caps
from agent.errors import Unavailable, UserError
from agent.git.environment import MAX_PUSH_BYTES, command
from agent.git.imports import import_archive
from agent.git.locks import remove_locks
from agent.git.process import GitFailed, output
from agent.git.refs import HEADS, is_branch_name
from agent.git.tree import GitTree
from agent.git.whole import drop_unneeded
from agent.ports.source import ArchiveCommit, Commit
from agent.ports.turns import Turns
from proto.names import AppId

_APP_ID = re.compile(r"[a-z0-9]{1,64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_ATTRIBUTES = "* -export-ignore -export-subst\n"
"""What is pushed is what is built: these attributes are meant for release tarballs. This file outranks the tree's."""

_ANSWER = 1 << 20
"""Bytes of an answer about one ref or commit; a commit's subject can be long."""
_BRANCHES = 64 << 20
_SUBJECT = 500
"""Characters of a subject that are kept; nobody reads more on one line."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = os.strerror(errno.ENOSPC)
"""How git, whose messages are not translated here, ends its own."""

log = structlog.get_logger(__name__)

_ABANDONED_SECONDS = 3_600
"""A quarantine folder untouched for this long belongs to a push that was killed."""
_TIDY_SECONDS = 900.0


class GitRepos:
    """Implements ``SourceRepo`` by git."""

    def __init__(self, folder: Path, *, caps: Caps | None = None, max_bytes: int = MAX_PUSH_BYTES) -> None:
        """`max_bytes`: of one archive as it comes."""
        self._folder = folder
        self.caps = caps or Caps()
        """What a commit may hold."""
        self._max_bytes = max_bytes
        self.turns = Turns()
        """Whose turn it is with an app's repository, by the app's id. Pushes take it, and so does `collect`."""

    def path(self, app: AppId) -> Path:
        """Return the folder of the app's repository, for ``environment.receive_pack`` and ``upload_pack``."""
        if not _APP_ID.fullmatch(app):
            raise ValueError(f"{app!r} is not an app id")
        return self._folder / app

    async def create(self, app: AppId) -> None:
        """See ``SourceRepo.create``. The first branch is ``main`` until `set_head` says otherwise."""
        target = self.path(app)
        if target.is_dir():
            return
        new = self.aside(app)
        try:
            with _full_disk_told():
                await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
                start = ("init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--object-format=sha1")
                await output(command(new, *start), limit=_ANSWER)
                await asyncio.to_thread(_complete, new, target)
        finally:
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)

    async def remove(self, app: AppId) -> None:
        """See ``SourceRepo.remove``."""
        await asyncio.to_thread(self._remove, app)

    async def tip(self, app: AppId, branch: str) -> str | None:
        """See ``SourceRepo.tip``."""
        if not is_branch_name(branch):
            return None
        try:
            # show-ref --verify takes the name as it stands; rev-parse would read `main~1` as an expression.
            show = command(self.path(app), "show-ref", "--verify", "--hash", "--", HEADS + branch)
            return (await output(show, limit=_ANSWER)).decode("ascii").strip()
        except GitFailed as error:
            if "not a valid ref" in error.error:
                return None
            raise

    async def branches(self, app: AppId) -> list[str]:
        """See ``SourceRepo.branches``."""
        listing = command(self.path(app), "for-each-ref", "--format=%(refname)", HEADS)
        answer = await output(listing, limit=_BRANCHES)
        return sorted(line.removeprefix(HEADS) for line in answer.decode("utf-8", "replace").splitlines())

    async def set_head(self, app: AppId, branch: str) -> None:
        """See ``SourceRepo.set_head``."""
        if not is_branch_name(branch):
            raise UserError("branch.invalid", f"{branch!r} cannot be the name of a branch.", "Pick a simpler name.")
        with _full_disk_told():
            await output(command(self.path(app), "symbolic-ref", "HEAD", HEADS + branch), limit=_ANSWER)
            await asyncio.to_thread(_sync_folders, [self.path(app)])

    async def describe(self, app: AppId, commit: str) -> Commit | None:
        """See ``SourceRepo.describe``."""
        if not _COMMIT.fullmatch(commit):
            return None
        form = (
            "log",
            "-1",
            "--no-show-signature",
            "--no-mailmap",
            "--encoding=UTF-8",
            "--format=%H%x00%an <%ae>%x00%s",
        )
        try:
            answer = await output(command(self.path(app), *form, commit, "--"), limit=_ANSWER)
        except GitFailed:
            return None
        id_, author, subject = answer.decode("utf-8", "replace").rstrip("\n").split("\0", 2)
        return Commit(id=id_, author=author[:_SUBJECT], subject=subject[:_SUBJECT])

    def tree(self, app: AppId, commit: str) -> GitTree:
        """See ``SourceRepo.tree``."""
        return GitTree(self.path(app), commit=commit, caps=self.caps)

    async def import_archive(self, app: AppId, upload: AsyncIterator[bytes], commit: ArchiveCommit) -> str:
        """See ``SourceRepo.import_archive``."""
        parent = await self.tip(app, commit.branch)
        return await import_archive(
            self.path(app),
            self.aside(app),
            upload,
            commit=commit,
            parent=parent,
            caps=self.caps,
            max_bytes=self._max_bytes,
        )

    async def sync(self, app: AppId) -> None:
        """See ``SourceRepo.sync``."""
        await asyncio.to_thread(_sync_repository, self.path(app))

    async def left_over(self, app: AppId) -> int:
        """See ``SourceRepo.left_over``."""
        return await asyncio.to_thread(_abandoned_bytes, self.path(app) / "objects", time.time() - _ABANDONED_SECONDS)

    async def tidy(self, app: AppId, *, kept: Collection[str]) -> None:
        """See ``SourceRepo.tidy``. A repository that git cannot pack is the matter of `faults` and of its app alone."""
        try:
            with _full_disk_told():
                await self._gc(app, "--auto", kept=kept)
        except GitFailed as error:
            log.warning("repository.not-tidied", app=app, reason=str(error))

    async def collect(self, app: AppId, *, kept: Collection[str]) -> None:
        """See ``SourceRepo.collect``."""
        async with self.turns.of(app):
            with _full_disk_told():
                await self._gc(app, kept=kept)

    async def _gc(self, app: AppId, *more: str, kept: Collection[str]) -> None:
        git_dir = self.path(app)
        if not git_dir.is_dir():
            return
        before = time.time() - _ABANDONED_SECONDS
        await asyncio.to_thread(_remove_abandoned, git_dir / "objects", before=before)
        await asyncio.to_thread(remove_locks, git_dir, before=before)
        await drop_unneeded(git_dir, kept=kept, before=before)
        # A deployed commit may be on no branch any more and still be rebuilt: months, not git's two weeks.
        options = ("gc.auto=1000", "gc.autoDetach=false", "gc.pruneExpire=3.months.ago", "pack.threads=1")
        arguments = [part for option in options for part in ("-c", option)]
        await output(command(git_dir, *arguments, "gc", "--quiet", *more), limit=_ANSWER, seconds=_TIDY_SECONDS)

    async def faults(self, app: AppId, *, commits: Collection[str]) -> list[str]:
        """Return what is wrong with the app's repository, which should have these commits. Reads its whole history."""
        git_dir = self.path(app)
        if not git_dir.is_dir():
            return ["is missing"]
        look = command(git_dir, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        try:
            await output(look, limit=_BRANCHES, seconds=_TIDY_SECONDS)
        except GitFailed as error:
            return [f"is damaged: {error.error[:_SUBJECT]}"]
        return [f"lacks commit {commit}" for commit in commits if await self.describe(app, commit) is None]

    async def strays(self, apps: Collection[AppId]) -> list[str]:
        """Return the names of folders that are the repository of none of `apps`.

        Not those that changed within the last hour: a first push may be under way, which makes the app when it ends.
        """
        return await asyncio.to_thread(_strays, self._folder, apps, before=time.time() - _ABANDONED_SECONDS)

    def aside(self, app: AppId) -> Path:
        """Return the path of a folder beside the app's, which does not exist. A start removes such leftovers."""
        # A dot keeps it out of every look-up: app ids have none.
        return self._folder / f".{app}.{uuid4().hex[:8]}"

    def _remove(self, app: AppId) -> None:
        target = self.path(app)
        if target.is_dir():
            target.rename(self.aside(app))
            _sync_folders([self._folder])
        for leftover in self._folder.glob(f".{app}.*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _complete(new: Path, target: Path) -> None:
    """Give a fresh repository its attributes, bring it to disk, and put it in its place."""
    (new / "info").mkdir(exist_ok=True)
    (new / "info" / "attributes").write_text(_ATTRIBUTES)
    new.chmod(0o700)
    for file in _files(new):
        _sync(file)
    _sync_folders(_folders(new))
    try:
        new.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise somebody else made it meanwhile
            raise
    _sync_folders([target.parent])


def _sync_repository(git_dir: Path) -> None:
    _sync_folders([git_dir, *_folders(git_dir / "refs"), *_folders(git_dir / "objects")])


@contextmanager
def _full_disk_told() -> Iterator[None]:
    """Raise ``Unavailable`` ``disk.full`` where we, or git, find no room in the block."""
    try:
        yield
    except (OSError, GitFailed) as error:
        is_full = _NO_ROOM in error.error if isinstance(error, GitFailed) else error.errno in _FULL
        if not is_full:
            raise
        raise Unavailable(
            "disk.full",
            "The disk that holds Pushboat's repositories is full; nothing was changed.",
            "Free some space and try again.",
        ) from error


def _abandoned(objects: Path, *, before: float) -> Iterable[Path]:
    """Yield the folders of objects that pushes which were killed were about to give to the repository."""
    for quarantine in objects.glob("tmp_objdir-*"):
        with suppress(FileNotFoundError):  # its push ended just now
            if max(entry.stat().st_mtime for entry in (quarantine, *quarantine.rglob("*"))) < before:
                yield quarantine


def _abandoned_bytes(objects: Path, before: float) -> int:
    sizes = 0
    for quarantine in _abandoned(objects, before=before):
        with suppress(FileNotFoundError):
            sizes += sum(path.lstat().st_blocks * 512 for path in (quarantine, *quarantine.rglob("*")))
    return sizes


def _remove_abandoned(objects: Path, *, before: float) -> None:
    for quarantine in _abandoned(objects, before=before):
        shutil.rmtree(quarantine, ignore_errors=True)


def _strays(folder: Path, apps: Collection[AppId], *, before: float) -> list[str]:
    if not folder.is_dir():
        return []
    unknown = [entry for entry in folder.iterdir() if entry.name not in apps and not entry.name.startswith(".")]
    return sorted(entry.name for entry in unknown if (age := _changed_at(entry)) is not None and age < before)


def _changed_at(git_dir: Path) -> float | None:
    """Return when something was last put into a repository, or `None` if it has gone."""
    with suppress(FileNotFoundError):
        return max(path.stat().st_mtime for path in (git_dir, git_dir / "objects") if path.exists())
    return None


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _folders(folder: Path) -> Iterable[Path]:
    yield folder
    yield from (path for path in folder.rglob("*") if path.is_dir())


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
