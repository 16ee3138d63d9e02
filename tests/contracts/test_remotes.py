"""What every way to repositories elsewhere promises, asked of the fake and of real git over real https alike."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from agent.errors import UserError
from agent.git.remotes import GitRemotes
from agent.git.repos import GitRepos
from agent.ports.remotes import Access, Fetched, Remotes, Wanted, parse_address
from agent.ports.source import SourceRepo
from proto.names import AppId
from tests.fakes.remotes import FakeRemotes
from tests.fakes.source import FakeRepos
from tests.support.git_client import Client
from tests.support.git_servers import https_server

APP = AppId("acontracttest")


class Stage(Protocol):
    """A repository elsewhere, and Pushboat's own."""

    repos: SourceRepo
    remotes: Remotes
    url: str

    def have(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        """Have a commit on a branch there; return its id."""
        ...

    def tag(self, name: str, commit: str) -> None:
        """Have a tag there."""
        ...


class FakeStage:
    """Fulfils `Stage` without git."""

    url = "https://git.example.com/app.git"

    def __init__(self) -> None:
        self._repos = FakeRepos()
        self._fake = FakeRemotes(self._repos)
        self.repos: SourceRepo = self._repos
        self.remotes: Remotes = self._fake
        self._files: dict[str, Mapping[str, str]] = {}

    def have(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        commit = f"{len(self._files) + 1:040x}"
        self._files[commit] = files
        self._fake.have(self.url, commit, files, ref=branch)
        return commit

    def tag(self, name: str, commit: str) -> None:
        self._fake.have(self.url, commit, self._files[commit], ref=name, kind="tag")


class GitStage:
    """Fulfils `Stage` with real git."""

    def __init__(self, folder: Path, url: str, ca_file: Path) -> None:
        repos = GitRepos(folder / "repos")
        self.url = url
        self.repos: SourceRepo = repos
        self.remotes: Remotes = GitRemotes(repos, ca_file=str(ca_file))
        self._there = Client(folder / "app.git")
        self._there.git("symbolic-ref", "HEAD", "refs/heads/main")

    def have(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        return self._there.commit(dict(files), branch=branch)

    def tag(self, name: str, commit: str) -> None:
        self._there.git("update-ref", f"refs/tags/{name}", commit)


@pytest.fixture(params=["fake", "git"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "fake":
            yield FakeStage()
        else:
            server = await stack.enter_async_context(https_server(tmp_path))
            yield GitStage(tmp_path, server.url("app.git"), server.ca_file)


async def fetch(stage: Stage, ref: str = "", *, onto: str = "", otherwise: str = "main") -> Fetched:
    wanted = Wanted(address=parse_address(stage.url), ref=ref, onto=onto, otherwise=otherwise)

    async def tell(line: str) -> None:
        assert line.startswith("       ")

    return await stage.remotes.fetch(APP, wanted, access=Access(), tell=tell)


async def test_a_branch_moves_the_branch_of_its_name_or_the_one_that_is_said(stage: Stage) -> None:
    first = stage.have({"a": "1"})
    got = await fetch(stage)
    assert (got.commit, got.kind, got.name, got.branch, got.before) == (first, "branch", "main", "main", None)
    assert (await fetch(stage, "main")).before == first
    second = stage.have({"a": "2"}, branch="next")
    got = await fetch(stage, "next", onto="main")
    assert (got.commit, got.name, got.branch, got.before) == (second, "next", "main", first)
    assert await stage.repos.branches(APP) == ["main"] and await stage.repos.tip(APP, "main") == second
    assert await stage.repos.tree(APP, second).read("a") == b"2"


async def test_a_tag_goes_where_it_is_told_to(stage: Stage) -> None:
    commit = stage.have({"a": "1"})
    stage.tag("v1", commit)
    got = await fetch(stage, "v1", otherwise="production")
    assert (got.commit, got.kind, got.branch) == (commit, "tag", "production")
    assert await stage.repos.branches(APP) == ["production"]


async def test_a_ref_that_is_not_there_changes_nothing(stage: Stage) -> None:
    stage.have({"a": "1"})
    with pytest.raises(UserError) as refused:
        await fetch(stage, "nope")
    assert refused.value.code == "git.no-ref"
    assert await stage.repos.branches(APP) == []
