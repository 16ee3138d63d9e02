"""The rules that keep containers from this machine: as text, as iptables takes them, and as a container meets them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tarfile import TarFile, TarInfo

import pytest

from agent.builders.buildkit import Solve, build
from agent.builders.progress import Progress
from agent.docker import firewall
from agent.docker.build_network import BuildNetwork, exposure
from agent.docker.engine import Engine
from agent.docker.firewall import Door
from agent.schedulers.docker import DockerScheduler
from agent.settings import HttpSettings, NetworkSettings, Settings, SshSettings
from scripts.house import engine as house
from tests.fakes.terminal import FakeTerminal
from tests.support.docker import Corner, corner, token, until
from tests.support.neighbour import METADATA, PORT, neighbour
from tests.support.private_engine import private_engine

POOL = "10.213.0.0/16"


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


def test_what_this_machine_serves_to_everybody_is_open_after_the_metadata_address_and_before_the_rest() -> None:
    document = firewall.restore_document(POOL, resolvers=[], doors=[Door(80), Door(2222, "192.0.2.7")])
    lines = [line.removeprefix("-A PUSHBOAT-10.213.0.0-16 ") for line in document.splitlines()]
    at = lines.index("-p tcp -m tcp --dport 80 -m addrtype --dst-type LOCAL -j RETURN")
    assert lines[at - 1].startswith("-d 169.254.0.0/16 -j REJECT")
    assert lines[at + 1] == "-d 192.0.2.7/32 -p tcp -m tcp --dport 2222 -m addrtype --dst-type LOCAL -j RETURN"
    assert lines[at + 2].startswith("-m addrtype --dst-type LOCAL -j REJECT")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0.0.0.0:80", Door(80)),
        ("*:80", Door(80)),
        ("[::]:80", Door(80)),
        ("443", Door(443)),
        ("192.0.2.7:80", Door(80, "192.0.2.7")),
        ("127.0.0.1:80", None),
        ("[2001:db8::1]:80", None),
        ("localhost:80", None),
        ("0.0.0.0:0", None),
        ("0.0.0.0:65536", None),
        ("0.0.0.0:", None),
        ("", None),
        ("http", None),
        ("80 -j ACCEPT", None),
    ],
)
def test_a_door_is_where_somebody_listens_beyond_loopback(text: str, found: Door | None) -> None:
    assert firewall.door(text) == found


def test_the_doors_are_those_of_the_settings() -> None:
    settings = Settings(
        ssh=SshSettings(host="192.0.2.7", port=22),
        http=HttpSettings(binds=("127.0.0.1:80", "0.0.0.0:8080")),
        network=NetworkSettings(open_ports=("443", "8080")),
    )
    assert firewall.doors_of(settings) == [Door(8080), Door(22, "192.0.2.7"), Door(443)]
    assert firewall.doors_of(Settings()) == [Door(80), Door(2222)]


@pytest.mark.real
def test_doors_come_and_go_with_the_settings() -> None:
    pool, doors = "10.212.176.0/20", [Door(80), Door(2222, "192.0.2.7")]
    try:
        firewall.apply(pool, doors=doors)
        assert firewall.missing(pool) is None and firewall.missing(pool, doors=doors) is None
        assert "not as it should be" in (firewall.missing(pool, doors=[Door(81), Door(2222)]) or "")
        firewall.apply(pool)
        assert firewall.missing(pool) is None
        assert "not as it should be" in (firewall.missing(pool, doors=doors) or "")
    finally:
        firewall.remove(pool)


def test_a_jump_names_its_source_and_its_chain() -> None:
    pool, builds = firewall.sources(POOL, build_bridge="docker0")
    before, after = ["iptables", "--wait", "10", "-I", "INPUT"], ["-j", "PUSHBOAT-10.213.0.0-16"]
    assert firewall.jump("-I", "INPUT", pool=POOL, source=pool) == [*before, "-s", "10.213.0.0/16", *after]
    assert firewall.jump("-I", "INPUT", pool=POOL, source=builds) == [*before, "-i", "docker0", *after]


def test_the_bridge_of_builds_is_left_alone_unless_it_is_named() -> None:
    assert firewall.sources(POOL, build_bridge="") == [["-s", "10.213.0.0/16"]]


@pytest.mark.parametrize("name", ["docker+", "-j", "two words", "sixteen-letters-", "docker0\n"])
def test_a_bridge_that_is_none_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUSHBOAT_NETWORK_BUILD_BRIDGE", name)
    assert firewall.main(["apply"]) == 1
    assert "build_bridge" in capsys.readouterr().err


def test_builds_on_a_bridge_without_rules_are_told_of() -> None:
    assert exposure("", guarded="") == []
    assert exposure("docker0", guarded="docker0") == []
    ((message, hint),) = exposure("docker0", guarded="")
    assert "Docker's default bridge docker0" in message
    assert 'build_bridge = "docker0"' in hint
    ((message, _),) = exposure("br1", guarded="docker0")
    assert "bridge br1" in message and "names docker0" in message


def test_name_servers_are_read_and_loopback_ones_left_out() -> None:
    conf = (
        "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.2 \nnameserver fe80::1\nnameserver\nnameserver $(id)\nsearch a\n"
    )
    assert firewall.resolvers_of(conf) == ["10.0.0.2"]


def test_name_servers_behind_a_local_one_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub, behind, absent = tmp_path / "stub", tmp_path / "behind", tmp_path / "absent"
    stub.write_text("nameserver 127.0.0.53\n")
    # As on a cloud whose metadata service is its name server too.
    behind.write_text(f"nameserver {METADATA}\nnameserver 10.0.0.2\nnameserver {METADATA}\n")
    monkeypatch.setattr(firewall, "RESOLV_CONFS", (stub, behind, absent))
    assert firewall.name_servers() == [METADATA, "10.0.0.2"]


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


@pytest.mark.real
def test_rules_that_are_there_stay_there_while_they_are_applied_again() -> None:
    pool, stranger = "10.212.192.0/20", ["INPUT", "-s", "192.0.2.77/32", "-j", "RETURN"]
    firewall.apply(pool)
    subprocess.run(["iptables", "--wait", "10", "-I", *stranger], check=True)
    try:
        firewall.apply(pool)
        listed = subprocess.run(["iptables", "-S", "INPUT"], check=True, capture_output=True, text=True).stdout
        assert listed.index("192.0.2.77/32") < listed.index(firewall.chain(pool)), "it was put first anew"
        assert firewall.missing(pool) is None
    finally:
        subprocess.run(["iptables", "--wait", "10", "-D", *stranger], check=True)
        firewall.remove(pool)


@pytest.mark.real
def test_the_rules_for_a_bridge_of_builds_come_and_go_with_the_setting() -> None:
    pool, bridge = "10.212.224.0/20", "pbtnone0"
    try:
        firewall.apply(pool, build_bridge=bridge)
        assert firewall.missing(pool, build_bridge=bridge) is None
        with unprivileged():
            assert firewall.missing(pool, build_bridge=bridge) is None
        firewall.apply(pool)
        assert bridge in (firewall.missing(pool, build_bridge=bridge) or "")
        with unprivileged():
            assert bridge in (firewall.missing(pool, build_bridge=bridge) or "")
            assert firewall.missing(pool) is None
        firewall.apply(pool, build_bridge=bridge)
    finally:
        firewall.remove(pool)
    for parent in firewall.PARENTS:
        listed = subprocess.run(["iptables", "-S", parent], check=True, capture_output=True, text=True).stdout
        assert firewall.chain(pool) not in listed


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody meanwhile, as the agent is no more than that to iptables."""
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


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
            assert await greeting(made, METADATA, PORT), "reachable without the rules"
            firewall.apply(pool)
            try:
                assert not await greeting(made, gateway, port)
                assert not await greeting(made, other, port), "another address of this machine"
                assert not await greeting(made, METADATA, PORT)
                assert await greeting(made, outside, PORT)
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


@pytest.mark.real
async def test_build_steps_on_a_named_bridge_do_not_reach_this_machine_while_the_way_out_stays_open() -> None:
    server = await asyncio.start_server(greet, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    instance, pool = token("t"), "10.212.208.0/20"
    with tempfile.TemporaryDirectory(prefix="pbe-") as folder, neighbour(f"n{instance}"[:12]) as (outside, other):
        async with private_engine(Path(folder)) as own, Engine.open(own.socket, instance=instance) as engine:
            await asyncio.to_thread(house.Engine(own.path).make_base, "pushboat-test/base:rig")
            assert own.bridge in (await BuildNetwork(engine, guarded="").problems())[0][0]
            assert await BuildNetwork(engine, guarded=own.bridge).problems() == []
            targets = [(other, port), (METADATA, PORT), (outside, PORT)]
            with routed(own.bridge):
                assert await greetings(engine, targets) == targets, "all reachable without the rules"
                firewall.apply(pool, build_bridge=own.bridge)
                try:
                    assert await greetings(engine, targets) == [(outside, PORT)]
                finally:
                    firewall.remove(pool)
    server.close()


@contextmanager
def routed(bridge: str) -> Iterator[None]:
    """Let packets of a bridge through this machine, as an engine that may touch iptables does for its own."""
    rules = [["FORWARD", way, bridge, "-j", "ACCEPT"] for way in ("-i", "-o")]
    for rule in rules:
        # Behind DOCKER-USER, where Docker's own are.
        subprocess.run(["iptables", "--wait", "10", "-A", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "--wait", "10", "-D", *rule], check=True)


async def greetings(engine: Engine, targets: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return those of `targets` that greet a build step."""
    tries = "; ".join(f"nc -w 3 {address} {port} </dev/null | sed s/^/{address}:/" for address, port in targets)
    text = f"FROM pushboat-test/base:rig\nRUN : {token()}; {tries}; true\n".encode()
    said: list[str] = []

    async def body() -> AsyncGenerator[bytes, None]:
        data = BytesIO()
        with TarFile(fileobj=data, mode="w") as tar:
            member = TarInfo("Dockerfile")
            member.size = len(text)
            tar.addfile(member, BytesIO(text))
        yield data.getvalue()

    solve = Solve(tag=f"pushboat-{engine.instance}/x:y", dockerfile="Dockerfile")
    progress = Progress(said.append, monotonic=asyncio.get_running_loop().time)
    await build(engine, solve, body=body(), progress=progress)
    return [target for target in targets if f"         {target[0]}:hello" in said]
