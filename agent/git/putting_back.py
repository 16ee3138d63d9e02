"""Refs that a push has moved, put back to where they were, when it is refused after all.

The objects stay in the repository, unreachable, until git's own clean-up: they harm nothing but the disk, whose share
is bounded by the size of one push.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from agent.errors import Unavailable
from agent.git.command_list import NOTHING, RefUpdate
from agent.git.environment import command
from agent.git.process import GitFailed, output

log = structlog.get_logger(__name__)

_LISTING = 64 << 20
_ANSWER = 1 << 20


async def put_back(git_dir: Path, updates: Sequence[RefUpdate]) -> bool:
    """Undo each update that git has taken. Those that it refused are left alone; repeating is harmless.

    Where that cannot be done (a full disk, a repository that went with its app) it is logged, and false returned: the
    refs are then tips that nobody recorded, which the next push deploys or refuses.
    """
    try:
        await _put_back(git_dir, updates)
    except (GitFailed, Unavailable) as error:
        log.error("push.not-put-back", repository=git_dir.name, reason=str(error))
        return False
    return True


async def _put_back(git_dir: Path, updates: Sequence[RefUpdate]) -> None:
    listing = command(git_dir, "for-each-ref", "--format=%(objectname) %(refname)")
    lines = (await output(listing, limit=_LISTING)).decode("utf-8", "replace").splitlines()
    now = {ref: oid for oid, ref in (line.split(" ", 1) for line in lines)}
    taken = [update for update in updates if now.get(update.ref, NOTHING) == update.new != update.old]
    created = [update for update in taken if update.old == NOTHING]
    # First what is new: `a` and `a/b` cannot be there together, nor in one transaction.
    for undone in (created, [update for update in taken if update.old != NOTHING]):
        if undone:
            await output(command(git_dir, "update-ref", "-z", "--stdin"), limit=_ANSWER, stdin=_undoing(undone))


def _undoing(updates: Sequence[RefUpdate]) -> bytes:
    """Return what ``git update-ref -z --stdin`` reads (git-update-ref(1)): new value, then the one it must have now."""
    return b"".join(f"update {update.ref}\0{update.old}\0{update.new}\0".encode() for update in updates)
