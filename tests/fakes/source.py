"""Repositories of dictionaries."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from pathlib import Path

from agent.errors import UserError
from agent.ports.source import ArchiveCommit, Commit, SourceTree, TreeEntry
from agent.ports.turns import Turns
from agent.sanitise import quoted, without_query
from proto.names import AppId


class FakeTree:
    """Fulfils ``SourceTree``."""

    def __init__(self, commit: str, files: Mapping[str, bytes]) -> None:
        self._commit = commit
        self._files = files

    @property
    def commit(self) -> str:
        return self._commit

    async def entries(self) -> list[TreeEntry]:
        return [TreeEntry(path, 0o100644, len(body), "0" * 40) for path, body in sorted(self._files.items())]

    async def read(self, path: str, *, limit: int = 1_000_000) -> bytes | None:
        content = self._files.get(path)
        if content is not None and len(content) > limit:
            raise UserError("source.file-too-large", f"{path} is too large.")
        return content

    async def archive(self, *, folder: str = "") -> AsyncGenerator[bytes, None]:
        for path in self._files:
            yield path.encode()

    async def git_folder(self, *, name: str) -> AsyncGenerator[bytes, None]:
        yield f"{name}/HEAD {self._commit}".encode()

    async def notes(self) -> list[str]:
        return []


class MissingTree(FakeTree):
    """A tree of a commit that the repository does not have."""

    async def entries(self) -> list[TreeEntry]:
        raise UserError("source.no-such-commit", "There is no such commit.")

    async def read(self, path: str, *, limit: int = 1_000_000) -> bytes | None:
        raise UserError("source.no-such-commit", "There is no such commit.")


class FakeRepos:
    """Fulfils ``SourceRepo``. `put` is what a push does."""

    def __init__(self) -> None:
        self.commits: dict[tuple[AppId, str], dict[str, bytes]] = {}
        self.tips: dict[tuple[AppId, str], str] = {}
        self.heads: dict[AppId, str] = {}
        self.made: set[AppId] = set()
        self.collected: list[AppId] = []
        self.kept: dict[AppId, set[str]] = {}
        """The commits that were to be kept when an app's repository was last tidied."""
        self.left_by_pushes: dict[AppId, int] = {}
        """Bytes that killed pushes left in an app's repository."""
        self.turns = Turns()
        """Whose turn it is with an app's repository."""

    def path(self, app: AppId) -> Path:
        """Return where the repository would be, for programs that are fakes too."""
        return Path("/nonexistent/repos") / app

    def put(self, app: AppId, commit: str, files: Mapping[str, str], *, branch: str = "main") -> None:
        """Have a commit with these files, and the branch at it."""
        self.commits[app, commit] = {path: text.encode() for path, text in files.items()}
        self.tips[app, branch] = commit

    async def create(self, app: AppId) -> None:
        self.made.add(app)

    def sweep(self, apps: Collection[AppId]) -> None:
        """Remove what is of no app, as the agent does at its start (``agent.git.receive.sweep_incoming``)."""
        self.made &= set(apps)
        self.commits = {key: files for key, files in self.commits.items() if key[0] in apps}
        self.tips = {key: commit for key, commit in self.tips.items() if key[0] in apps}
        self.heads = {app: branch for app, branch in self.heads.items() if app in apps}

    async def remove(self, app: AppId) -> None:
        self.made.discard(app)
        self.commits = {key: files for key, files in self.commits.items() if key[0] != app}
        self.tips = {key: commit for key, commit in self.tips.items() if key[0] != app}
        self.heads.pop(app, None)
        self.kept.pop(app, None)

    async def tip(self, app: AppId, branch: str) -> str | None:
        return self.tips.get((app, branch))

    async def branches(self, app: AppId) -> list[str]:
        return sorted(branch for owner, branch in self.tips if owner == app)

    async def set_head(self, app: AppId, branch: str) -> None:
        self.heads[app] = branch

    async def describe(self, app: AppId, commit: str) -> Commit | None:
        return Commit(commit, "Ada <ada@example.com>", "A change") if (app, commit) in self.commits else None

    def tree(self, app: AppId, commit: str) -> SourceTree:
        files = self.commits.get((app, commit))
        return MissingTree(commit, {}) if files is None else FakeTree(commit, files)

    async def import_archive(self, app: AppId, upload: AsyncIterator[bytes], commit: ArchiveCommit) -> str:
        content = io.BytesIO(b"".join([chunk async for chunk in upload]))
        try:
            with tarfile.open(fileobj=content) as archive:
                files = {info.name: _bytes(archive, info) for info in archive if info.isfile()}
        except tarfile.TarError as error:
            raise UserError("archive.broken", "This is not a whole tar archive.", "Make it anew.") from error
        tip = self.tips.get((app, commit.branch))
        if tip is not None and self.commits[app, tip] == files:
            return tip
        new = hashlib.sha1(repr((tip, sorted(files.items()))).encode()).hexdigest()
        self.commits[app, new] = files
        self.tips[app, commit.branch] = new
        return new

    async def sync(self, app: AppId) -> None:
        return None

    async def collect(self, app: AppId, *, kept: Collection[str]) -> None:
        self.collected.append(app)
        self.kept[app] = set(kept)

    async def left_over(self, app: AppId) -> int:
        return self.left_by_pushes.get(app, 0)

    async def tidy(self, app: AppId, *, kept: Collection[str]) -> None:
        self.kept[app] = set(kept)
        self.left_by_pushes.pop(app, None)


class FakeDownloads:
    """Fulfils ``Downloads`` from a dictionary."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []

    async def fetch(self, url: str) -> AsyncGenerator[bytes, None]:
        self.asked.append(url)
        if url not in self.pages:
            place = quoted(without_query(url))
            raise UserError("download.failed", f"{place} cannot be fetched: nobody answers there.", "Look at it.")
        yield self.pages[url]


def _bytes(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(info)
    assert content is not None
    return content.read()
