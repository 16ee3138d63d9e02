"""The ``.git`` that a build may get is one that git can use, and has nothing but the commit in it. Real git."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from agent.builders.context import GIT_DIR_MARK, ContextPlan, context
from agent.builders.dockerfile import ignored_in
from agent.git.repos import GitRepos
from proto.names import AppId
from tests.git.conftest import APP
from tests.support.git_client import EXECUTABLE, Client

FILES = {"Dockerfile": "FROM scratch\n", "bin/run": (EXECUTABLE, b"#!/bin/sh\n"), "a b/ü": "1"}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}


async def unpacked(repos: GitRepos, commit: str, plan: ContextPlan, folder: Path) -> bytes:
    content = b"".join([piece async for piece in context(repos.tree(APP, commit), plan)])
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
    return content


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.strip()


async def pushed(client: Client, repos: GitRepos, app: AppId) -> tuple[str, str]:
    first = client.commit({**FILES, "secret-of-old": "history"}, message="First")
    second = client.commit(FILES, message="Second")
    client.git("update-ref", "refs/heads/main", first)
    child = client.git("commit-tree", "-p", first, "-m", "Second", f"{second}^{{tree}}").decode().strip()
    client.git("update-ref", "refs/heads/main", child)
    assert client.push(repos.path(app), "main").returncode == 0
    return first, child


async def test_git_tells_a_build_which_commit_it_is_and_that_nothing_was_changed(
    client: Client, repos: GitRepos, tmp_path: Path
) -> None:
    first, commit = await pushed(client, repos, APP)
    folder = tmp_path / "context"
    content = await unpacked(repos, commit, ContextPlan(has_git_dir=True), folder)
    assert git(folder, "rev-parse", "HEAD") == commit
    assert git(folder, "log", "--format=%H %s") == f"{commit} Second"
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "describe", "--always", "--dirty") == commit[:7]
    assert git(folder, "fsck") == ""
    # Nothing of the history, of the server, or of anybody's configuration.
    known = git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    assert first not in known and len(known) == 1 + 3 + 3
    assert sorted(path.name for path in (folder / ".git").iterdir()) == [
        *("HEAD", "config", "index", "objects", "refs", "shallow"),
    ]
    assert str(tmp_path).encode() not in content
    assert [path.name for path in repos.path(APP).parent.iterdir()] == [APP]
    # The engine's cache needs the same bytes each time.
    assert await unpacked(repos, commit, ContextPlan(has_git_dir=True), tmp_path / "again") == content


async def test_the_git_folder_is_beside_the_files_of_a_language_and_stays_away_where_it_is_ignored(
    client: Client, repos: GitRepos, tmp_path: Path
) -> None:
    _, commit = await pushed(client, repos, APP)
    inner = ContextPlan(has_git_dir=True, inner="source", added={"Dockerfile": b"FROM scratch\n"})
    await unpacked(repos, commit, inner, tmp_path / "inner")
    assert git(tmp_path / "inner" / "source", "status", "--porcelain") == ""
    ignoring = client.commit({**FILES, ".dockerignore": ".git\n"}, branch="ignoring")
    assert client.push(repos.path(APP), "ignoring").returncode == 0
    ignored = await ignored_in(repos.tree(APP, ignoring), folder="", dockerfile="Dockerfile")
    assert ignored == {GIT_DIR_MARK}
    for plan in (ContextPlan(), ContextPlan(has_git_dir=True, ignored=ignored)):
        content = await unpacked(repos, commit, plan, tmp_path / "none")
        assert b".git/" not in content
