"""The rules that keep containers from this machine: as text, as iptables takes them, and as a container meets them."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.docker import firewall
from agent.schedulers.docker import DockerScheduler
from tests.fakes.terminal import FakeTerminal
from tests.support.docker import Corner, corner, until

POOL = "10.213.0.0/16"
METADATA = "169.254.169.254"


def test_the_chain_is_named_after_the_pool_and_fits() -> None:
    assert firewall.chain(POOL) == "PUSHBOAT-10.213.0.0-16"
    assert len(firewall.chain("255.255.255.255/32")) <= 28


def test_answers_and_name_servers_come_before_what_is_refused() -> None:
    document = firewall.restore_document(POOL, resolvers=["192.168.1.5"])
    assert document == (
        "*filter\n"
        ":PUSHBOAT-10.213.0.0-16 - [0:0]\n"
        "-A PUSHBOAT-10.213.0.0-16 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n"
        "-A PUSHBOAT-10.213.0.0-16 -d 192.168.1.5/32 -p udp -m udp --dport 53 -j RETURN\n"
        "-A PUSHBOAT-10.213.0.0-16 -d 192.168.1.5/32 -p tcp -m tcp --dport 53 -j RETURN\n"
        "-A PUSHBOAT-10.213.0.0-16 -d 169.254.0.0/16 -j REJECT --reject-with icmp-port-unreachable\n"
        "-A PUSHBOAT-10.213.0.0-16 -m addrtype --dst-type LOCAL -j REJECT --reject-with icmp-port-unreachable\n"
        "-A PUSHBOAT-10.213.0.0-16 -m addrtype --dst-type BROADCAST -j REJECT --reject-with icmp-port-unreachable\n"
        "-A PUSHBOAT-10.213.0.0-16 -m addrtype --dst-type MULTICAST -j REJECT --reject-with icmp-port-unreachable\n"
        "COMMIT\n"
    )


def test_a_jump_names_its_source_and_its_chain() -> None:
    assert firewall.jump("-I", "INPUT", pool=POOL) == [
        *("iptables", "--wait", "10", "-I", "INPUT"),
        *("-s", "10.213.0.0/16", "-j", "PUSHBOAT-10.213.0.0-16"),
    ]


def test_name_servers_are_read_and_loopback_ones_left_out() -> None:
    conf = (
        "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.2 \nnameserver fe80::1\nnameserver\nnameserver $(id)\nsearch a\n"
    )
    assert firewall.resolvers_of(conf) == ["10.0.0.2"]


@pytest.mark.parametrize("pool", ["nonsense", "10.213.0.1/16", "10.213.0.0/16; reboot", "fd00::/8"])
def test_a_pool_that_is_none_is_refused(pool: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert firewall.main(["apply", "--pool", pool]) == 1
    assert capsys.readouterr().err


@pytest.mark.real
async def test_applying_and_removing_may_be_repeated() -> None:
    pool = "10.212.240.0/20"
    assert firewall.main(["check", "--pool", pool]) == 1
    try:
        for _ in range(2):
            assert firewall.main(["apply", "--pool", pool]) == 0
            assert firewall.main(["check", "--pool", pool]) == 0
    finally:
        for _ in range(2):
            assert firewall.main(["remove", "--pool", pool]) == 0
    assert firewall.main(["check", "--pool", pool]) == 1


@contextmanager
def neighbour(name: str) -> Iterator[tuple[str, str]]:
    """Give another machine beside this one, which greets on port 7000: a network namespace.

    Its address, and this machine's towards it. It is the metadata service too, as in a cloud.
    """
    link = f"10.211.{random.randrange(256)}"
    address, gateway, inside = f"{link}.2", f"{link}.1", f"/run/netns/{name}"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def ip_inside(*arguments: str) -> None:
        subprocess.run(["nsenter", f"--net={inside}", "ip", *arguments], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("address", "add", f"{gateway}/30", "dev", name)
        ip("link", "set", name, "up")
        ip_inside("address", "add", f"{address}/30", "dev", "eth0")
        ip_inside("link", "set", "eth0", "up")
        ip_inside("route", "add", "default", "via", gateway)
        ip_inside("link", "set", "lo", "up")
        ip_inside("address", "add", f"{METADATA}/32", "dev", "lo")
        ip("route", "add", METADATA, "via", address, "dev", name)
        listen = ["nsenter", f"--net={inside}", "busybox", "nc", "-ll", "-p", "7000", "-e", "busybox", "echo", "hello"]
        server = subprocess.Popen(listen)
        try:
            yield address, gateway
        finally:
            server.kill()
            server.wait()
    finally:
        ip("netns", "delete", name)


async def greeting(made: Corner, address: str, port: int) -> bool:
    """Tell whether a container gets a greeting from a TCP server at `address`."""
    scheduler, terminal = DockerScheduler(made.engine, bridges=made.bridges), FakeTerminal()
    terminal.type(b"")
    one_off = made.one_off("nc", "-w", "3", address, str(port))
    await scheduler.run(one_off, terminal)
    return terminal.out == b"hello\n"


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()
    writer.close()


@pytest.mark.real
async def test_containers_do_not_reach_this_machine_while_the_way_out_and_the_way_in_stay_open() -> None:
    server = await asyncio.start_server(greet, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    async with corner() as made:
        pool, gateway = made.bridges.pool, made.bridges.gateway(0)
        with neighbour(f"n{made.engine.instance}"[:12]) as (outside, other):
            assert await greeting(made, gateway, port), "reachable without the rules"
            assert await greeting(made, METADATA, 7000), "reachable without the rules"
            firewall.apply(pool)
            try:
                assert not await greeting(made, gateway, port)
                assert not await greeting(made, other, port), "another address of this machine"
                assert not await greeting(made, METADATA, 7000)
                assert await greeting(made, outside, 7000)
                wish = made.wish("httpd", "-f", "-p", "5000")
                await DockerScheduler(made.engine, bridges=made.bridges).converge(made.app, [wish], lambda _: None)
                await until(lambda: answers(wish.address, 5000))
            finally:
                firewall.remove(pool)
    server.close()


async def answers(address: str, port: int) -> bool:
    """Tell whether an HTTP server answers there, as the proxy would find it."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return line.startswith(b"HTTP/")
