"""Makes a commit of an archive, without a work tree, as safely as if it had been pushed.

The archive is put aside, read member by member and told to ``git fast-import`` in a repository that lives for this one
commit and borrows the app's objects. What is new is packed from there and taken by ``git index-pack``, which checks
each object as a push does; then the branch moves, if it is still where it was. Until that last step the app's
repository has no new ref, and objects that none names are collected in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from agent.archives.caps import Caps
from agent.archives.incoming import HEAD_BYTES, in_pieces, raise_if_full, store
from agent.archives.members import kind_of, members
from agent.errors import Unavailable, UserError
from agent.git.aside import borrowing, move, take_over
from agent.git.environment import command
from agent.git.fast_import import REF, render
from agent.git.process import GitFailed, fed, output
from agent.ports.source import ArchiveCommit

IMPORT_SECONDS = 1_800.0
"""For one archive, its upload included: half an hour, as for a build."""
_ANSWER = 4_096


async def import_archive(
    git_dir: Path,
    aside: Path,
    upload: AsyncIterator[bytes],
    *,
    commit: ArchiveCommit,
    parent: str | None,
    caps: Caps,
    max_bytes: int,
) -> str:
    """Return the id of the commit that the branch of the repository `git_dir` points at afterwards.

    `parent` is what it points at now.

    It is the one that was there if the archive holds nothing else. `aside` is the path of a folder that does not exist
    yet, and does not any more at the end; `max_bytes` bounds the archive as it comes.

    Raises:
        UserError: what ``archives.members`` and ``fast_import.render`` raise; ``archive.too-large``,
            ``archive.wrong-type``, ``archive.refused`` (git's own checks), ``source.moved`` (somebody else moved the
            branch meanwhile).
        Unavailable: ``disk.full``, ``git.slow``, ``git.missing``.
    """
    try:
        async with asyncio.timeout(IMPORT_SECONDS), borrowing(git_dir, aside):
            with (aside / "upload").open("w+b") as file:
                await store(file, upload, max_bytes=max_bytes)
                new = await _commit(aside, file, commit, parent, caps)
            if parent and await _tree(aside, new) == await _tree(aside, parent):
                return parent
            try:
                await take_over(git_dir, aside, wanted=(new,), known=(parent,) if parent else ())
            except GitFailed as error:
                raise _refused(error) from error
            await move(git_dir, commit.branch, new, before=parent)
            return new
    except TimeoutError as error:
        message = f"The archive did not come and unfold within {IMPORT_SECONDS / 60:.0f} minutes."
        raise Unavailable("archive.slow", message, "Try again, or push with git.") from error
    except OSError as error:
        raise_if_full(error)
        raise


async def _commit(aside: Path, file: IO[bytes], commit: ArchiveCommit, parent: str | None, caps: Caps) -> str:
    """Return the id of the commit that holds what the archive `file` holds, made in the repository `aside`."""
    found = kind_of(file.read(HEAD_BYTES))
    if commit.kind not in (None, found):
        message = f"This is no {commit.kind} archive; it looks like {found}."
        raise UserError("archive.wrong-type", message, f"Say so: --archive-type {found}")
    file.seek(0)
    stream = render(members(file, found, caps=caps), commit, parent=parent)
    try:
        await fed(command(aside, "fast-import", "--quiet", "--done"), in_pieces(stream), seconds=IMPORT_SECONDS)
    except GitFailed as error:
        raise _refused(error) from error
    return await _id(aside, REF)


async def _id(git_dir: Path, name: str) -> str:
    answer = await output(command(git_dir, "rev-parse", "--verify", "--end-of-options", name), limit=_ANSWER)
    return answer.decode("ascii").strip()


async def _tree(git_dir: Path, commit: str) -> str:
    return await _id(git_dir, f"{commit}^{{tree}}")


def _refused(error: GitFailed) -> UserError:
    lines = [line for line in error.error.splitlines() if line.startswith(("fatal: ", "error: "))]
    reason = lines[0].partition(": ")[2] if lines else "it gave no reason"
    return UserError("archive.refused", f"Git does not take these files: {reason[:300]}", "Mend the archive.")
