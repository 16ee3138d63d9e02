"""Repositories and what may be pushed into them, by real git."""

from __future__ import annotations

import asyncio
import json
import os
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.git.environment import command, environment, upload_pack
from agent.git.process import GitFailed
from agent.git.refs import MAX_PART, MAX_REF, is_accepted_ref, is_branch_name
from agent.git.repos import GitRepos
from proto.names import AppId
from tests.support.git_client import Client


async def test_creating_twice_keeps_what_was_pushed(repos: GitRepos, app: AppId, client: Client) -> None:
    commit = client.commit({"a": "1"})
    assert client.push(repos.path(app), "main").returncode == 0
    await repos.create(app)
    assert await repos.tip(app, "main") == commit


async def test_creating_at_once_from_two_sides_makes_one_repository(tmp_path: Path, app: AppId) -> None:
    repos = GitRepos(tmp_path / "repos")
    await asyncio.gather(repos.create(app), repos.create(app))
    assert [path.name for path in (tmp_path / "repos").iterdir()] == [app]


async def test_removing_leaves_nothing_and_may_be_repeated(repos: GitRepos, app: AppId) -> None:
    await repos.remove(app)
    await repos.remove(app)
    assert list(repos.path(app).parent.iterdir()) == []


async def test_a_removal_that_was_cut_short_is_finished_by_the_next(repos: GitRepos, app: AppId) -> None:
    leftover = repos.path(app).rename(repos.path(app).parent / f".{app}.12345678")
    await repos.remove(app)
    assert not leftover.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", ".a", "-a", "a" * 65])
def test_only_an_app_id_becomes_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not an app id"):
        GitRepos(tmp_path).path(AppId(name))


async def test_tip_and_branches_tell_what_was_pushed(repos: GitRepos, app: AppId, client: Client) -> None:
    first = client.commit({"a": "1"})
    second = client.commit({"a": "2"}, branch="feature/größe")
    assert await repos.branches(app) == []
    assert await repos.tip(app, "main") is None
    assert client.push(repos.path(app), "main", "feature/größe").returncode == 0
    assert await repos.branches(app) == ["feature/größe", "main"]
    assert await repos.tip(app, "main") == first
    assert await repos.tip(app, "feature/größe") == second
    assert await repos.tip(app, "main~0") is None
    assert await repos.tip(app, "--all") is None


async def test_describe_tells_author_and_subject(repos: GitRepos, app: AppId, client: Client) -> None:
    commit = client.commit({"a": "1"}, message="Ännder\x1b[31m it\n\nbody")
    assert client.push(repos.path(app), "main").returncode == 0
    described = await repos.describe(app, commit)
    assert described is not None
    assert (described.id, described.author) == (commit, "Ann <ann@example.com>")
    assert described.subject == "Ännder\x1b[31m it"
    assert await repos.describe(app, "0" * 40) is None
    assert await repos.describe(app, "--help") is None


async def test_the_deploy_branch_cannot_be_deleted_others_can(repos: GitRepos, app: AppId, client: Client) -> None:
    client.commit({"a": "1"}, branch="live")
    client.commit({"a": "1"}, branch="other")
    assert client.push(repos.path(app), "live", "other").returncode == 0
    await repos.set_head(app, "live")
    assert client.push(repos.path(app), ":other").returncode == 0
    refused = client.push(repos.path(app), ":live")
    assert refused.returncode != 0
    assert await repos.branches(app) == ["live"]


async def test_head_may_not_point_outside_branches(repos: GitRepos, app: AppId) -> None:
    for name in ("../../x", "-d", "a..b", "", "a b", "x.lock"):
        with pytest.raises(UserError):
            await repos.set_head(app, name)
    assert (repos.path(app) / "HEAD").read_text() == "ref: refs/heads/main\n"


async def test_refs_other_than_branches_and_tags_are_refused(repos: GitRepos, app: AppId, client: Client) -> None:
    client.commit({"a": "1"})
    assert client.push(repos.path(app), "main:refs/pushboat/x").returncode != 0
    assert client.push(repos.path(app), "main:refs/replace/" + "1" * 40).returncode != 0
    assert client.push(repos.path(app), "main:refs/tags/v1").returncode == 0


async def test_a_pack_above_the_limit_is_refused_and_leaves_nothing(
    repos: GitRepos, app: AppId, client: Client
) -> None:
    client.commit({"noise": os.urandom(300_000)})
    refused = client.push(repos.path(app), "main", max_bytes=100_000)
    assert refused.returncode != 0
    assert "exceeds maximum allowed size" in refused.stderr
    assert await repos.tip(app, "main") is None
    assert list((repos.path(app) / "objects").glob("tmp_objdir-*")) == []


async def test_a_shallow_clone_can_push(repos: GitRepos, app: AppId, client: Client, tmp_path: Path) -> None:
    tree = client.git("rev-parse", client.commit({"a": "1"}) + "^{tree}").decode().strip()
    tip = client.git("commit-tree", tree, "-p", "main", data=b"second").decode().strip()
    client.git("update-ref", "refs/heads/main", tip)
    shallow = Client(tmp_path / "shallow.git")
    shallow.git("fetch", "-q", "--depth=1", f"file://{client.folder}", "main:main")
    assert shallow.push(repos.path(app), "main").returncode == 0
    assert [entry.path for entry in await repos.tree(app, tip).entries()] == ["a"]


async def test_hooks_in_the_repository_never_run(repos: GitRepos, app: AppId, client: Client, tmp_path: Path) -> None:
    hooks = repos.path(app) / "hooks"
    hooks.mkdir()
    for name in ("pre-receive", "post-receive", "update"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    client.commit({"a": "1"})
    assert client.push(repos.path(app), "main").returncode == 0
    assert not (tmp_path / "ran").exists()


def _entry(mode: str, name: str, oid: str) -> bytes:
    return f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid)


HOSTILE = {
    "dot-dot": ("100644", ".."),
    "dot": ("100644", "."),
    "dot-git": ("40000", ".git"),
    "dot-git in other case": ("40000", ".GIT"),
    "slash": ("100644", "a/b"),
    "empty": ("100644", ""),
    "mode": ("100666", "a"),
    "setuid": ("104755", "a"),
    "gitmodules link": ("120000", ".gitmodules"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_tree_is_refused(repos: GitRepos, app: AppId, client: Client, kind: str) -> None:
    mode, name = HOSTILE[kind]
    blob = client.blob(b"x")
    oid = client.tree(_entry("100644", "x", blob)) if mode == "40000" else blob
    client.commit_tree(client.tree(_entry(mode, name, oid)))
    refused = client.push(repos.path(app), "main")
    assert refused.returncode != 0, refused.stderr
    assert await repos.tip(app, "main") is None


async def test_what_was_pushed_can_be_cloned(repos: GitRepos, app: AppId, client: Client) -> None:
    commit = client.commit({"a": "1"})
    assert client.push(repos.path(app), "main").returncode == 0
    served = await asyncio.create_subprocess_exec(
        *upload_pack(repos.path(app)), stdin=PIPE, stdout=PIPE, env=environment(protocol="version=1")
    )
    advertised, _ = await served.communicate(b"0000")
    assert f"{commit} refs/heads/main".encode() in advertised


async def test_objects_and_refs_of_a_small_push_are_synced_by_git(
    repos: GitRepos, app: AppId, client: Client, tmp_path: Path
) -> None:
    client.commit({"a": "1"})
    pushed = client.push(repos.path(app), "main", traced=tmp_path / "trace")
    assert pushed.returncode == 0, pushed.stderr
    events = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    flushes = [int(event["value"]) for event in events if event.get("key") == "fsync/hardware-flush"]
    # The pack and its index by the one that indexes it, the ref by receive-pack itself.
    assert sum(flushes) >= 3, flushes


async def test_what_is_pushed_stays_the_pack_that_it_was(repos: GitRepos, app: AppId, client: Client) -> None:
    """Taken apart, each object would be compressed anew: three quarters of the time of a push of large files."""
    for number in range(3):
        client.commit({"a": f"{number}"})
        assert client.push(repos.path(app), "+main").returncode == 0
    objects = repos.path(app) / "objects"
    assert len(list((objects / "pack").glob("*.pack"))) == 3
    assert {path.name for path in objects.iterdir()} == {"info", "pack"}


@pytest.mark.slow
async def test_many_packs_of_small_pushes_become_one(repos: GitRepos, app: AppId, client: Client) -> None:
    for number in range(51):
        client.commit({"a": f"{number}"})
        assert client.push(repos.path(app), "+main").returncode == 0
    await repos.tidy(app, kept=())
    assert len(list((repos.path(app) / "objects" / "pack").glob("*.pack"))) == 1
    assert await repos.faults(app, commits=[client.git("rev-parse", "main").decode().strip()]) == []


async def test_sync_flushes_every_folder_that_names_something_new(
    repos: GitRepos, app: AppId, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.commit({"a": "1"}, branch="deep/branch")
    assert client.push(repos.path(app), "deep/branch").returncode == 0
    synced: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await repos.sync(app)
    root = repos.path(app)
    folders = {str(path) for path in (root, *root.rglob("*")) if path.is_dir()}
    assert synced == folders - {str(root / "info"), str(root / "branches"), str(root / "hooks")}


async def test_tidy_removes_the_quarantine_of_a_killed_push_only(repos: GitRepos, app: AppId) -> None:
    objects = repos.path(app) / "objects"
    old, fresh = objects / "tmp_objdir-incoming-old", objects / "tmp_objdir-incoming-new"
    for folder in (old, fresh):
        (folder / "pack").mkdir(parents=True)
    past = time.time() - 7_200
    for folder in (old, fresh):
        (folder / "pack" / "tmp_pack_1").write_bytes(b"x" * 100_000)
    for folder in (old, old / "pack", old / "pack" / "tmp_pack_1"):
        os.utime(folder, (past, past))
    assert 100_000 <= await repos.left_over(app) < 150_000
    locks = [repos.path(app) / "refs" / "heads" / f"{name}.lock" for name in ("old", "new")]
    for lock in locks:
        lock.touch()
    os.utime(locks[0], (past, past))
    await repos.tidy(app, kept=())
    assert await repos.left_over(app) == 0
    assert not old.exists()
    assert fresh.exists()
    assert [lock.exists() for lock in locks] == [False, True]


async def test_git_sees_no_configuration_but_ours(repos: GitRepos, app: AppId, tmp_path: Path) -> None:
    for name in ("system", ".gitconfig"):
        (tmp_path / name).write_text("[core]\n\tsshCommand = strange\n")
    # Where this machine's would be, if it counted (git(1)).
    elsewhere = {**environment(), "HOME": str(tmp_path), "GIT_CONFIG_SYSTEM": str(tmp_path / "system")}
    listing = command(repos.path(app), "config", "--list", "--show-scope")
    process = await asyncio.create_subprocess_exec(*listing, stdout=PIPE, env=elsewhere)
    told = (await process.communicate())[0].decode()
    assert {line.split()[0] for line in told.splitlines()} == {"local", "command"} and "strange" not in told
    assert environment(protocol="version=2")["GIT_PROTOCOL"] == "version=2"
    for hostile in ("version=2:x", "version=3", "version=1\nX=1", ""):
        assert "GIT_PROTOCOL" not in environment(protocol=hostile)


async def test_a_push_tidies_nothing_by_itself(repos: GitRepos, app: AppId, client: Client, tmp_path: Path) -> None:
    client.commit({"a": "1"})
    assert client.push(repos.path(app), "main", traced=tmp_path / "told").returncode == 0
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    started = [event["argv"] for event in told if event["event"] == "child_start"]
    assert started and not [argv for argv in started if {"gc", "maintenance"} & set(argv)], started


@pytest.mark.parametrize("name", ["main", "feature/größe", "v1.2", "a-b_c+d@e", "dependabot/npm/x-1.2.3", "_x"])
def test_usual_branch_names_are_accepted(name: str) -> None:
    assert is_branch_name(name)
    assert is_accepted_ref(f"refs/heads/{name}")
    assert is_accepted_ref(f"refs/tags/{name}")


@pytest.mark.parametrize(
    "name",
    ["", "-x", "a/-x", "a//b", "/a", "a/", "$(id)", "a;b", "a b", "a..b", "a.lock", "a.lock/b", ".a", "a/.b", "a.",
     "HEAD", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\nb", "a\x00b", "'a'", "`a`", "x" * 256],
)  # fmt: skip
def test_hostile_branch_names_are_refused(name: str) -> None:
    assert not is_branch_name(name)
    assert not is_accepted_ref(f"refs/heads/{name}")


@pytest.mark.parametrize(
    "name", ["x" * MAX_PART, "ä" * (MAX_PART // 2), "x" * MAX_PART + "/" + "y" * (MAX_REF - MAX_PART - 1)]
)
async def test_the_longest_name_of_a_branch_is_one_that_git_can_lock(
    repos: GitRepos, app: AppId, client: Client, name: str
) -> None:
    client.commit({"a": "1"})
    assert is_branch_name(name) and is_accepted_ref(f"refs/tags/{name}")
    pushed = client.push(repos.path(app), f"main:refs/heads/{name}")
    assert pushed.returncode == 0, pushed.stderr
    assert name in await repos.branches(app)
    assert not is_branch_name(f"{name}z") and not is_accepted_ref(f"refs/heads/{name}z")


def test_only_branches_and_tags_are_accepted_refs() -> None:
    assert not is_accepted_ref("HEAD")
    assert not is_accepted_ref("refs/notes/x")
    assert not is_accepted_ref("main")


async def test_a_repository_is_repacked_only_when_no_push_is_under_way(
    repos: GitRepos, app: AppId, client: Client
) -> None:
    git_dir = repos.path(app)
    commit = client.commit({"a": "1"})
    await asyncio.to_thread(client.git, "push", "--quiet", str(git_dir), f"{commit}:refs/heads/main")
    async with repos.turns.of(app):
        collecting = asyncio.ensure_future(repos.collect(app, kept=()))
        await asyncio.sleep(0)
        assert not list(git_dir.glob("objects/pack/*.pack")) and not collecting.done()
    await collecting
    assert list(git_dir.glob("objects/pack/*.pack"))
    assert await repos.tip(app, "main") == commit
    await repos.collect(AppId("anobody"), kept=())


async def test_a_repository_without_an_app_is_a_stray_once_no_first_push_can_be_filling_it(tmp_path: Path) -> None:
    repos = GitRepos(tmp_path / "repos")
    known, new, left = AppId("aknown"), AppId("anew"), AppId("aleft")
    for app in (known, new, left):
        await repos.create(app)
    hours_ago = time.time() - 2 * 3_600
    for app in (known, left):
        for folder in (repos.path(app), repos.path(app) / "objects"):
            os.utime(folder, (hours_ago, hours_ago))
    assert await repos.strays({known}) == [left]


async def test_a_repository_that_git_cannot_pack_is_left_as_it_is(repos: GitRepos, app: AppId, client: Client) -> None:
    commit = client.commit({"a": "1"})
    assert client.push(repos.path(app), "main").returncode == 0
    (repos.path(app) / "refs" / "heads" / "main").write_text("0" * 39 + "1\n")
    with pytest.raises(GitFailed):
        await repos.collect(app, kept={commit})
    _have_much_to_pack(repos.path(app))
    await repos.tidy(app, kept={commit})
    assert await repos.faults(app, commits=[]), "and the check tells"


def _have_much_to_pack(git_dir: Path) -> None:
    """Put so many loose objects where git looks that ``gc --auto`` begins."""
    folder = git_dir / "objects" / "17"
    folder.mkdir(exist_ok=True)
    for number in range(40):
        (folder / f"{number:038x}").write_bytes(b"x")
