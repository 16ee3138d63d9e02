"""What a session gives to a command, and how each can end."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from agent.errors import Unavailable, UserError
from agent.ports.session import Session
from agent.ssh.channel import IGNORED_SECONDS, MAX_VALUE
from tests.ssh.commanded import command
from tests.ssh.conftest import Builder, House


async def test_a_session_without_a_command_shows_help(house: House) -> None:
    async with house.connect() as connection:
        done = await connection.run(encoding=None)
    assert done.stdout == b"ann: help"


async def test_the_end_of_input_is_not_taken_for_leaving(house: House) -> None:
    @command(house, "patient")
    async def patient(session: Session) -> int:
        assert await session.read() == b""
        gone = asyncio.ensure_future(session.gone())
        await asyncio.sleep(0)
        is_gone = gone.done()
        gone.cancel()
        return 9 if is_gone else 0

    async with house.connect() as connection:
        done = await connection.run("patient", stdin=asyncssh.DEVNULL, encoding=None)
    assert done.exit_status == 0


async def test_ctrl_c_on_a_terminal_that_nobody_reads_is_leaving(house: House) -> None:
    @command(house, "watch")
    async def watch(session: Session) -> int:
        await session.write(b"ready")
        await session.gone()
        return 130

    async with house.connect() as connection:
        process = await connection.create_process("watch", term_type="xterm", encoding=None)
        assert await process.stdout.readexactly(5) == b"ready"
        process.stdin.write(b"abc\x03")
        async with asyncio.timeout(10):
            assert (await process.wait()).exit_status == 130


async def test_ctrl_c_goes_to_a_command_that_reads(house: House) -> None:
    @command(house, "edit")
    async def edit(session: Session) -> int:
        await session.write(b"ready")
        received = await session.read()
        gone = asyncio.ensure_future(session.gone())
        await asyncio.sleep(IGNORED_SECONDS + 0.2)  # longer than it may lie unread
        is_gone = gone.done()
        gone.cancel()
        await session.write(received)
        return 1 if is_gone else 0

    async with house.connect() as connection:
        process = await connection.create_process("edit", term_type="xterm", encoding=None)
        assert await process.stdout.readexactly(5) == b"ready"
        process.stdin.write(b"\x03")
        async with asyncio.timeout(10):
            done = await process.wait()
    assert (done.stdout, done.exit_status) == (b"\x03", 0)


async def test_ctrl_c_after_the_last_question_was_answered_is_leaving(house: House) -> None:
    @command(house, "ask")
    async def ask(session: Session) -> int:
        await session.write(b"sure?")
        await session.read()
        await session.write(b"thanks")
        await session.gone()
        return 7

    async with house.connect() as connection:
        process = await connection.create_process("ask", term_type="xterm", encoding=None)
        assert await process.stdout.readexactly(5) == b"sure?"
        process.stdin.write(b"y")
        assert await process.stdout.readexactly(6) == b"thanks"
        process.stdin.write(b"\x03")
        async with asyncio.timeout(10):
            assert (await process.wait()).exit_status == 7


async def test_a_terminal_has_a_name_and_a_size_that_may_change(house: House) -> None:
    @command(house, "tty")
    async def tty(session: Session) -> int:
        assert session.is_tty
        await session.write(f"{session.term} {session.size()} ".encode())
        await session.write(str(await session.resized()).encode())
        return 0

    async with house.connect() as connection:
        process = await connection.create_process("tty", term_type="vt220", term_size=(132, 43), encoding=None)
        assert await process.stdout.readuntil(b") ") == b"vt220 (132, 43) "
        process.change_terminal_size(100, 50)
        async with asyncio.timeout(10):
            assert (await process.wait()).stdout == b"(100, 50)"


async def test_a_size_that_makes_no_sense_is_the_usual_one(house: House) -> None:
    @command(house, "tty")
    async def tty(session: Session) -> int:
        await session.write(str(session.size()).encode())
        return 0

    async with house.connect() as connection:
        done = await connection.run("tty", term_type="xterm", term_size=(0, 4_000_000_000), encoding=None)
        plain = await connection.run("tty", encoding=None)
    assert done.stdout == plain.stdout == b"(80, 24)"


async def test_only_harmless_variables_are_taken(house: House) -> None:
    @command(house, "env")
    async def env(session: Session) -> int:
        await session.write(" ".join(f"{k}={v}" for k, v in sorted(session.environment.items())).encode())
        return 0

    sent = {
        **{"LANG": "de_DE.UTF-8", "LC_ALL": "C", "TZ": "Europe/Berlin", "NO_COLOR": "1", "PUSHBOAT_APP": "blog"},
        "PUSHBOAT_LONG": "x" * MAX_VALUE,
        **{
            "LD_PRELOAD": "/x",
            "PATH": "/x",
            "GIT_DIR": "/x",
            "pushboat_x": "1",
            "LC_": "x",
            "PUSHBOAT_BIG": "x" * (MAX_VALUE + 1),
        },
    }
    async with house.connect() as connection:
        done = await connection.run("env", env=sent, encoding=None)
    taken = (
        "LANG=de_DE.UTF-8 LC_ALL=C NO_COLOR=1 PUSHBOAT_APP=blog PUSHBOAT_LONG=" + "x" * MAX_VALUE + " TZ=Europe/Berlin"
    )
    assert done.stdout == taken.encode()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("x.y", "No such thing.", "Do that."), 1, " !     No such thing.\n       Do that.\n"),
        (Unavailable("x.y", "Docker is away."), 75, " !     Docker is away.\n"),
    ],
)
async def test_expected_trouble_is_a_sentence_and_a_status(
    house: House, error: Exception, status: int, said: str
) -> None:
    @command(house, "fail")
    async def fail(session: Session) -> int:
        raise error

    async with house.connect() as connection:
        done = await connection.run("fail")
    assert (done.exit_status, done.stderr) == (status, said)


async def test_a_bug_is_a_line_with_an_id_and_its_traceback_is_in_the_log(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    @command(house, "crash")
    async def crash(session: Session) -> int:
        raise ZeroDivisionError("the secret of the agent")

    async with house.connect() as connection:
        done = await connection.run("crash")
        assert (await connection.run("hello")).stdout == "ann: hello"
    assert done.exit_status == 70
    assert "Pushboat made a mistake (b" in str(done.stderr)
    assert "secret" not in str(done.stderr) and "Traceback" not in str(done.stderr)
    logged = capsys.readouterr().out
    number = str(done.stderr).partition("(")[2].partition(")")[0]
    assert number in logged and "ZeroDivisionError" in logged


async def test_a_connection_carries_only_so_many_sessions(open_house: Builder) -> None:
    house = await open_house(max_sessions=2)
    finish = asyncio.Event()

    @command(house, "wait")
    async def wait(session: Session) -> int:
        await finish.wait()
        return 0

    async with house.connect() as connection:
        running = [await connection.create_process("wait") for _ in range(2)]
        with pytest.raises(asyncssh.ChannelOpenError, match="At most 2 sessions"):
            await connection.create_process("wait")
        finish.set()
        for process in running:
            await process.wait()
        assert (await connection.run("hello")).exit_status == 0


async def test_a_connection_without_a_session_is_closed_after_a_while(open_house: Builder) -> None:
    house = await open_house(idle=0.4)

    @command(house, "wait")
    async def wait(session: Session) -> int:
        await session.gone()
        return 0

    async with house.connect() as idle, house.connect() as busy:
        process = await busy.create_process("wait")
        async with asyncio.timeout(10):
            await idle.wait_closed()
        assert not busy.is_closed()
        process.close()


async def test_a_peer_that_no_longer_answers_is_given_up(open_house: Builder) -> None:
    house = await open_house(keepalive=0.2)
    left = asyncio.Event()

    @command(house, "wait")
    async def wait(session: Session) -> int:
        await session.gone()
        left.set()
        return 0

    async with house.connect() as connection:
        await connection.create_process("wait")
        connection._transport.pause_reading()
        async with asyncio.timeout(10):
            await left.wait()
        connection.abort()


async def test_forwarding_is_refused_in_every_direction(house: House) -> None:
    async with house.connect() as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 80)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection("/var/run/docker.sock")
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.start_server(lambda *_: None, "127.0.0.1", 0)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.start_unix_server(lambda *_: None, "/tmp/x")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_tun()
        assert (await connection.run("hello", encoding=None)).stdout == b"ann: hello"


async def test_there_is_no_sftp_and_no_other_subsystem(house: House) -> None:
    async with house.connect() as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process(subsystem="netconf")


async def test_closing_gives_sessions_a_moment_and_then_ends_them(house: House) -> None:
    started = asyncio.Event()

    @command(house, "wait")
    async def wait(session: Session) -> int:
        started.set()
        await asyncio.get_running_loop().create_future()
        return 0

    @command(house, "short")
    async def short(session: Session) -> int:
        await started.wait()
        return 5

    port = house.port
    async with house.connect() as connection:
        long = await connection.create_process("wait")
        brief = await connection.create_process("short")
        await started.wait()
        async with asyncio.timeout(10):
            await house.listener.close(grace=0.2)
            assert (await brief.wait()).exit_status == 5
            ended = await long.wait()
            assert ended.exit_status == 75 and "is being stopped" in str(ended.stderr)
            await connection.wait_closed()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("size", [262_145, 2_000_000, 4_000_000])
async def test_a_command_that_is_too_long_is_refused_in_words_and_the_connection_stays(house: House, size: int) -> None:
    async with house.connect() as connection:
        done = await connection.run("x" * size, encoding=None)  # type: ignore[attr-defined]
        assert done.exit_status == 1
        assert done.stderr.startswith(
            b" !     The command is longer than 256 KiB.\n       Give long values on standard"
        )
        assert (await connection.run("x" * 262_144)).exit_status == 0  # type: ignore[attr-defined]
    assert house.dispatcher.seen == ["x" * 262_144]
