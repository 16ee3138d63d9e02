"""What a program that was pushed reaches from inside its own container, with the firewall's rules in place."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tests.flow import apps
from tests.support.neighbour import METADATA, PORT, neighbour
from tests.support.rig import BASE, Rig

pytestmark = pytest.mark.real


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()
    writer.close()


@contextmanager
def protected(rig: Rig) -> Iterator[None]:
    """Have the rules in place meanwhile."""
    rig.boat.firewall("apply")
    try:
        yield
    finally:
        rig.boat.firewall("remove")


class Prisoner:
    """An app that tries to get out."""

    def __init__(self, rig: Rig, app: str) -> None:
        self._rig = rig
        self._app = app

    async def inside(self, command: str, *, stdin: bytes = b"") -> str:
        """Return what a line of shell prints in the app's container."""
        return (await self._rig.ssh("enter", self._app, "web.1", "--", "sh", "-c", f"'{command}'", stdin=stdin)).out

    async def hears(self, address: str, port: int, *, says: bytes = b"") -> str:
        """Return what a TCP server answers the app; empty if it cannot be reached."""
        return await self.inside(f"nc -w 3 {address} {port} 2>/dev/null", stdin=says)

    async def reaches(self, doors: dict[str, tuple[str, int]]) -> set[str]:
        """Return those of `doors` where somebody answers the app."""
        request = b"GET / HTTP/1.0\r\n\r\n"
        heard = await asyncio.gather(*(self.hears(*door, says=request) for door in doors.values()))
        return {name for name, answer in zip(doors, heard, strict=True) if answer}


async def open_to_all(rig: Rig) -> None:
    """Have ssh and HTTP answer at every address of this machine, as on a server."""
    await rig.stop_agent()
    rig.boat.settings = {"ssh": {"host": "0.0.0.0"}, "http": {"binds": [f"0.0.0.0:{rig.boat.http_port}"]}}
    await rig.start_agent()


async def address_of(rig: Rig, app: str) -> str:
    return await container_address(rig, *await rig.replicas(app))


async def container_address(rig: Rig, container: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return (await rig.docker("inspect", "--format", form, container)).out.strip()


async def gateway_of(rig: Rig, app: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
    return (await rig.docker("inspect", "--format", form, *await rig.replicas(app))).out.strip()


async def test_an_app_reaches_the_world_and_of_this_machine_what_is_public_alone(lone_boat: Rig) -> None:
    rig = lone_boat
    await open_to_all(rig)
    assert (await rig.git_push(rig.checkout("victim", apps.page("victim")))).status == 0
    assert (await rig.git_push(rig.checkout("prisoner", apps.page("prisoner")))).status == 0
    prisoner, gateway = Prisoner(rig, "prisoner"), await gateway_of(rig, "prisoner")
    server = await asyncio.start_server(greet, "0.0.0.0", 0)
    own = server.sockets[0].getsockname()[1]
    with neighbour(f"n{secrets.token_hex(5)}") as (outside, other):
        machine = {
            "a program of this machine": (gateway, own),
            "the same at another address": (other, own),
            "the metadata service": (METADATA, PORT),
        }
        allowed = {
            "the world": (outside, PORT),
            "the public ssh port": (other, rig.boat.ssh_port),
            "the proxy": (other, rig.boat.http_port),
            "itself": ("127.0.0.1", 5000),
            "its own address": (await address_of(rig, "prisoner"), 5000),
        }
        victim = {"another app": (await address_of(rig, "victim"), 5000)}
        assert await prisoner.reaches(machine | allowed | victim) == {*machine, *allowed}, "without the rules"
        with protected(rig):
            assert await prisoner.reaches(machine | allowed | victim) == {*allowed}
            doctor = await rig.must("doctor")
            assert "=====> Docker: in order" in doctor
            assert "=====> Builds: worth knowing" in doctor and "default bridge docker0" in doctor
            # It is not for want of a server: this machine, the proxy above all, reaches the victim.
            assert (await rig.http("victim.localhost")).text == "version victim\n"
            assert (await rig.http("prisoner.localhost")).text == "version prisoner\n"
            # By a public domain an app is asked through the proxy, as by anybody in the world.
            asked = b"GET / HTTP/1.0\r\nHost: victim.localhost\r\n\r\n"
            assert "version victim" in await prisoner.hears(other, rig.boat.http_port, says=asked)
            assert "SSH-2.0-" in await prisoner.hears(other, rig.boat.ssh_port, says=b"SSH-2.0-test\r\n")
    server.close()


STRANGERS = {
    "a container on Docker's default bridge": "bridge",
    "one of another network": "",
    "one of another bridge of ours": "pool",
}


@asynccontextmanager
async def strangers(rig: Rig) -> AsyncIterator[dict[str, tuple[str, int]]]:
    """Servers in containers on other networks: of others, and in a further part of the agent's own addresses."""
    mark = f"pushboat-test-{secrets.token_hex(4)}"
    further = list(rig.boat.pool.subnets(new_prefix=20))[-1]
    networks = {"bridge": "bridge", "": f"{mark}-other", "pool": f"{mark}-pool"}
    try:
        assert (await rig.docker("network", "create", f"{mark}-other")).status == 0
        assert (await rig.docker("network", "create", "--subnet", str(further), f"{mark}-pool")).status == 0
        found = {}
        for what, kind in STRANGERS.items():
            name = f"{mark}-{kind}"
            run = ("run", "--detach", "--name", name, "--network", networks[kind], BASE, "httpd", "-f", "-p", "5000")
            started = await rig.docker(*run)
            assert started.status == 0, started.err
            found[what] = (await container_address(rig, name), 5000)
        yield found
    finally:
        await rig.docker("rm", "--force", *(f"{mark}-{kind}" for kind in STRANGERS.values()))
        await rig.docker("network", "rm", f"{mark}-other", f"{mark}-pool")


async def test_an_app_reaches_no_other_container_at_any_port_address_or_network(lone_boat: Rig) -> None:
    rig = lone_boat
    served = {
        "Dockerfile": apps.page("victim")["Dockerfile"].replace("CMD exec", "CMD httpd -p 22; httpd -p 8080; exec")
    }
    assert (await rig.git_push(rig.checkout("victim", {**apps.page("victim"), **served}))).status == 0
    assert (await rig.git_push(rig.checkout("prisoner", apps.page("prisoner")))).status == 0
    prisoner, victim = Prisoner(rig, "prisoner"), await address_of(rig, "victim")
    name = (await rig.docker("inspect", "--format", "{{.Name}}", *await rig.replicas("victim"))).out.strip().strip("/")
    doors = {f"port {port}": (victim, port) for port in (22, 5000, 8080)} | {"by name": (name, 5000)}
    async with strangers(rig) as others:
        for door in (*doors.values(), *others.values()):
            if door[0] != name:
                _, writer = await asyncio.open_connection(*door)  # it is not for want of a server
                writer.close()
        with protected(rig):
            assert await prisoner.reaches(doors | others) == set()
    # There is no other protocol by which it would be on one wire with them.
    interfaces = {line.split()[-1] for line in (await prisoner.inside("cat /proc/net/if_inet6")).splitlines()}
    assert interfaces <= {"lo"}


async def test_an_app_sees_none_of_the_sockets_and_files_of_this_machine(lone_boat: Rig) -> None:
    rig = lone_boat
    assert (await rig.git_push(rig.checkout("prisoner", apps.page("prisoner")))).status == 0
    prisoner = Prisoner(rig, "prisoner")
    found = await prisoner.inside("find / -xdev -type s; ls /var/run /run; cat /proc/net/unix; echo end")
    assert found.rstrip().endswith("end")
    for word in ("docker", "containerd", "haproxy", "master.sock", str(rig.data)):
        assert word not in found
    # Its mounts are its own layers, the kernel's, and the three files about names that the engine writes.
    points = {line.split()[1] for line in (await prisoner.inside("cat /proc/mounts")).splitlines()}
    files = {point for point in points if not point.startswith(("/proc", "/sys", "/dev"))}
    assert files <= {"/", "/sbin/docker-init", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}, files
