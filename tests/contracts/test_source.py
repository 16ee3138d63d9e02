"""What every source repository promises, asked of the fake and of real git alike."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from agent.errors import UserError
from agent.git.repos import GitRepos
from agent.ports.source import ArchiveCommit, SourceRepo
from proto.names import AppId
from tests.fakes.source import FakeRepos
from tests.support.git_client import Client

APP = AppId("acontracttest")
OTHER = AppId("bcontracttest")


class Stage(Protocol):
    """Repositories, and somebody who pushes."""

    repos: SourceRepo

    def push(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        """Push a commit to `APP`; return its id."""
        ...


class FakeStage:
    """Fulfils `Stage` without git."""

    def __init__(self) -> None:
        self._fake = FakeRepos()
        self.repos: SourceRepo = self._fake
        self._count = 0

    def push(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        self._count += 1
        commit = f"{self._count:040x}"
        self._fake.put(APP, commit, files, branch=branch)
        return commit


class GitStage:
    """Fulfils `Stage` with real git."""

    def __init__(self, folder: Path) -> None:
        self._git = GitRepos(folder / "repos")
        self.repos: SourceRepo = self._git
        self._client = Client(folder / "client.git")

    def push(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        commit = self._client.commit(dict(files), branch=branch)
        pushed = self._client.push(self._git.path(APP), branch)
        assert pushed.returncode == 0, pushed.stderr
        return commit


@pytest.fixture(params=["fake", "git"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    stage: Stage = FakeStage() if request.param == "fake" else GitStage(tmp_path)
    await stage.repos.create(APP)
    return stage


async def test_an_empty_repository_has_no_branches(stage: Stage) -> None:
    await stage.repos.create(APP)
    assert await stage.repos.branches(APP) == []
    assert await stage.repos.tip(APP, "main") is None


async def test_what_was_pushed_is_there(stage: Stage) -> None:
    first = stage.push({"Procfile": "web: one"})
    second = stage.push({"Procfile": "web: two", "a/b": "c"}, branch="dev")
    await stage.repos.sync(APP)
    await stage.repos.tidy(APP, kept=())
    assert await stage.repos.left_over(APP) == 0 == await stage.repos.left_over(AppId("anone"))
    assert await stage.repos.branches(APP) == ["dev", "main"]
    assert (await stage.repos.tip(APP, "main"), await stage.repos.tip(APP, "dev")) == (first, second)
    described = await stage.repos.describe(APP, second)
    assert described is not None
    assert (described.id, described.subject) == (second, "A change")
    tree = stage.repos.tree(APP, second)
    assert tree.commit == second
    assert {entry.path: entry.size for entry in await tree.entries()} == {"Procfile": 8, "a/b": 1}
    assert (await tree.read("Procfile"), await tree.read("missing")) == (b"web: two", None)
    assert await tree.notes() == []
    assert b"a/b" in b"".join([piece async for piece in tree.archive()])


async def test_a_file_above_the_limit_is_refused(stage: Stage) -> None:
    tree = stage.repos.tree(APP, stage.push({"big": "x" * 11}))
    with pytest.raises(UserError) as refused:
        await tree.read("big", limit=10)
    assert refused.value.code == "source.file-too-large"


async def test_a_commit_that_is_not_there_is_refused_on_reading(stage: Stage) -> None:
    assert await stage.repos.describe(APP, "f" * 40) is None
    tree = stage.repos.tree(APP, "f" * 40)
    for reading in (tree.entries(), tree.read("a")):
        with pytest.raises(UserError) as refused:
            await reading
        assert refused.value.code == "source.no-such-commit"


async def test_what_is_removed_does_not_come_back(stage: Stage) -> None:
    commit = stage.push({"a": "1"})
    await stage.repos.remove(APP)
    await stage.repos.remove(APP)
    await stage.repos.create(APP)
    assert await stage.repos.branches(APP) == []
    assert await stage.repos.describe(APP, commit) is None


async def test_an_app_sees_only_its_own(stage: Stage) -> None:
    commit = stage.push({"a": "1"})
    await stage.repos.create(OTHER)
    assert await stage.repos.branches(OTHER) == []
    assert await stage.repos.describe(OTHER, commit) is None


async def _taken(stage: Stage, files: Mapping[str, str], *, branch: str = "main") -> str:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))

    async def upload() -> AsyncIterator[bytes]:
        yield made.getvalue()

    how = ArchiveCommit(branch=branch, author="Ada", email="", message="An archive", at=1_700_000_000.0)
    return await stage.repos.import_archive(APP, upload(), how)


async def test_an_archive_becomes_the_branch_and_replaces_what_was_pushed(stage: Stage) -> None:
    stage.push({"Procfile": "web: one", "old": "1"})
    commit = await _taken(stage, {"Procfile": "web: two", "a/b": "c"})
    assert await stage.repos.tip(APP, "main") == commit
    tree = stage.repos.tree(APP, commit)
    assert [entry.path for entry in await tree.entries()] == ["Procfile", "a/b"]
    assert await tree.read("Procfile") == b"web: two"


async def test_an_archive_of_what_is_there_leaves_the_tip_alone(stage: Stage) -> None:
    pushed = stage.push({"Procfile": "web: one", "a": "1"})
    assert await _taken(stage, {"Procfile": "web: one", "a": "1"}) == pushed


async def test_an_archive_may_make_a_branch(stage: Stage) -> None:
    commit = await _taken(stage, {"a": "1", "b": "2"}, branch="production")
    assert await stage.repos.branches(APP) == ["production"]
    assert await stage.repos.tip(APP, "production") == commit
