"""Pushes that are refused: nothing of them is stored, and nothing is left."""

from __future__ import annotations

import os

import pytest

from agent.git.receive import PushLimits
from tests.ssh.conftest import Builder, House
from tests.ssh.quarantine import leftovers

pytestmark = pytest.mark.real


@pytest.mark.parametrize("path", ["../blog", "srv/blog", "Blog", "blog'; id #", "-blog", "b log", "", "a" * 64])
async def test_a_path_that_is_no_app_is_refused_with_a_sentence(house: House, path: str) -> None:
    pushed = await house.clone().push(path=path)
    assert pushed.status == 128
    assert " !     " in pushed.err and "Use a URL like" in pushed.err
    assert await house.database.read.apps.all() == []
    assert not (house.folder / "repos").exists()


async def test_deleting_the_deploy_branch_is_refused_and_another_is_deleted(house: House) -> None:
    clone = house.clone()
    await clone.push("main", "main:dev")
    refused = await clone.push("--delete", "main")
    assert refused.status == 1
    assert "main is the branch that deploys blog, so it cannot be deleted" in refused.err
    assert "[remote rejected] main (refused: push.deletes-deploy-branch)" in refused.err
    deleted = await clone.push("--delete", "dev")
    assert deleted.status == 0, deleted.err
    assert await house.repos.branches((await house.app("blog")).id) == ["main"]


HOSTILE = ["$(id)", "`id`", "a;b", "a'b", 'a"b', "a|b", "a&b", "-x", "a>b", "a(b", "a%b", "a!b", "a{b"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_branch_name_reaches_neither_git_nor_us(house: House, name: str) -> None:
    clone = house.clone()
    await clone.push()
    before = leftovers(house)
    pushed = await clone.push(f"main:refs/heads/{name}")
    assert pushed.status == 1
    assert "is not a name that Pushboat takes" in pushed.err
    assert "refused: push.ref-name" in pushed.err
    assert await house.repos.branches((await house.app("blog")).id) == ["main"]
    assert leftovers(house) == before == []


@pytest.mark.parametrize("ref", ["refs/notes/x", "refs/pull/1/head", "refs/heads/a..b", "refs/replace/x"])
async def test_refs_beside_branches_and_tags_are_refused(house: House, ref: str) -> None:
    pushed = await house.clone().push(f"main:{ref}")
    assert pushed.status != 0
    assert await house.database.read.apps.all() == []


async def test_a_refused_branch_takes_the_whole_push_with_it(house: House) -> None:
    pushed = await house.clone().push("main", "main:refs/heads/$(id)")
    assert pushed.status == 1
    assert await house.database.read.apps.all() == []


async def test_too_many_refs_are_refused(house: House) -> None:
    clone = house.clone()
    commit = clone.run("rev-parse", "HEAD")
    packed = "".join(f"{commit} refs/heads/b{number}\n" for number in range(1_100))
    (clone.folder / ".git" / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + packed)
    pushed = await clone.push("--all")
    assert pushed.status == 1 and "more than 1,000 refs" in pushed.err
    assert await house.database.read.apps.all() == []


async def test_a_push_over_the_limit_is_refused_with_the_limit_and_leaves_nothing(open_house: Builder) -> None:
    house = await open_house(limits=PushLimits(max_bytes=1 << 20))
    clone = house.clone()
    clone.commit("noise", os.urandom(8 << 20))
    pushed = await clone.push()
    assert pushed.status == 1
    assert "This push is larger than 1 MiB" in pushed.err and "max_push_bytes" in pushed.err
    assert await house.database.read.apps.all() == []
    assert list((house.folder / "repos").iterdir()) == []


async def test_a_push_over_the_limit_leaves_no_quarantine_in_an_app(open_house: Builder) -> None:
    house = await open_house(limits=PushLimits(max_bytes=1 << 20))
    clone = house.clone()
    await clone.push()
    tip = clone.run("rev-parse", "HEAD")
    clone.commit("noise", os.urandom(8 << 20))
    assert (await clone.push()).status == 1
    assert leftovers(house) == []
    assert await house.repos.tip((await house.app("blog")).id, "main") == tip


async def test_a_push_for_which_the_disk_has_no_room_is_refused_before_anything_is_made(house: House) -> None:
    clone = house.clone()
    house.disks.free = 0
    pushed = await clone.push()
    assert pushed.status != 0 and "remote rejected" not in pushed.err
    assert "There is too little room on the disk for a push: 0 bytes are free at /data" in pushed.err
    assert "disk:report" in pushed.err and "cleanup" in pushed.err
    assert await house.database.read.apps.all() == []
    assert not (house.folder / "repos").exists()
    house.disks.free = 1
    assert (await clone.push()).status == 0


async def test_an_app_is_as_it_was_after_a_push_for_which_the_disk_had_no_room(house: House) -> None:
    clone = house.clone()
    await clone.push()
    app, tip = await house.app("blog"), clone.run("rev-parse", "HEAD")
    newer = clone.commit("index.html", "hello")
    house.disks.free = 0
    assert "too little room on the disk" in (await clone.push()).err
    assert await house.repos.tip(app.id, "main") == tip
    assert [deploy.commit_id for deploy in await house.deploys("blog")] == [tip]
    assert leftovers(house) == []
    assert [record[1:] for record in await house.records()] == [
        ("git-receive-pack", app.id, 0),
        ("git-receive-pack", app.id, 1),
    ]
    house.disks.free = 1
    assert (await clone.push()).status == 0
    assert (await house.deploys("blog"))[0].commit_id == newer


async def test_a_corrupt_tree_is_refused_by_git(house: House) -> None:
    clone = house.clone()
    blob = clone.run("hash-object", "-w", "Dockerfile")
    bad = clone.folder / "tree"
    bad.write_bytes(b"100644 .git\0" + bytes.fromhex(blob))
    tree = clone.run("hash-object", "-t", "tree", "-w", "--literally", str(bad))
    commit = clone.run("commit-tree", "-m", "bad", tree)
    pushed = await clone.push(f"{commit}:refs/heads/main")
    assert pushed.status == 1 and "hasDotgit" in pushed.err
    assert await house.database.read.apps.all() == []
    assert await house.records() == [("ann", "git-receive-pack", None, 1)]
    assert leftovers(house) == []


async def test_without_the_setting_a_push_creates_no_app(open_house: Builder) -> None:
    house = await open_house(creates_apps=False)
    pushed = await house.clone().push()
    assert pushed.status == 128 and "There is no app called blog" in pushed.err
    assert not (house.folder / "repos").exists()
