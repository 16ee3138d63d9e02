from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from agent.commands.command import Context
from agent.commands.replies import Reply
from agent.commands.server import Version
from agent.errors import Unavailable
from agent.state.keys import Invocations
from proto.wire import Exit
from tests.commands.desk import Desk
from tests.fakes.core import core
from tests.fakes.session import FakeSession


async def test_a_bug_is_a_line_with_an_id_and_the_traceback_is_in_the_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(self: Version, ctx: Context) -> Reply:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Version, "run", broken)
    answer = await desk.give("version")
    assert answer.status == Exit.BUG
    assert "Pushboat made a mistake (b" in answer.err and "secret detail" not in answer.err
    mark = answer.err.split("(")[1].split(")")[0]
    logged = capsys.readouterr().out
    assert mark in logged and "ZeroDivisionError" in logged


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_too_many_open_files_are_no_bug_and_worth_another_try(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def without(self: Version, ctx: Context) -> Reply:
        raise OSError(number, "Too many open files")

    monkeypatch.setattr(Version, "run", without)
    answer = await desk.give("version")
    assert answer.status == Exit.UNAVAILABLE
    assert "as many files open as it may" in answer.err and "LimitNOFILE" in answer.err


async def test_a_reader_who_has_gone_is_no_bug(desk: Desk) -> None:
    session = FakeSession()
    session.left.set()
    assert (await desk.give_as("help --all", session)).status == 1
    assert (await desk.give_as("nope", session)).status == 1


async def test_commands_that_change_something_are_recorded_without_values(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("config:set blog TOKEN=s3cret")
    await desk.give("config:get blog TOKEN")
    await desk.give("domains:add blog '!'")
    recorded = await desk.database.read.invocations.newest(10)
    assert [(row.command, row.status, row.user) for row in recorded] == [
        ("domains:add", 1, "ada"),
        ("config:set", 0, "ada"),
        ("apps:create", 0, "ada"),
    ]
    assert "s3cret" not in repr(recorded)


async def test_on_a_terminal_lines_end_as_terminals_need_it(desk: Desk) -> None:
    assert (await desk.give("apps:list", is_tty=True)).out.startswith("=====> My Apps\r\n")
    await desk.give("apps:create blog")
    answer = await desk.give("apps:destroy blog", b"blgo\x7f\x7fxg\r", is_tty=True)
    assert "> blgo\b \b\b \bxg\r\n" in answer.out
    assert "That is not blog" in answer.err


async def test_values_that_would_move_the_cursor_do_not_reach_a_terminal(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("config:set blog 'EVIL=\x1b]0;title\x07x\x1b[2J'")
    assert "\x1b" not in (await desk.give("config:show blog")).out
    assert "\x1b" not in (await desk.give("config:get blog EVIL", is_tty=True)).out
    assert "\x1b[2J" in (await desk.give("config:get blog EVIL")).out, "scripts get what was set"


async def test_200_kilobytes_of_arguments_are_read_at_once(desk: Desk) -> None:
    answer = await desk.give("config:set nope " + "A=" + "x" * 200_000)
    assert answer.status == Exit.NO_SUCH_APP
    quoted = await desk.give("apps:create " + "'" + "y" * 200_000 + "'")
    assert quoted.status == 1 and len(quoted.err) < 1_000


async def test_doctor_tells_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    class Sick:
        async def problems(self) -> list[tuple[str, str]]:
            return [("It does not answer.", "Start it.")]

    class Well:
        async def problems(self) -> list[tuple[str, str]]:
            return []

    async with core(tmp_path) as made:
        desk = Desk(made, doctors=(("Docker", Sick()), ("HAProxy", Well())))
        answer = await desk.give("doctor")
        assert answer.status == 1
        assert answer.out == (
            "=====> Docker: not in order\n !     It does not answer.\n       Start it.\n=====> HAProxy: in order\n"
        )
        found = msgspec.json.decode((await desk.give("doctor --format json")).out)
        assert found["problems"] == [{"about": "Docker", "message": "It does not answer.", "hint": "Start it."}]


async def test_doctor_tells_what_is_worth_knowing_and_calls_it_no_fault(tmp_path: Path) -> None:
    class Open:
        async def problems(self) -> list[tuple[str, str]]:
            return [("Everybody may come in.", "Close the door.")]

    async with core(tmp_path) as made:
        desk = Desk(made, remarkers=(("Door", Open()),))
        answer = await desk.give("doctor")
        assert answer.status == 0
        assert answer.out == "=====> Door: worth knowing\n !     Everybody may come in.\n       Close the door.\n"
        found = msgspec.json.decode((await desk.give("doctor --format json")).out)
        assert found["remarks"] == [{"about": "Door", "message": "Everybody may come in.", "hint": "Close the door."}]
        assert found["problems"] == []


async def test_the_version_is_told(desk: Desk) -> None:
    assert (await desk.give("--version")).out == "pushboat version 1.2.3\n"
    assert (await desk.give("version --format json")).json() == {"version": "1.2.3", "protocol": 1}


async def test_a_record_that_cannot_be_stored_does_not_undo_the_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: Invocations, **facts: object) -> None:
        raise Unavailable("disk.full", "The disk is full.")

    monkeypatch.setattr(Invocations, "add", full)
    assert (await desk.give("apps:create blog")).status == 0
    assert (await desk.give("apps:exists blog")).status == 0
