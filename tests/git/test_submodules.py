"""How many submodules are fetched, and how deep, at the limit and one past it. Real git, nothing fetched."""

from __future__ import annotations

import pytest

from agent.archives.caps import Caps
from agent.errors import UserError
from agent.git.submodules import MAX_DEPTH, MAX_MANIFEST, MAX_SUBMODULES, Submodules
from agent.ports.remotes import Address, parse_address
from tests.support.git_client import SUBMODULE, Client

pytestmark = pytest.mark.slow

HERE = parse_address("https://git.example.com/app.git")


def holding(client: Client, inner: str, *, count: int = 1, padding: int = 0) -> str:
    """Return a commit with so many submodules, each at `inner`."""
    names = [f"s{number}" for number in range(count)]
    manifest = "".join(f'[submodule "{name}"]\n\tpath = {name}\n\turl = ../{name}.git\n' for name in names)
    links = {name: (SUBMODULE, inner.encode()) for name in names}
    return client.commit({".gitmodules": manifest.ljust(padding, "#"), **links})


async def filled_in(client: Client, commit: str) -> Submodules:
    async def bring(address: Address, commit: str) -> str:
        return commit

    submodules = Submodules(client.folder, Caps(), bring)
    assert await submodules.filled_in(commit, HERE)
    return submodules


async def test_fifty_submodules_are_fetched_and_no_more(client: Client) -> None:
    inner = client.commit({"a": "1"})
    await filled_in(client, holding(client, inner, count=MAX_SUBMODULES))
    with pytest.raises(UserError, match="more than 50 submodules"):
        await filled_in(client, holding(client, inner, count=MAX_SUBMODULES + 1))


async def test_submodules_lie_within_each_other_five_deep_and_no_deeper(client: Client) -> None:
    commit = client.commit({"a": "1"})
    for _ in range(MAX_DEPTH):
        commit = holding(client, commit)
    await filled_in(client, commit)
    with pytest.raises(UserError, match="more than 5 deep"):
        await filled_in(client, holding(client, commit))


async def test_their_file_may_have_a_mebibyte(client: Client) -> None:
    inner = client.commit({"a": "1"})
    await filled_in(client, holding(client, inner, padding=MAX_MANIFEST))
    with pytest.raises(UserError, match="gitmodules has 1,048,577 bytes"):
        await filled_in(client, holding(client, inner, padding=MAX_MANIFEST + 1))
