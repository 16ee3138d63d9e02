"""A repository that lives for one import, beside the app's: what comes is made or fetched there and looked at, and only
what passed gets into the app's own.

It borrows the app's objects, so that nothing comes twice. What is new is packed, looked through as a push is while it
streams past, and taken by ``git index-pack``, which checks each object; then a branch moves, if it is still where it
was. Until that last step the app's repository has no new ref, and objects that none names are collected in time. One
that died in between leaves a folder whose name begins with a dot, which the next start removes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from agent.errors import UserError
from agent.git.command_list import NOTHING
from agent.git.environment import command
from agent.git.pack import PackLimits, PackReader
from agent.git.process import GitFailed, fed, output, started
from agent.git.refs import HEADS

SECONDS = 1_800.0
"""For one import, its way here included: half an hour, as for a build."""
_ANSWER = 4_096


@asynccontextmanager
async def borrowing(git_dir: Path, aside: Path) -> AsyncIterator[None]:
    """Have a repository in `aside` for the length of a block that knows all objects of `git_dir`."""
    try:
        await output(command(aside, "init", "--quiet", "--bare", "--template=", "--object-format=sha1"), limit=_ANSWER)
        await asyncio.to_thread(_borrow, git_dir, aside)
        yield
    finally:
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)


async def take_over(
    git_dir: Path, aside: Path, *, wanted: Sequence[str], known: Sequence[str], limits: PackLimits | None = None
) -> None:
    """Put what the commits `wanted` need and `git_dir` has not into `git_dir`, each object checked.

    `known`: some commits of `git_dir`, which end the search.

    Raises:
        UserError: ``source.too-large``, an object breaks `limits`.
        GitFailed: git does not take an object.
    """
    asked = "".join(f"{commit}\n" for commit in wanted) + "".join(f"^{commit}\n" for commit in known)
    packing = command(aside, "pack-objects", "--revs", "--local", "--stdout", "--quiet", "--threads=1")
    checking = command(
        git_dir,
        *("-c", "fsck.badFilemode=error", "-c", "pack.threads=1"),
        *("index-pack", "--stdin", "--strict", "--fsck-objects"),
    )
    await fed(checking, _looked_through(packing, stdin=asked.encode(), limits=limits), seconds=SECONDS)


async def move(git_dir: Path, branch: str, new: str, *, before: str | None) -> None:
    """Let `branch` point at `new`, if it still points at `before` (`None`: if there is none).

    Raises:
        UserError: ``source.moved``.
    """
    try:
        await output(command(git_dir, "update-ref", HEADS + branch, new, before or NOTHING), limit=_ANSWER)
    except GitFailed as error:
        message = f"{branch} was pushed by somebody else meanwhile."
        raise UserError("source.moved", message, "Try again, if it is still wanted.") from error


def _borrow(git_dir: Path, aside: Path) -> None:
    aside.chmod(0o700)
    (aside / "objects" / "info").mkdir(exist_ok=True)
    (aside / "objects" / "info" / "alternates").write_text(f"{git_dir.resolve() / 'objects'}\n")


async def _looked_through(
    packing: list[str], *, stdin: bytes, limits: PackLimits | None
) -> AsyncGenerator[bytes, None]:
    reader = PackReader(limits) if limits else None
    async with aclosing(_output(packing, stdin=stdin)) as pack:
        async for data in pack:
            if reader is not None:
                await asyncio.to_thread(reader.feed, data)
            yield data


async def _output(arguments: list[str], *, stdin: bytes) -> AsyncGenerator[bytes, None]:
    async with started(arguments, stdin=stdin) as git:
        while data := await git.read():
            yield data
        await git.finish()
