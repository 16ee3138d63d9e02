"""Locks of refs that were left by a git which was killed: nobody holds them, and whoever comes next would be refused.

git locks a ref by a file beside it, ``main.lock``, and ``HEAD`` as well where that names the ref. It removes them at
its end, of which SIGKILL and power cuts know nothing; it never takes one for left over, however old.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_WHOLE: Final = ("HEAD.lock", "packed-refs.lock")
"""Of what is not below ``refs``."""


def remove_locks(git_dir: Path, *, of: Iterable[str] | None = None, before: float | None = None) -> list[str]:
    """Remove the locks of these refs and of ``HEAD``, or of all refs; return the names of what was removed. Blocks.

    Only where no git is at work on them. `before`: those alone that are older (Unix seconds).
    """
    found = _all(git_dir) if of is None else (git_dir / f"{ref}.lock" for ref in (*of, "HEAD"))
    removed = []
    for lock in found:
        try:
            if before is None or lock.stat().st_mtime < before:
                lock.unlink()
                removed.append(str(lock.relative_to(git_dir)))
        except (FileNotFoundError, NotADirectoryError):
            continue  # never there, or its git ended just now
    return removed


def _all(git_dir: Path) -> Iterator[Path]:
    yield from (git_dir / name for name in _WHOLE)
    # No ref has a name that ends so: git allows none.
    yield from (path for path in sorted((git_dir / "refs").rglob("*.lock")) if path.is_file())
