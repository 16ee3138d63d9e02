"""Commits with their submodules' files, which stand in for those that name submodules (see ``submodules``).

Each is pointed at by a ref that has the other's id in its name, below `WHOLE`, hidden from everybody else. It is a root
for git, so it holds on to all that it reaches until it is dropped here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

from agent.git.environment import command
from agent.git.process import output
from agent.git.refs import HEADS

WHOLE: Final = "refs/whole/"
"""Begins the names of the refs."""
_ANSWER: Final = 4_096
_LISTING: Final = 64 << 20


async def standing_in(git_dir: Path, commit: str) -> str:
    """Return what is read in the place of `commit`: itself, nearly always."""
    if not await asyncio.to_thread(_has_any, git_dir):
        return commit
    asked = command(git_dir, "for-each-ref", "--format=%(objectname)", WHOLE + commit)
    return (await output(asked, limit=_ANSWER)).decode("ascii").strip() or commit


async def set_whole(git_dir: Path, commit: str, whole: str) -> None:
    """Have `whole` stand in for `commit`. Repeating is harmless."""
    await output(command(git_dir, "update-ref", WHOLE + commit, whole), limit=_ANSWER)


async def drop_unneeded(git_dir: Path, *, kept: Collection[str], before: float) -> int:
    """Drop what stands in for commits in which no branch ends and which are not `kept`; return how many those were.

    What was made since `before` (Unix seconds) stays: its branch may be about to move.
    """
    if not await asyncio.to_thread(_has_any, git_dir):
        return 0
    listing = command(git_dir, "for-each-ref", "--format=%(objectname) %(refname)", HEADS, WHOLE)
    rows = [
        line.split(" ", 1) for line in (await output(listing, limit=_LISTING)).decode("utf-8", "replace").split("\n")
    ]
    needed = {*kept, *(row[0] for row in rows if row[-1].startswith(HEADS))}
    old = [row[-1] for row in rows if row[-1].startswith(WHOLE) and row[-1].removeprefix(WHOLE) not in needed]
    old = [name for name in old if await asyncio.to_thread(_is_older, git_dir / name, before)]
    for name in old:
        await output(command(git_dir, "update-ref", "-d", name), limit=_ANSWER)
    return len(old)


def _has_any(git_dir: Path) -> bool:
    """Tell whether the repository has any: nearly none has, and each push would ask git."""
    packed = git_dir / "packed-refs"
    return (git_dir / WHOLE).is_dir() or (packed.is_file() and f" {WHOLE}".encode() in packed.read_bytes())


def _is_older(file: Path, before: float) -> bool:
    """Tell whether a ref is not fresh. One that has no file of its own was packed, which is done to old ones."""
    try:
        return file.stat().st_mtime < before
    except FileNotFoundError:
        return True
