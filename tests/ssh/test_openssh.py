"""The OpenSSH client as people use it, and the crowds that no client of ours would make."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator

import asyncssh
import pytest

from agent.errors import Misconfigured
from agent.ports.session import Session
from agent.ssh import turnstile
from agent.ssh.door import bind
from agent.ssh.server import CIPHERS
from tests.ssh.conftest import Builder, House, eventually, run

pytestmark = pytest.mark.real


async def test_a_command_answers_with_its_streams_and_status(house: House) -> None:
    async def speak(line: str, session: Session) -> int:
        await session.write(b"out")
        await session.write_error(b"err")
        return 20

    house.dispatcher.commands["speak"] = speak
    done = await house.ssh("speak", "of", "it")
    assert (done.status, done.out, done.err) == (20, b"out", "err")
    assert house.dispatcher.seen == ["speak of it"]


async def test_the_longest_command_that_a_machine_can_give_is_refused_in_words(house: House) -> None:
    done = await house.ssh("config:set", "blog", *(f"KEY{number}={'x' * 100_000}" for number in range(18)))
    assert (done.status, done.out) == (1, b"")
    assert "The command is longer than 256 KiB." in done.err and "config:import <app> < file" in done.err


async def test_without_a_command_there_is_help(house: House) -> None:
    assert (await house.ssh()).out == b"ann: help"


async def test_an_unknown_key_is_refused_and_told_so(house: House) -> None:
    stranger = house.folder / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(stranger))
    stranger.chmod(0o600)
    done = await house.ssh("whoami", key=stranger)
    assert done.status == 255 and "Permission denied (publickey)" in done.err


async def test_a_forced_terminal_has_a_size_and_a_name(house: House) -> None:
    async def tty(line: str, session: Session) -> int:
        await session.write(f"{session.is_tty} {session.term} {session.size()}".encode())
        return 3

    house.dispatcher.commands["tty"] = tty
    done = await run(
        "ssh", *house.ssh_options(), "-tt", "127.0.0.1", "tty", env={**house.git_environment(), "TERM": "vt102"}
    )
    assert (done.status, done.out) == (3, b"True vt102 (80, 24)")


async def test_a_megabyte_on_standard_input_arrives(house: House) -> None:
    data = os.urandom(1 << 20)

    async def take(line: str, session: Session) -> int:
        received = b""
        while chunk := await session.read():
            received += chunk
        return 0 if received == data else 1

    house.dispatcher.commands["take"] = take
    assert (await house.ssh("take", stdin=data)).status == 0


async def test_arguments_of_200_kilobytes_arrive(house: House) -> None:
    words = ["x" * 100_000, "y" * 100_000]
    done = await house.ssh("echo", *words)
    assert done.status == 0
    assert house.dispatcher.seen == [" ".join(["echo", *words])]


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x80", b"apps:list \xc3\x28", b"\x00abc"[1:] + b"\xed\xa0\x80"])
async def test_binary_garbage_is_told_to_be_no_text(house: House, garbage: bytes) -> None:
    done = await house.ssh(os.fsdecode(garbage))
    assert done.status == 1
    assert done.err == " !     The command is not UTF-8 text.\n       Send binary data on standard input.\n"
    assert house.dispatcher.seen == []


@pytest.mark.parametrize("line", ["\x1b]0;x\x07", "a\nb", "'", "\\", "$(id)", "`id`", "a;b|c&d", "%s%n", " ", "é"])
async def test_a_line_reaches_the_commands_as_it_was_typed(house: House, line: str) -> None:
    assert (await house.ssh(line)).status == 0
    assert house.dispatcher.seen == [line]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("git-upload-archive 'blog'", "makes no archives"),
        ("git-lfs-authenticate blog upload", "does not store files of Git LFS"),
        ("git-receive-pack", "no name of an app"),
        ("git-receive-pack 'a' 'b'", "no name of an app, or more than one"),
        ("git-receive-pack '../../etc/passwd'", "is not the name of an app"),
        ("git-receive-pack '/etc'\\''x'", "is not the name of an app"),
        ("git-receive-pack --help", "is not the name of an app"),
        ("git-upload-pack '-c'", "is not the name of an app"),
        ("git-upload-pack 'blog\x1b[2J'", "is not the name of an app"),
        ("git upload-pack 'nothing'", "There is no app called nothing"),
    ],
)
async def test_what_git_would_do_elsewhere_is_refused_with_a_sentence(house: House, line: str, said: str) -> None:
    done = await house.ssh(line)
    assert done.status in (1, 20)
    assert said in done.err and "\x1b" not in done.err and "Traceback" not in done.err
    assert house.dispatcher.seen == []


@pytest.mark.parametrize("command", [("sftp",), ("scp", "-O"), ("scp",)])
async def test_files_cannot_be_copied(house: House, command: tuple[str, ...]) -> None:
    target = house.folder / "target"
    options = [option if option != "-p" else "-P" for option in house.ssh_options()]
    there = "127.0.0.1:/etc/passwd"
    done = await run(*command, *options, *([there] if command == ("sftp",) else [there, str(target)]))
    assert done.status != 0
    assert not target.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"),
        ("-W", "127.0.0.1:1"),
    ],
)
async def test_nothing_is_forwarded(house: House, options: tuple[str, ...]) -> None:
    done = await house.ssh(*(() if "-W" in options else ("hello",)), options=options)
    assert done.status == 255


async def test_neither_the_users_agent_nor_his_screen_is_touched(house: House) -> None:
    done = await house.ssh("hello", options=("-A", "-X"))
    assert done.status == 0 and done.out == b"ann: hello"


async def test_many_commands_share_one_connection(house: House) -> None:
    control = ("-o", f"ControlPath={house.folder}/c", "-o", "ControlMaster=auto", "-o", "ControlPersist=5")
    first = await house.ssh("one", options=control)
    others = await asyncio.gather(*(house.ssh(f"n{number}", options=control) for number in range(8)))
    assert first.status == 0 and [other.status for other in others] == [0] * 8
    await house.ssh(options=(*control, "-O", "exit"))


async def test_aes_gcm_or_ctr_is_spoken_and_chacha20_is_not(house: House) -> None:
    gcm = await house.ssh("x", options=("-c", "aes128-gcm@openssh.com"))
    ctr = await house.ssh("x", options=("-c", "aes256-ctr"))
    chacha = await house.ssh("x", options=("-c", "chacha20-poly1305@openssh.com"))
    assert (gcm.status, ctr.status, chacha.status) == (0, 0, 255)


async def test_aes_gcm_is_what_the_server_offers_first(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"SSH-2.0-reader\r\n")
    async with asyncio.timeout(10):
        await reader.readline()
        size = int.from_bytes(await reader.readexactly(4), "big")
        packet = await reader.readexactly(size)
    writer.close()
    # RFC 4253, 7.1: after padding length, message number and cookie, lists of names; the third and fourth are ciphers.
    lists, position = [], 18
    for _ in range(8):
        length = int.from_bytes(packet[position : position + 4], "big")
        lists.append(packet[position + 4 : position + 4 + length].decode().split(","))
        position += 4 + length
    assert lists[2] == lists[3] == list(CIPHERS)
    assert lists[2][:2] == ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]
    assert not any("chacha20" in name for names in lists for name in names)
    assert lists[6] == lists[7] == ["none"], "no compression"


async def test_200_logins_at_once_are_all_served(house: House) -> None:
    async def login() -> bytes:
        async with house.connect(connect_timeout=30, login_timeout=30) as connection:
            return bytes((await connection.run("hello", encoding=None)).stdout)

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(login() for _ in range(200)))
    assert answers == [b"ann: hello"] * 200
    assert house.listener.door.inside == 0


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def silent(port: int, count: int, source: str) -> list[socket.socket]:
    """Return that many connections that say nothing."""
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((source, 0))
        sockets.append(connection)
        await loop.sock_connect(connection, ("127.0.0.1", port))
    return sockets


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("source", ["127.0.0.9", "127.0.0.1"], ids=["another source", "the same source"])
async def test_5000_silent_connections_do_not_keep_out_a_good_login(house: House, source: str) -> None:
    crowd = await silent(house.port, 5_000, source)
    try:
        for _ in range(3):
            done = await house.ssh("hello")
            assert (done.status, done.out) == (0, b"ann: hello"), done.err
        assert house.listener.door.waiting <= 2_000
        assert house.listener.door.inside <= 10
    finally:
        for connection in crowd:
            connection.close()
    await eventually(lambda: house.listener.door.waiting == 0, what="nobody waits any more")
    await eventually(lambda: house.listener.door.inside == 0, what="nobody is inside any more")


async def test_past_the_cap_connections_wait_and_are_then_served(open_house: Builder) -> None:
    house = await open_house(max_unauthenticated_per_source=1, login_grace=1.0)
    # It speaks and then does nothing, so it has the only place until its time is up.
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"SSH-2.0-slow\r\n")
    assert (await reader.readline()).startswith(b"SSH-2.0-Pushboat")
    done = await house.ssh("hello")
    assert (done.status, done.out) == (0, b"ann: hello"), done.err
    writer.close()


async def test_a_client_that_waits_for_our_greeting_gets_it(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"SSH-2.0-Pushboat")
    writer.close()


async def test_who_waited_in_vain_is_sent_away(open_house: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "LINGERING", 60.0)
    house = await open_house(max_unauthenticated_per_source=1, login_grace=30.0)
    _, first = await asyncio.open_connection("127.0.0.1", house.port)
    first.write(b"SSH-2.0-slow\r\n")
    await eventually(lambda: house.listener.door.inside == 1, what="the first is inside")
    reader, second = await asyncio.open_connection("127.0.0.1", house.port)
    second.write(b"SSH-2.0-late\r\n")
    async with asyncio.timeout(15):
        # Closed with its greeting unread, which TCP tells as a reset.
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
    first.close()
    second.close()


@pytest.mark.parametrize(
    "rubbish", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\0" * 200, b"\0" * 100_000, b"SSH-1.5-x\n"]
)
async def test_other_protocols_and_rubbish_are_dropped(house: House, rubbish: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(rubbish)
    writer.write_eof()
    async with asyncio.timeout(10):
        try:
            await reader.read()
        except ConnectionResetError:
            pass
    writer.close()
    await eventually(lambda: house.listener.door.inside == 0, what="its place is free")
    assert (await house.ssh("hello")).status == 0


async def test_a_port_that_is_taken_stops_the_start(house: House) -> None:
    with pytest.raises(Misconfigured, match=f"cannot listen on 127.0.0.1 port {house.port}"):
        bind("127.0.0.1", house.port)
