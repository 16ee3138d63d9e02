"""A ``.git`` for builds that ask git what they are: one commit, its files, and nothing else.

It is made aside, of the app's own objects, and given as tar members. Nobody's configuration, remote, login or branch is
in it, and no history: what came before the commit is cut off, as in a clone of depth 1. The same commit gives the same
bytes, for the engine's cache.
"""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final
from uuid import uuid4

from agent.git.aside import borrowing
from agent.git.environment import command
from agent.git.process import output

_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
_PIECE: Final = 1 << 20
_ANSWER: Final = 4_096
_SECONDS: Final = 300.0
_KEPT: Final = ("HEAD", "config", "index", "objects", "refs", "shallow")


async def git_folder(git_dir: Path, commit: str, *, name: str) -> AsyncGenerator[bytes, None]:
    """Yield the tar members of a ``.git`` called `name`."""
    aside = git_dir.parent / f".{git_dir.name}.{uuid4().hex[:8]}"
    async with borrowing(git_dir, aside):
        await asyncio.to_thread((aside / "shallow").write_text, f"{commit}\n")
        await output(command(aside, "read-tree", commit), limit=_ANSWER, seconds=_SECONDS)
        packing = ("pack-objects", "--revs", "--quiet", "--threads=1", str(aside / "objects" / "pack" / "pack"))
        await output(command(aside, *packing), limit=_ANSWER, seconds=_SECONDS, stdin=f"{commit}\n".encode())
        await asyncio.to_thread(_finish, aside, commit)
        for path in await asyncio.to_thread(_members, aside):
            member = _member(path, name=f"{name}/{path.relative_to(aside)}" if path != aside else name)
            yield member.tobuf(tarfile.GNU_FORMAT)
            if member.isreg():
                with path.open("rb") as file:
                    while data := await asyncio.to_thread(file.read, _PIECE):
                        yield data
                yield bytes(-member.size % tarfile.BLOCKSIZE)


def _finish(aside: Path, commit: str) -> None:
    shutil.rmtree(aside / "objects" / "info")
    (aside / "HEAD").write_text(f"{commit}\n")
    (aside / "config").write_text(_CONFIG)
    for path in aside.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _members(aside: Path) -> list[Path]:
    return [aside, *sorted(aside.rglob("*"))]


def _member(path: Path, *, name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    if path.is_dir():
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size, member.mode = path.stat().st_size, 0o644
    return member
