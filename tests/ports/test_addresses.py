"""How the pool is cut into bridges."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.ports.addresses import REPLICAS_PER_BRIDGE, Bridges, number, text


def test_a_bridge_has_a_gateway_addresses_for_replicas_and_a_rest_for_one_offs() -> None:
    bridges = Bridges("10.213.0.0/16")
    first, last = bridges.addresses(1)
    assert bridges.count == 16
    assert bridges.subnet(1) == "10.213.16.0/20"
    assert bridges.gateway(1) == "10.213.16.1"
    assert (text(first), text(last)) == ("10.213.16.2", "10.213.30.255")
    assert bridges.one_offs(1) == "10.213.31.0/24"


@pytest.mark.parametrize("pool", ["10.213.0.0/16", "172.31.240.0/20", "10.0.0.0/8"])
def test_no_address_belongs_to_two_purposes_or_two_bridges(pool: str) -> None:
    bridges = Bridges(pool)
    for index in {0, 1, bridges.count - 1} & set(range(bridges.count)):
        first, last = bridges.addresses(index)
        subnet, rest = IPv4Network(bridges.subnet(index)), IPv4Network(bridges.one_offs(index))
        assert rest.subnet_of(subnet)
        assert number(bridges.gateway(index)) < first
        assert last == int(rest.network_address) - 1
        assert last - first > 2 * REPLICAS_PER_BRIDGE
        for address in (first, last, int(rest.broadcast_address)):
            assert IPv4Address(address) in subnet
            assert bridges.index_of(text(address)) == index


def test_a_foreign_address_belongs_to_no_bridge() -> None:
    assert Bridges("10.213.0.0/16").index_of("10.214.0.1") is None


@pytest.mark.parametrize("pool", ["10.213.0.0/21", "10.213.0.1/16", "fd00::/16", "nonsense"])
def test_a_pool_that_is_no_network_or_too_small_is_refused(pool: str) -> None:
    with pytest.raises(ValueError):
        Bridges(pool)


def test_a_bridge_beyond_the_pool_is_refused() -> None:
    with pytest.raises(IndexError):
        Bridges("10.213.0.0/20").subnet(1)
