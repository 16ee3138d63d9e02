"""Reading commits, and refusing those that would hurt, by real git."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.archives.caps import Caps
from agent.errors import UserError
from agent.git.repos import GitRepos
from agent.git.tree import GitTree
from proto.names import AppId
from tests.support.git_client import EXECUTABLE, LINK, SUBMODULE, Client


def tree_of(client: Client, commit: str, **caps: int) -> GitTree:
    return GitTree(client.folder, commit=commit, caps=Caps(**caps))


async def unpacked(tree: GitTree, folder: str = "") -> dict[str, tarfile.TarInfo]:
    data = b"".join([chunk async for chunk in tree.archive(folder=folder)])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


async def test_entries_tell_every_file_with_mode_and_size(client: Client) -> None:
    commit = client.commit(
        {"a": "12345", "bin/run": (EXECUTABLE, b"#!"), "link": (LINK, b"a"), "sub": (SUBMODULE, b"1" * 40)}
    )
    entries = {entry.path: (entry.mode, entry.size) for entry in await tree_of(client, commit).entries()}
    assert entries == {"a": (0o100644, 5), "bin/run": (0o100755, 2), "link": (0o120000, 1), "sub": (0o160000, 0)}


async def test_names_that_are_hostile_or_not_utf8_come_through(client: Client) -> None:
    names = ["-rf", "a\nb", "tab\there", "größe", "lat\udce9n", " lead", "quote'\"", "$(id)"]
    commit = client.commit(dict.fromkeys(names, "x"))
    tree = tree_of(client, commit)
    assert sorted(entry.path for entry in await tree.entries()) == sorted(names)
    for name in names:
        assert await tree.read(name) == b"x"


async def test_read_gives_regular_files_only(client: Client) -> None:
    commit = client.commit({"Procfile": "web: x", "folder/file": "y", "link": (LINK, b"/etc/passwd")})
    tree = tree_of(client, commit)
    assert await tree.read("Procfile") == b"web: x"
    assert await tree.read("folder/file") == b"y"
    for path in ("link", "folder", "missing", "../Procfile", "/Procfile", "", "--help"):
        assert await tree.read(path) is None


async def test_files_of_a_folder_are_read_by_one_process_of_git(client: Client) -> None:
    """Whoever plans a build reads ten of them, and each process costs as much as they all."""
    large = b"x" * 100_000
    files = {"Procfile": "web: x", "package.json": "{}", "empty": "", "large": large, "app/other": "y"}
    tree = tree_of(client, client.commit(files))
    assert await tree.read("Procfile") == b"web: x"
    away = client.folder.rename(client.folder.with_name("away"))
    assert await tree.read("package.json") == b"{}"
    assert await tree.read("empty") == b""
    away.rename(client.folder)
    assert await tree.read("large") == large
    assert await tree.read("app/other") == b"y"


@pytest.mark.slow
async def test_a_folder_of_many_files_gives_each(client: Client) -> None:
    files = {f"f{number:03}": str(number) * 3_000 for number in range(300)}
    tree = tree_of(client, client.commit(files))
    for name, text in files.items():
        assert await tree.read(name) == text.encode()


async def test_a_file_above_the_limit_is_refused_by_name(client: Client) -> None:
    commit = client.commit({"Procfile": "x" * 1001})
    with pytest.raises(UserError, match="Procfile has 1,001 bytes") as refused:
        await tree_of(client, commit).read("Procfile", limit=1000)
    assert refused.value.code == "source.file-too-large"


@pytest.mark.parametrize("commit", ["0" * 40, "main", "--help", "", "1" * 39])
async def test_a_commit_that_is_not_there_is_said_so(client: Client, commit: str) -> None:
    client.commit({"a": "1"})
    with pytest.raises(UserError) as refused:
        await tree_of(client, commit).entries()
    assert refused.value.code == "source.no-such-commit"


@pytest.mark.parametrize(
    ("caps", "says"),
    [
        ({"entries": 3}, "more than 3 files"),
        ({"depth": 2}, "more than 2 folders deep"),
        ({"path_bytes": 9}, "more than 9 bytes"),
        ({"blob_bytes": 1023}, "big is larger than 1023 bytes"),
        ({"total_bytes": 1024}, "larger than 1 KiB in all"),
    ],
)
async def test_each_cap_refuses_with_its_reason(client: Client, caps: dict[str, int], says: str) -> None:
    commit = client.commit({"big": "x" * 1024, "a/b/c/file": "y"})
    with pytest.raises(UserError, match=says) as refused:
        await tree_of(client, commit, **caps).entries()
    assert refused.value.code == "source.too-large"
    generous = tree_of(client, commit, entries=5, depth=4, path_bytes=10, blob_bytes=1024, total_bytes=1025)
    assert len(await generous.entries()) == 2


@pytest.mark.slow
async def test_a_bomb_of_repeated_trees_is_refused(client: Client) -> None:
    oid = client.blob(b"x")
    mode = "100644"
    for _ in range(10):
        oid = client.tree(b"".join(f"{mode} {n}".encode() + b"\0" + bytes.fromhex(oid) for n in range(10)))
        mode = "40000"
    with pytest.raises(UserError, match="more than 100,000"):
        await tree_of(client, client.commit_tree(oid)).entries()


async def test_a_bomb_of_folders_without_a_single_file_is_refused(client: Client) -> None:
    oid = client.tree(b"")
    for _ in range(10):
        oid = client.tree(b"".join(f"40000 {n}".encode() + b"\0" + bytes.fromhex(oid) for n in range(10)))
    with pytest.raises(UserError, match="more than 100,000"):
        await tree_of(client, client.commit_tree(oid)).entries()


async def test_a_bomb_of_zeros_is_refused_by_its_real_size(client: Client) -> None:
    commit = client.commit({"zeros": b"\0" * (8 << 20)})
    with pytest.raises(UserError, match="zeros is larger than 4 MiB"):
        await tree_of(client, commit, blob_bytes=4 << 20).entries()


async def test_archive_holds_what_was_pushed_in_spite_of_export_attributes(client: Client) -> None:
    commit = client.commit(
        {".gitattributes": "secret export-ignore\nv export-subst\n", "secret": "s", "v": "$Format:%H$"}
    )
    repos = GitRepos(client.folder.parent / "repos")
    app = AppId("aaaaaaaaaaaa")
    await repos.create(app)
    assert client.push(repos.path(app), "main").returncode == 0
    members = await unpacked(repos.tree(app, commit))
    assert set(members) == {".gitattributes", "secret", "v"}
    assert members["v"].size == len("$Format:%H$")
    assert members["v"].mode == 0o644


async def test_archive_of_a_folder_keeps_names_and_the_commits_time(client: Client) -> None:
    commit = client.commit({"app/x": "1", "app*/y": "2", "other": "3"})
    members = await unpacked(tree_of(client, commit), folder="app")
    assert {name for name, member in members.items() if member.isfile()} == {"app/x"}
    assert members["app/x"].mtime == 1714979289


async def test_closing_the_archive_ends_its_git(client: Client) -> None:
    commit = client.commit({"noise": os.urandom(5 << 20)})
    archive = tree_of(client, commit).archive()
    assert len(await anext(archive)) > 0
    assert children("archive", client.folder)
    await archive.aclose()
    assert not children("archive", client.folder)


async def test_cancelling_a_read_leaves_no_git_behind(client: Client) -> None:
    commit = client.commit({"noise": os.urandom(5 << 20)})
    tree = tree_of(client, commit)
    reached = asyncio.Event()

    async def consume() -> None:
        async with aclosing(tree.archive()) as archive:
            async for _ in archive:
                reached.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not children("archive", client.folder)


async def test_notes_name_submodules_and_lfs_pointers(client: Client) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    commit = client.commit(
        {
            "assets/.gitattributes": "*.png filter=lfs diff=lfs merge=lfs -text\n",
            "assets/logo.png": pointer,
            "assets/other.txt": "x" * 130,
            "vendor/lib": (SUBMODULE, b"1" * 40),
        }
    )
    submodules, lfs = await tree_of(client, commit).notes()
    assert "Submodules are not fetched: vendor/lib will be missing." in submodules
    assert "pointers of assets/logo.png." in lfs
    plain = client.commit({"logo.png": pointer, "a": "b"})
    assert await tree_of(client, plain).notes() == []


def children(verb: str, folder: Path) -> list[str]:
    """Return the command lines of running gits that work on `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if verb.encode() in line and f"--git-dir={folder}".encode() in line:
            found.append(str(line))
    return found
