"""Addresses of replicas: whom one is given to, and when it is given again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.lifecycle import addresses, replicas
from agent.ports.addresses import REPLICAS_PER_BRIDGE, Bridges, number, text
from agent.state.database import Transaction
from agent.state.replicas import Replica
from proto.names import WEB, ReplicaId
from tests.fakes.core import Core, core
from tests.fakes.world import FakeClock

ONE = Bridges("10.213.0.0/20")
FIRST, LAST = ONE.addresses(0)
REST_SECONDS = 600.0
"""What docs/security.md says: 10 minutes."""


class Few(Bridges):
    """A bridge of three addresses."""

    def __init__(self) -> None:
        super().__init__(ONE.pool)

    def addresses(self, index: int) -> tuple[int, int]:
        return FIRST, FIRST + 2


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as made:
        await made.create()
        yield made


async def given(blog: Core, *, bridges: Bridges = ONE) -> Replica:
    """Return a new replica, at the address that it was given."""
    async with blog.database.transaction() as tx:
        place = await addresses.take(tx, bridges=bridges)
        return await _add(tx, place.address, bridge=place.bridge)


def later(blog: Core, *, seconds: float) -> None:
    """Let time pass, in which nothing else happens."""
    assert isinstance(blog.clock, FakeClock)
    blog.clock.advance(seconds)


async def removed(blog: Core, replica: Replica) -> None:
    """Remove a replica, as it is done once its container is gone."""
    async with blog.database.transaction() as tx:
        await replicas.removed(tx, replica=replica)


async def _add(tx: Transaction, address: str, *, bridge: int = 0) -> Replica:
    (app,) = await tx.apps.all()
    replica = ReplicaId(f"r{address}")
    await tx.replicas.add(
        replica,
        app=app.id,
        release=1,
        process=WEB,
        number=1,
        bridge=bridge,
        address=address,
        port=5000,
        at=tx.now,
    )
    found = await tx.replicas.get(replica)
    assert found is not None
    return found


async def test_addresses_go_round_from_the_last_to_the_first(blog: Core) -> None:
    async with blog.database.transaction() as tx:
        await tx.server.set("address-cursor.0", text(LAST - 2))
    found = [(await given(blog)).address for _ in range(4)]
    assert found == [text(LAST - 1), text(LAST), text(FIRST), text(FIRST + 1)]


async def test_an_address_rests_for_ten_minutes_before_it_is_given_again(blog: Core) -> None:
    replica = await given(blog)
    await removed(blog, replica)
    # Whatever the circle says: as if it had come round in this very second.
    before_it = text(number(replica.address) - 1)
    for seconds, is_given in ((0.0, False), (REST_SECONDS - 1, False), (2.0, True)):
        later(blog, seconds=seconds)
        async with blog.database.transaction() as tx:
            await tx.server.set("address-cursor.0", before_it)
            assert ((await addresses.take(tx, bridges=ONE)).address == replica.address) is is_given


async def test_no_address_is_given_to_two(blog: Core) -> None:
    first = await given(blog)
    async with blog.database.transaction() as tx:
        await tx.server.set("address-cursor.0", text(number(first.address) - 1))
    assert (await given(blog)).address == text(number(first.address) + 1)


async def test_once_a_bridge_has_its_number_the_next_one_is_used_and_then_the_pool_is_full(blog: Core) -> None:
    two = Bridges("10.213.0.0/19")
    async with blog.database.transaction() as tx:
        for address in range(FIRST, FIRST + REPLICAS_PER_BRIDGE):
            await _add(tx, text(address))
    assert two.index_of((await given(blog, bridges=two)).address) == 1
    with pytest.raises(Unavailable) as full:
        await given(blog)
    assert full.value.code == "network.full"
    assert full.value.message == "All addresses of 10.213.0.0/20 are in use."
    assert full.value.hint == "Scale something down, or set a larger network.pool."


async def test_a_bridge_all_of_whose_addresses_rest_is_full_until_one_has_rested(blog: Core) -> None:
    few = Few()
    there = [await given(blog, bridges=few) for _ in range(3)]
    with pytest.raises(Unavailable, match="All addresses"):
        await given(blog, bridges=few)
    for replica in there:
        await removed(blog, replica)
        later(blog, seconds=1)
    with pytest.raises(Unavailable, match="All addresses"):
        await given(blog, bridges=few)
    later(blog, seconds=REST_SECONDS - 2.5)
    assert (await given(blog, bridges=few)).address == there[0].address
    with pytest.raises(Unavailable, match="All addresses"):
        await given(blog, bridges=few)
