from __future__ import annotations

from pathlib import Path

import pytest

from agent.git.repos import GitRepos
from proto.names import AppId
from tests.support.git_client import Client

APP = AppId("aaaaaaaaaaaa")


@pytest.fixture
def app() -> AppId:
    return APP


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "client.git")


@pytest.fixture
async def repos(tmp_path: Path) -> GitRepos:
    repos = GitRepos(tmp_path / "repos")
    await repos.create(APP)
    return repos
