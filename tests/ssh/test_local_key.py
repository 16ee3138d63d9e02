"""Root's own key: it signs in from this machine, and from nowhere else."""

from __future__ import annotations

import socket

import asyncssh
import pytest

from agent.ssh.hostkey import LOCAL_KEY
from tests.ssh.conftest import Builder, House


@pytest.fixture
def address() -> str:
    """Return an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way it would go (RFC 5737's address)
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(asked.getsockname()[0])


async def whoami(house: House, **options: object) -> str:
    async with house.connect(**options) as connection:
        return bytes((await connection.run("whoami", encoding=None, check=True)).stdout).decode()


async def test_the_local_key_does_not_sign_in_from_another_address(house: House, address: str) -> None:
    """A copy of the key file, used elsewhere: the connection's two ends have different addresses."""
    local = str(house.folder / LOCAL_KEY)
    with pytest.raises(asyncssh.PermissionDenied):
        await whoami(house, key=local, local_addr=(address, 0))
    assert house.dispatcher.seen == []
    assert await whoami(house, local_addr=(address, 0)) == "ann: whoami", "any other key does"
    assert await whoami(house, key=local) == "root: whoami"


async def test_the_local_key_signs_in_at_the_machines_own_address(open_house: Builder, address: str) -> None:
    house = await open_house(host="0.0.0.0")
    assert await whoami(house, key=str(house.folder / LOCAL_KEY), host=address) == "root: whoami"


async def test_a_refused_local_key_looks_like_an_unknown_one(house: House, address: str) -> None:
    """Who guesses that it was copied learns no more than of any other key."""
    local = str(house.folder / LOCAL_KEY)
    with pytest.raises(asyncssh.PermissionDenied) as refused:
        await whoami(house, key=local, local_addr=(address, 0))
    with pytest.raises(asyncssh.PermissionDenied) as unknown:
        await whoami(house, key=asyncssh.generate_private_key("ssh-ed25519"), local_addr=(address, 0))
    assert str(refused.value) == str(unknown.value)
