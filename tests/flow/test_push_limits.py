"""Each limit of a push, at it and one past it: what is past it is refused whole, and nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flow import apps
from tests.support import bombs
from tests.support.rig import Checkout, Done, Rig, rig
from tests.support.watched_memory import Growth

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

LIMITS = {
    "max_push_bytes": 300_000,
    "max_refs": 5,
    "max_list_bytes": 1_000,
    "max_files": 20,
    "max_depth": 4,
    "max_path_bytes": 100,
    "max_file_bytes": 200_000,
    "max_tree_bytes": 500_000,
}
MAIN = ("main",)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def strict() -> AsyncIterator[Rig]:
    """A Pushboat with small limits."""
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        async with rig(Path(name), git=LIMITS) as r:
            yield r


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def roomy() -> AsyncIterator[Rig]:
    """A Pushboat that takes large packs of small trees."""
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        async with rig(Path(name), git={**LIMITS, "max_push_bytes": 1 << 30}) as r:
            yield r


Fill = Callable[[Checkout, int], Awaitable[tuple[str, ...]]]
"""Makes a work tree that is so much past the limit (0: at it); returns the refs to push."""


def fill(checkout: Checkout, path: str, size: int) -> None:
    target = checkout.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"\0" * size)


def used(checkout: Checkout) -> int:
    files = [path for path in checkout.folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return sum(path.stat().st_size for path in files)


async def files(checkout: Checkout, past: int) -> tuple[str, ...]:
    for number in range(LIMITS["max_files"] - 2 + past):  # beside the Dockerfile and the page
        fill(checkout, f"f{number}", number)
    return MAIN


async def depth(checkout: Checkout, past: int) -> tuple[str, ...]:
    fill(checkout, "d/" * (LIMITS["max_depth"] + past) + "file", 1)
    return MAIN


async def path_bytes(checkout: Checkout, past: int) -> tuple[str, ...]:
    fill(checkout, "folder/" + "p" * (LIMITS["max_path_bytes"] - len("folder/") + past), 1)
    return MAIN


async def file_bytes(checkout: Checkout, past: int) -> tuple[str, ...]:
    fill(checkout, "large", LIMITS["max_file_bytes"] + past)
    return MAIN


async def tree_bytes(checkout: Checkout, past: int) -> tuple[str, ...]:
    for name in ("one", "two", "three"):
        (checkout.folder / name).unlink(missing_ok=True)
    fill(checkout, "one", 200_000)
    fill(checkout, "two", 200_000)
    fill(checkout, "three", LIMITS["max_tree_bytes"] + past - used(checkout))
    return MAIN


async def refs(checkout: Checkout, past: int) -> tuple[str, ...]:
    checkout.write({"index.html": f"past {past}\n"})
    await checkout.commit()
    tags = [f"{checkout.app}-{past}-{number}" for number in range(LIMITS["max_refs"] - 1 + past)]
    for tag in tags:
        await checkout.git("tag", tag)
    return (*MAIN, *tags)


async def list_bytes(checkout: Checkout, past: int) -> tuple[str, ...]:
    checkout.write({"index.html": f"past {past}\n"})
    await checkout.commit()
    missing = LIMITS["max_list_bytes"] + past - await sent_for_main(checkout) - len("0000")
    overhead = len(f"0000{'0' * 40} {'0' * 40} refs/tags/")
    sizes = [missing // 3 - overhead] * 2 + [missing - 2 * (missing // 3) - overhead]
    tags = [f"{checkout.app}{past}{number}".ljust(size, "x") for number, size in enumerate(sizes)]
    for tag in tags:
        await checkout.git("tag", tag)
    return (*MAIN, *tags)


async def sent_for_main(checkout: Checkout) -> int:
    """Return the bytes of the packet by which this git asks for main to be pushed, over any way there is."""
    other = checkout.folder.with_name(f"{checkout.folder.name}-traced.git")
    trace = other / "trace"
    await checkout.git("init", "-q", "--bare", str(other))
    traced = ("env", f"GIT_TRACE_PACKET={trace}", "git", "push", "-q", f"file://{other}", "--force", "main")
    done = await checkout.run(*traced)
    assert done.status == 0, done.err
    (line,) = re.findall(r"push> (\w{40} \w{40} refs/heads/main\\0.*)", trace.read_text())
    shutil.rmtree(other)
    return len("0000") + len(line.replace("\\0", "\0"))


async def pack_bytes(checkout: Checkout, past: int) -> tuple[str, ...]:
    there = (await checkout.git("ls-remote", checkout.remote, "refs/heads/main")).split()[:1] if past else []
    await make_pack(checkout, LIMITS["max_push_bytes"] + past, there=there)
    return MAIN


async def make_pack(checkout: Checkout, wanted: int, *, there: Sequence[str] = ()) -> None:
    """Commit files so that git sends exactly `wanted` bytes to somebody who has `there`."""
    noise, other, size = os.urandom(2 * wanted), wanted // 2, wanted // 3
    await checkout.commit()
    await checkout.git("commit", "-q", "--allow-empty", "-m", "noise")
    for attempt in range(50):
        if attempt % 10 == 9:  # a block that begins just there leaves sizes out
            other, size = other - 1_000, size + 1_000
        (checkout.folder / "one").write_bytes(noise[:other])
        (checkout.folder / "two").write_bytes(noise[wanted : wanted + size])
        await checkout.git("add", "--all")
        await checkout.git("commit", "-q", "--amend", "-m", "noise")
        measured = await pack_size(checkout, there)
        if measured == wanted:
            return
        size += wanted - measured
    raise AssertionError(f"no pack of {wanted} bytes, the last had {measured}")


async def pack_size(checkout: Checkout, there: Sequence[str]) -> int:
    """Return the bytes of the pack that git sends for main to somebody who has `there`."""
    revs = "".join(f"{line}\n" for line in ("main", *(f"^{oid}" for oid in there)))
    command = ("pack-objects", "--all-progress-implied", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
    done = await checkout.run("git", *command, stdin=revs.encode())
    assert done.status == 0, done.err
    return len(done.raw)


KINDS: dict[str, tuple[Fill, str, str]] = {
    "files": (files, "more than 20 files and folders", "source.too-large"),
    "depth": (depth, "more than 4 folders deep: d/d/d/d/d", "source.too-large"),
    "path": (path_bytes, "more than 100 bytes: folder/ppp", "source.too-large"),
    "file": (file_bytes, "large is larger than 195.312 KiB", "source.too-large"),
    "tree": (tree_bytes, "larger than 488.281 KiB in all", "source.too-large"),
    "refs": (refs, "more than 5 refs at once", "push.too-many-refs"),
    "list": (list_bytes, "has more than 1,000 bytes", ""),
    "pack": (pack_bytes, "This push is larger than 292.969 KiB", "push.too-large"),
}


async def push(boat: Rig, checkout: Checkout, refs: tuple[str, ...], *, app: str) -> Done:
    return await boat.run("git", "push", boat.boat.remote(app), *refs, folder=checkout.folder)


@pytest.mark.parametrize("kind", KINDS)
async def test_at_the_limit_a_push_goes_live_and_one_past_it_nothing_happens(strict: Rig, kind: str) -> None:
    filling, said, code = KINDS[kind]
    checkout = strict.checkout(kind, apps.page("one"))
    names = await filling(checkout, 0)
    await checkout.commit()
    pushed = await push(strict, checkout, names, app=kind)
    assert pushed.status == 0, pushed.err
    there = await checkout.git("ls-remote", checkout.remote)
    names = await filling(checkout, 1)
    await checkout.commit()
    for app in (kind, f"{kind}-new"):
        if kind == "pack" and app != kind:
            continue  # what is one past it for the one is not for the other
        refused = await push(strict, checkout, names, app=app)
        assert refused.status not in (0, 70), refused.err
        assert said in refused.err and "Traceback" not in refused.err
        assert f"(refused: {code})" in refused.err or not code
        assert "\n       " in refused.err, "a way out is named"
    assert await checkout.git("ls-remote", checkout.remote) == there
    assert len(json.loads(await strict.must("deploys", kind, "--format", "json"))) == 1
    assert (await strict.ssh("apps:exists", f"{kind}-new")).status == 20
    assert (await strict.http(f"{kind}.localhost")).status == 200
    apps_there = len(json.loads(await strict.must("apps:list", "--format", "json")))
    assert len(list((strict.data / "repos").iterdir())) == apps_there
    assert not list(strict.data.glob("repos/**/tmp_objdir-*"))
    assert "Traceback" not in strict.log


async def test_a_new_app_whose_first_pack_is_a_byte_too_large_is_not_made(strict: Rig) -> None:
    checkout = strict.checkout("first-pack", apps.page("one"))
    await make_pack(checkout, LIMITS["max_push_bytes"] + 1)
    refused = await push(strict, checkout, MAIN, app="first-pack")
    assert refused.status == 1 and "This push is larger than" in refused.err
    assert (await strict.ssh("apps:exists", "first-pack")).status == 20


BOMB_BYTES = 64 << 20
"""What a bomb may cost the agent, at most at any moment."""
BOMBS: dict[str, tuple[Callable[[int], bytes], int, str]] = {
    "a gigabyte of zeros": (bombs.push_of_zeros, 1 << 30, "larger than 256 MiB"),
    "some zeros": (bombs.push_of_zeros, 8 << 20, "zeros is larger than 195.312 KiB"),
    "deep": (bombs.push_of_depth, 5_000, "more than 4 folders deep"),
    "too deep for git": (bombs.push_of_depth, 100_000, "missing necessary objects"),
    "a million files": (bombs.push_of_width, 1_000_000, "more than 100,000 files"),
    "some files": (bombs.push_of_width, 1_000, "more than 20 files and folders"),
    "ten thousand files of a few bytes": (bombs.push_of_folds, 4, "more than 20 files and folders"),
}


@pytest.mark.parametrize("kind", BOMBS)
async def test_a_bomb_is_refused_and_nothing_of_it_is_left(roomy: Rig, kind: str) -> None:
    make, size, said = BOMBS[kind]
    before = json.loads(await roomy.must("apps:list", "--format", "json"))
    sent = await asyncio.to_thread(make, size)
    assert roomy.boat.agent
    growth = Growth(roomy.boat.agent.pid)
    refused = await roomy.ssh("git-receive-pack 'bomb'", stdin=sent)
    assert growth.most < BOMB_BYTES, f"the agent grew by {growth.most >> 20} MB"
    assert refused.status == 1, refused
    assert said in refused.err + refused.out and "ok refs/" not in refused.out
    assert json.loads(await roomy.must("apps:list", "--format", "json")) == before
    assert len(list((roomy.data / "repos").iterdir())) == len(before)
