"""Repositories elsewhere, of dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from agent.errors import UserError
from agent.ports.remotes import Access, Fetched, HostKey, RefKind, Tell, Wanted
from agent.sanitise import quoted
from proto.names import AppId
from tests.fakes.source import FakeRepos


class _Ref(msgspec.Struct, frozen=True):
    commit: str
    kind: RefKind
    files: Mapping[str, str]
    is_rewritten: bool
    notes: tuple[str, ...]


class FakeRemotes:
    """Fulfils ``Remotes``. `have` is what a push to the repository elsewhere does."""

    def __init__(self, repos: FakeRepos) -> None:
        self._repos = repos
        self.refs: dict[tuple[str, str], _Ref] = {}
        self.heads: dict[str, str] = {}
        self.keys: dict[str, list[HostKey]] = {}
        self.accesses: list[Access] = []
        """What each fetch might have used."""
        self.gate = asyncio.Event()
        """While it is not set, fetches hang."""
        self.gate.set()

    def have(
        self,
        url: str,
        commit: str,
        files: Mapping[str, str],
        *,
        ref: str = "main",
        kind: RefKind = "branch",
        is_rewritten: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Have a commit at a ref; the first branch is what is checked out there."""
        self.refs[url, ref] = _Ref(commit, kind, files, is_rewritten, notes)
        if kind == "branch":
            self.heads.setdefault(url, ref)

    async def fetch(self, app: AppId, wanted: Wanted, *, access: Access, tell: Tell) -> Fetched:
        self.accesses.append(access)
        url = wanted.address.url
        name = wanted.ref or self.heads.get(url, "")
        found = self.refs.get((url, name))
        if found is None:
            raise UserError("git.no-ref", f"{url} has no branch, tag or commit {quoted(name)}.", "Name one.")
        branch = wanted.onto or (name if found.kind == "branch" else wanted.otherwise)
        await tell("       Receiving objects: 100% (3/3), done.")
        await self.gate.wait()
        before = await self._repos.tip(app, branch)
        self._repos.put(app, found.commit, found.files, branch=branch)
        return Fetched(
            commit=found.commit,
            kind=found.kind,
            name=name,
            branch=branch,
            before=before,
            is_rewritten=found.is_rewritten and before is not None,
            notes=found.notes,
        )

    async def host_keys(self, place: str) -> list[HostKey]:
        if place not in self.keys:
            raise UserError("git.unreachable", f"No ssh server answers at {place}.", "Look at the name and the port.")
        return self.keys[place]
