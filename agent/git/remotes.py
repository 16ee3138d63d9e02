"""Fetches from repositories elsewhere into an app's, as safely as if what is there had been pushed.

The other end is asked what it has, then a real ``git fetch`` fills a repository aside, under the kernel's limits on
what it writes and holds. What came is looked through, checked and taken over as the commit of an archive is
(``aside``). Submodules are fetched likewise; a commit that has some is stored a second time with their files in their
places, under a ref that nobody else sees: ``tree`` reads that one in its stead.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.archives.caps import in_units
from agent.archives.incoming import raise_if_full
from agent.errors import Unavailable, UserError
from agent.git.access import CONNECT_SECONDS, opened
from agent.git.aside import SECONDS, borrowing, move, take_over
from agent.git.environment import MAX_PUSH_BYTES, command, limited
from agent.git.explained import disk_full, explained, is_of_full_disk, no_ref
from agent.git.hostkeys import scan
from agent.git.pack import PackLimits
from agent.git.process import GitFailed, output
from agent.git.progress import Progress
from agent.git.refs import HEADS, TAGS, is_branch_name
from agent.git.repos import GitRepos
from agent.git.submodules import Submodules
from agent.git.whole import set_whole
from agent.ports.remotes import Access, Address, Fetched, HostKey, RefKind, Tell, Wanted
from agent.sanitise import quoted
from proto.names import AppId

MAX_MEMORY_BYTES: Final = 2 << 30
"""Of one git that fetches. What is larger than `core.bigFileThreshold` is streamed; deltas are not."""
MAX_LISTED: Final = 8 << 20
"""Bytes of the list of refs that another end may give."""
_ANSWER: Final = 4_096
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_KNOWN: Final = 100
"""Branches whose commits are said to be there already."""


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A ref of the other end."""

    kind: RefKind
    name: str
    refspec: str
    """What is asked for: a whole ref name, or a commit's id."""


class GitRemotes:
    """Implements ``Remotes`` by git."""

    def __init__(
        self,
        repos: GitRepos,
        *,
        max_bytes: int = MAX_PUSH_BYTES,
        pack: PackLimits | None = None,
        ca_file: str = "",
    ) -> None:
        """`max_bytes`: of what one fetch writes. `ca_file`: certificates that are trusted besides the system's."""
        self._repos = repos
        self._max_bytes = max_bytes
        self._pack = pack or PackLimits()
        self._ca_file = ca_file

    async def fetch(self, app: AppId, wanted: Wanted, *, access: Access, tell: Tell) -> Fetched:
        """See ``Remotes.fetch``."""
        await self._repos.create(app)
        git_dir, aside = self._repos.path(app), self._repos.aside(app)
        try:
            async with asyncio.timeout(SECONDS):
                found = await self._find(git_dir, wanted, access)
                async with borrowing(git_dir, aside):
                    return await self._fetch(app, aside, wanted, found, access=access, tell=tell)
        except TimeoutError as error:
            message = f"{wanted.address.url} did not come within {SECONDS / 60:.0f} minutes."
            raise Unavailable("git.slow", message, "Try again, or push with git.") from error
        except OSError as error:
            raise_if_full(error)
            raise

    async def host_keys(self, place: str) -> list[HostKey]:
        """See ``Remotes.host_keys``."""
        return await scan(place)

    async def _fetch(
        self, app: AppId, aside: Path, wanted: Wanted, found: _Found, *, access: Access, tell: Tell
    ) -> Fetched:
        git_dir = self._repos.path(app)
        commit = await self._bring(aside, wanted.address, found.refspec, access=access, tell=tell)
        branch = wanted.onto or (found.name if found.kind == "branch" else wanted.otherwise)
        before = await self._repos.tip(app, branch)

        async def bring(address: Address, id_: str) -> str:
            await tell(f"       Fetching the submodule {address.url}")
            return await self._bring(aside, address, id_, access=access, tell=tell)

        submodules = Submodules(aside, self._repos.caps, bring)
        whole = await submodules.filled_in(commit, wanted.address)
        known = [await self._repos.tip(app, one) for one in (await self._repos.branches(app))[:_KNOWN]]
        try:
            wants = (commit, whole) if whole else (commit,)
            await take_over(git_dir, aside, wanted=wants, known=[one for one in known if one], limits=self._pack)
        except GitFailed as error:
            raise _refused(wanted.address, error) from error
        await self._repos.tree(app, whole or commit).entries()
        is_rewritten = before is not None and not await _is_ancestor(git_dir, before, commit)
        if whole:
            await set_whole(git_dir, commit, whole)
        if before != commit:
            await move(git_dir, branch, commit, before=before)
        return Fetched(
            commit=commit,
            kind=found.kind,
            name=found.name,
            branch=branch,
            before=before,
            is_rewritten=is_rewritten,
            notes=tuple(submodules.notes),
        )

    async def _find(self, git_dir: Path, wanted: Wanted, access: Access) -> _Found:
        """Return what `wanted` means at the other end."""
        address, ref = wanted.address, wanted.ref
        if _COMMIT.fullmatch(ref):
            return _Found(kind="commit", name=ref, refspec=ref)
        if ref and not is_branch_name(ref):
            raise UserError("git.ref-name", f"{quoted(ref)} is no branch, tag or commit.", "Give its plain name.")
        patterns = (HEADS + ref, TAGS + ref) if ref else ("HEAD",)
        arguments = ("ls-remote", "--quiet", "--symref", "--", address.url, *patterns)
        listed = await self._talk(git_dir, address, arguments, access=access, ref=ref, limit=MAX_LISTED)
        refs, symrefs = _read_refs(listed.decode("utf-8", "replace"))
        name = ref or symrefs.get("HEAD", "").removeprefix(HEADS)
        if not name or not is_branch_name(name):
            raise no_ref(address, ref)
        if not ref or HEADS + name in refs:
            return _Found(kind="branch", name=name, refspec=HEADS + name)
        if TAGS + name in refs:
            return _Found(kind="tag", name=name, refspec=TAGS + name)
        raise no_ref(address, ref)

    async def _bring(self, aside: Path, address: Address, refspec: str, *, access: Access, tell: Tell) -> str:
        """Fetch one ref or commit into `aside`; return the commit's id."""
        arguments = (
            *("-c", "fetch.unpackLimit=1", "-c", "pack.threads=1", "-c", "maintenance.auto=false"),
            *("fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force"),
            *("--no-auto-gc", "--", address.url, f"+{refspec}:refs/fetched/it"),
        )
        progress = Progress(tell)
        left = self._max_bytes - await asyncio.to_thread(_size, aside / "objects" / "pack")
        await self._talk(
            aside,
            address,
            arguments,
            access=access,
            ref=refspec.removeprefix(HEADS),
            limit=_ANSWER,
            progress=progress,
            file_bytes=left,
        )
        try:
            name = "refs/fetched/it^{commit}"
            answer = await output(command(aside, "rev-parse", "--verify", "--end-of-options", name), limit=_ANSWER)
        except GitFailed as error:
            raise no_ref(address, refspec.removeprefix(TAGS)) from error
        commit = answer.decode("ascii").strip()
        return commit

    async def _talk(
        self,
        git_dir: Path,
        address: Address,
        arguments: tuple[str, ...],
        *,
        access: Access,
        ref: str,
        limit: int,
        progress: Progress | None = None,
        file_bytes: int = 0,
    ) -> bytes:
        """Run git where it speaks to the other end. `file_bytes`: how much it may write."""
        aside = self._repos.aside(_app_of(git_dir))
        async with opened(address, access=access, aside=aside, ca_file=self._ca_file) as door:
            git = limited(
                command(git_dir, *door.options, *arguments),
                file_bytes=max(file_bytes, 0),
                memory_bytes=MAX_MEMORY_BYTES,
            )
            try:
                return await output(
                    git,
                    limit=limit,
                    seconds=SECONDS if progress else 4.0 * CONNECT_SECONDS,
                    extra=door.environment,
                    hear=progress.hear if progress else None,
                )
            except GitFailed as error:
                raise explained(error, address=address, ref=ref, max_bytes=in_units(self._max_bytes)) from error


def _read_refs(listed: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the refs of ``git ls-remote --symref`` by name, and what those that are symbolic stand for."""
    refs: dict[str, str] = {}
    symrefs: dict[str, str] = {}
    for line in listed.splitlines():
        what, _, name = line.partition("\t")
        if what.startswith("ref: "):
            symrefs[name] = what.removeprefix("ref: ")
        elif _COMMIT.fullmatch(what):
            refs[name] = what
    return refs, symrefs


async def _is_ancestor(git_dir: Path, older: str, newer: str) -> bool:
    try:
        await output(command(git_dir, "merge-base", "--is-ancestor", older, newer), limit=_ANSWER)
    except GitFailed as error:
        if error.status == 1:
            return False
        raise
    return True


def _app_of(git_dir: Path) -> AppId:
    """Return whose repository `git_dir` is: the app's own, or one aside."""
    return AppId(git_dir.name.removeprefix(".").partition(".")[0])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0


def _refused(address: Address, error: GitFailed) -> UserError:
    if is_of_full_disk(error):
        return disk_full()
    lines = [line for line in error.error.splitlines() if line.startswith(("fatal: ", "error: "))]
    reason = lines[0].partition(": ")[2] if lines else "it gave no reason"
    message = f"Git does not take what {address.url} has: {reason[:300]}"
    return UserError("source.refused", message, "A push of it would be refused as well; mend its history.")
