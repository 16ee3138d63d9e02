"""How every git process of ours is run: its options and its environment, as pure functions.

A repository's content is hostile and so is the client. Nothing of this machine's or of a user's git configuration
counts, no hook is run, no ref but branches and tags is seen, what is received is checked object by object and is on
disk before git says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

MAX_PUSH_BYTES = 1 << 30
"""Largest pack accepted, in bytes (1 GiB): enough for real projects, less than what fills a small server."""

_PROTOCOL = re.compile(r"version=[0-2]")

_OPTIONS = (
    # /dev/null is no folder, so no hook is ever found, whatever lies in the repository.
    "core.hooksPath=/dev/null",
    # A small push is otherwise not fsynced at all (measured: 36 -> 39 ms a push).
    "core.fsync=objects,derived-metadata,reference",
    # Blobs above are streamed, not held in memory: bounds what a bomb costs.
    "core.bigFileThreshold=16m",
    "core.fsmonitor=false",
    "gc.auto=0",
    "protocol.allow=never",
    # Later entries win: everything is hidden, then branches and tags are shown.
    "transfer.hideRefs=refs/",
    "transfer.hideRefs=!refs/heads/",
    "transfer.hideRefs=!refs/tags/",
)

_RECEIVE_OPTIONS = (
    "receive.fsckObjects=true",
    "receive.fsck.badFilemode=error",
    # CI checkouts are often one commit deep. The pushed tree is whole, and that is all a build needs.
    "receive.shallowUpdate=true",
    "receive.denyDeleteCurrent=refuse",
    "receive.autogc=false",
    # What comes stays the pack that it is. Git would take fewer than 100 objects apart and compress each anew, for
    # which a push of large files waits three quarters of its time (60 MB: 12 s, now 3); small pushes take no longer.
    "receive.unpackLimit=1",
    "receive.advertisePushOptions=false",
    "receive.updateServerInfo=false",
)


def environment(*, protocol: str = "") -> dict[str, str]:
    """Return the whole environment of a git process.

    `protocol` is the client's ``GIT_PROTOCOL``; anything but ``version=0`` to ``version=2`` is left out.
    """
    clean = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
    if _PROTOCOL.fullmatch(protocol):
        clean["GIT_PROTOCOL"] = protocol
    return clean


def command(git_dir: Path, *arguments: str) -> list[str]:
    """Return the argument vector of ``git <arguments>`` on the repository in `git_dir`."""
    return [*_git(git_dir), f"--git-dir={git_dir}", *arguments]


def receive_pack(git_dir: Path, *, max_bytes: int = MAX_PUSH_BYTES) -> list[str]:
    """Return the argument vector that serves one ``git push`` into `git_dir`, of a pack of at most `max_bytes`."""
    options = (*_RECEIVE_OPTIONS, f"receive.maxInputSize={max_bytes}")
    return [*_git(git_dir), *_settings(*options), "receive-pack", str(git_dir)]


def limited(command: Sequence[str], *, file_bytes: int, memory_bytes: int) -> list[str]:
    """Return `command` with the kernel's limits on each file that it writes and on its memory (prlimit(1)).

    For a git that talks to strangers: what it gets is looked through only once it is here.
    """
    return ["prlimit", f"--fsize={file_bytes}", f"--data={memory_bytes}", "--core=0", "--", *command]


def upload_pack(git_dir: Path) -> list[str]:
    """Return the argument vector that serves one ``git fetch`` or ``git clone`` from `git_dir`."""
    # --strict: this folder and no other, no guessing at `.git` suffixes.
    return [*_git(git_dir), "upload-pack", "--strict", "--timeout=600", str(git_dir)]


def _git(git_dir: Path) -> list[str]:
    # The folder is ours whoever owns it: git would refuse to serve it to root, for one.
    return ["git", "--no-pager", *_settings(*_OPTIONS, f"safe.directory={git_dir}")]


def _settings(*options: str) -> list[str]:
    return [part for option in options for part in ("-c", option)]
