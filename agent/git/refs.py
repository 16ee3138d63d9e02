"""Which ref names Pushboat accepts.

Git itself takes ``refs/heads/$(id)``; names end up in command lines, messages and other people's scripts, so ours
are stricter than ``git check-ref-format``: letters and digits of any script, and ``. _ + @ = # , -`` inside a part.
"""

from __future__ import annotations

import re

MAX_REF = 255
"""Characters of a whole name, without ``refs/heads/``."""
MAX_PART = 250
"""Bytes of what stands between two slashes. It becomes the name of a file, which Linux limits to 255 bytes, and git
locks that by another with ``.lock`` at its end."""

HEADS = "refs/heads/"
TAGS = "refs/tags/"

_PART = re.compile(r"\w[\w.+@=#,-]*")


def is_branch_name(name: str) -> bool:
    """Tell whether `name` (without ``refs/heads/``) can be a branch here."""
    return _is_path(name) and name != "HEAD"


def is_accepted_ref(ref: str) -> bool:
    """Tell whether a push may name `ref`: a branch or a tag with a harmless name."""
    return any(ref.startswith(kind) and is_branch_name(ref.removeprefix(kind)) for kind in (HEADS, TAGS))


def _is_path(name: str) -> bool:
    fits = len(name) <= MAX_REF and all(len(part.encode()) <= MAX_PART for part in name.split("/"))
    return fits and all(
        _PART.fullmatch(part) and ".." not in part and not part.endswith((".", ".lock")) for part in name.split("/")
    )
