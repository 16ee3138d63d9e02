"""The shared bridges: made once, shared by all, and never taken from others."""

from __future__ import annotations

import asyncio

import pytest

from agent.docker import labels
from agent.docker.networks import Networks, network_body
from agent.errors import Unavailable
from agent.ports.addresses import Bridges
from tests.support.docker import Corner


def test_a_bridge_keeps_its_containers_apart_and_leaves_our_addresses_alone() -> None:
    body = network_body("pushboat-i1-1", instance="i1", bridges=Bridges("10.213.0.0/16"), index=1)
    assert body["IPAM"] == {
        "Driver": "default",
        "Config": [{"Subnet": "10.213.16.0/20", "Gateway": "10.213.16.1", "IPRange": "10.213.31.0/24"}],
    }
    assert body["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert body["Labels"] == {"com.pushboat.instance": "i1", "com.pushboat.bridge": "1"}


@pytest.mark.real
async def test_a_bridge_is_made_once_however_many_ask(docker: Corner) -> None:
    networks = Networks(docker.engine, bridges=docker.bridges)
    names = await asyncio.gather(*(networks.ensure(0) for _ in range(5)))
    assert set(names) == {f"pushboat-{docker.engine.instance}-0"}
    assert await Networks(docker.engine, bridges=docker.bridges).ensure(0) == names[0]
    wanted = labels.filters({labels.INSTANCE: docker.engine.instance})
    assert len(await docker.engine.json("GET", "networks", params={"filters": wanted})) == 1


@pytest.mark.real
async def test_a_foreign_network_of_our_name_is_named_and_not_touched(docker: Corner) -> None:
    name = f"pushboat-{docker.engine.instance}-0"
    foreign = await docker.engine.json("POST", "networks/create", data={"Name": name, "Internal": True})
    try:
        with pytest.raises(Unavailable, match=name) as caught:
            await Networks(docker.engine, bridges=docker.bridges).ensure(0)
        assert caught.value.code == "network.foreign"
    finally:
        await docker.engine.json("DELETE", f"networks/{foreign['Id']}")


@pytest.mark.real
async def test_addresses_that_somebody_else_uses_are_named(docker: Corner) -> None:
    body = {"Name": f"x-{docker.engine.instance}", "IPAM": {"Config": [{"Subnet": docker.bridges.subnet(0)}]}}
    foreign = await docker.engine.json("POST", "networks/create", data=body)
    try:
        with pytest.raises(Unavailable, match=docker.bridges.subnet(0)) as caught:
            await Networks(docker.engine, bridges=docker.bridges).ensure(0)
        assert caught.value.code == "network.pool-taken"
    finally:
        await docker.engine.json("DELETE", f"networks/{foreign['Id']}")


@pytest.mark.real
async def test_a_pool_that_was_changed_is_noticed(docker: Corner) -> None:
    await Networks(docker.engine, bridges=docker.bridges).ensure(0)
    with pytest.raises(Unavailable) as caught:
        await Networks(docker.engine, bridges=Bridges("10.250.0.0/20")).ensure(0)
    assert caught.value.code == "network.other-pool"
