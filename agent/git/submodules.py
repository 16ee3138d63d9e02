"""Fetches the submodules of a commit, and makes a second commit in which their files are in their places.

What is in a tree decides where files go: the path of a link to a commit, never a name or path that ``.gitmodules``
says. That file is asked for addresses alone, and those are taken apart like any other: no protocols but https and ssh,
no options, no folders of this machine. The second commit has the date and words of the first and is its child, so that
the same sources always make the same one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.archives.caps import Caps, shown
from agent.errors import UserError
from agent.git.environment import command
from agent.git.process import GitFailed, fed, output
from agent.git.tree import SUBMODULE, GitTree
from agent.ports.remotes import Address
from agent.ports.source import TreeEntry

MAX_SUBMODULES: Final = 50
"""Of one commit, nested ones included."""
MAX_DEPTH: Final = 5
_SECONDS: Final = 300.0
_ANSWER: Final = 4_096
_MANIFEST: Final = ".gitmodules"
MAX_MANIFEST: Final = 1 << 20

Bring = Callable[[Address, str], Awaitable[str]]
"""Fetches one commit of an address into the repository aside; returns its id."""


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """A commit whose files belong somewhere."""

    commit: str
    address: Address
    prefix: str = ""
    depth: int = 0


class Submodules:
    """The submodules of one commit that lies in a repository aside."""

    def __init__(self, aside: Path, caps: Caps, bring: Bring) -> None:
        self._aside = aside
        self._caps = caps
        self._bring = bring
        self._count = 0
        self.notes: list[str] = []
        """What is missing all the same, in sentences."""

    async def filled_in(self, commit: str, address: Address) -> str | None:
        """Return the second commit, with every submodule's files; `None` if `commit` has no submodule.

        `address` is where `commit` came from.

        Raises:
            UserError: ``git.submodules``, there are too many, or too deep; and what fetching raises.
        """
        entries = await self._entries(_Place(commit=commit, address=address))
        if not self._count:
            return None
        total = sum(entry.size for entry in entries)
        if len(entries) > self._caps.entries or total > self._caps.total_bytes:
            raise UserError(
                "source.too-large",
                "With its submodules the commit has more files than may be deployed.",
                "Leave out of it what the app does not need.",
            )
        await output(command(self._aside, "read-tree", "--empty"), limit=_ANSWER)
        await fed(command(self._aside, "update-index", "-z", "--index-info"), _index_lines(entries), seconds=_SECONDS)
        tree = (await output(command(self._aside, "write-tree"), limit=_ANSWER, seconds=_SECONDS)).decode().strip()
        return await self._commit(tree, commit)

    async def _entries(self, place: _Place) -> list[TreeEntry]:
        """Return the files of a commit and of its submodules, by their paths in the whole."""
        entries = await GitTree(self._aside, commit=place.commit, caps=self._caps).entries()
        links = [entry for entry in entries if entry.mode == SUBMODULE]
        urls = await self._urls(place.commit) if links else {}
        found = [_below(place.prefix, entry) for entry in entries if entry.mode != SUBMODULE]
        for link in links:
            path = f"{place.prefix}{link.path}"
            if link.path not in urls:
                self.notes.append(f"The submodule {shown(path)} has no address in {_MANIFEST}: it will be missing.")
                found.append(_below(place.prefix, link))
                continue
            found += await self._fetched(path, link.blob, urls[link.path], place)
        return found

    async def _fetched(self, path: str, commit: str, url: str, place: _Place) -> list[TreeEntry]:
        self._count += 1
        if self._count > MAX_SUBMODULES or place.depth >= MAX_DEPTH:
            raise UserError(
                "git.submodules",
                f"There are more than {MAX_SUBMODULES} submodules, or they are more than {MAX_DEPTH} deep.",
                "Add their files to the repository itself (git subtree does it).",
            )
        try:
            address = place.address.related(url)
            got = await self._bring(address, commit)
        except UserError as error:
            message = f"The submodule {shown(path)} cannot be fetched. {error.message}"
            raise UserError(error.code, message, error.hint, status=error.status) from error
        return await self._entries(_Place(commit=got, address=address, prefix=f"{path}/", depth=place.depth + 1))

    async def _urls(self, commit: str) -> Mapping[str, str]:
        """Return the addresses in a commit's ``.gitmodules``, by the path of each submodule."""
        tree = GitTree(self._aside, commit=commit, caps=self._caps)
        if await tree.read(_MANIFEST, limit=MAX_MANIFEST) is None:
            return {}
        asked = ("config", "-z", f"--blob={commit}:{_MANIFEST}", "--get-regexp", r"^submodule\..*\.(path|url)$")
        try:
            listed = await output(command(self._aside, *asked), limit=MAX_MANIFEST)
        except GitFailed as error:
            if error.status == 1:
                return {}
            raise UserError("git.submodules", f"{_MANIFEST} cannot be read.", "Mend it, and sync again.") from error
        return read_modules(listed.decode("utf-8", "surrogateescape"))

    async def _commit(self, tree: str, commit: str) -> str:
        form = "--format=%an%x00%ae%x00@%ad%x00%cn%x00%ce%x00@%cd"
        log = command(self._aside, "log", "-1", "--no-show-signature", "--no-mailmap", "--date=raw", form, commit, "--")
        told = (await output(log, limit=1 << 20)).decode("utf-8", "replace").rstrip("\n").split("\0")
        names = ("AUTHOR_NAME", "AUTHOR_EMAIL", "AUTHOR_DATE", "COMMITTER_NAME", "COMMITTER_EMAIL", "COMMITTER_DATE")
        extra = {f"GIT_{name}": value or "nobody" for name, value in zip(names, told, strict=True)}
        made = command(self._aside, "commit-tree", "-p", commit, "-m", "With its submodules", tree)
        return (await output(made, limit=_ANSWER, extra=extra)).decode("ascii").strip()


def read_modules(listed: str) -> dict[str, str]:
    """Return addresses by path, of what ``git config -z --get-regexp`` lists: ``submodule.<name>.<key>\\n<value>``."""
    by_name: dict[str, dict[str, str]] = {}
    for record in listed.split("\0"):
        key, newline, value = record.partition("\n")
        name, _, what = key.removeprefix("submodule.").rpartition(".")
        if newline:
            by_name.setdefault(name, {})[what] = value
    return {one["path"].rstrip("/"): one["url"] for one in by_name.values() if "path" in one and "url" in one}


def _below(prefix: str, entry: TreeEntry) -> TreeEntry:
    return msgspec.structs.replace(entry, path=f"{prefix}{entry.path}") if prefix else entry


async def _index_lines(entries: list[TreeEntry]) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(entries), 1_000):
        lines = [f"{entry.mode:o} {entry.blob}\t{entry.path}\0" for entry in entries[start : start + 1_000]]
        yield "".join(lines).encode("utf-8", "surrogateescape")
