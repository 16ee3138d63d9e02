"""`logs` shows what an app wrote, as asked, and goes on with what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from agent.commands import log_lines
from agent.commands.log_lines import read_moment, stamp
from agent.errors import UserError
from agent.logs import readers
from agent.logs.store import DiskLogStore
from agent.ports.logs import LogLine
from agent.state.apps import App
from proto.names import ReplicaId
from proto.wire import Exit
from tests.commands.desk import Desk
from tests.fakes.core import core
from tests.fakes.session import FakeSession
from tests.logs.lines import line

REPLICA = ReplicaId("raaaaaaaaaaa")
NOON = 1_714_564_800 * log_lines.SECOND
"""2024-05-01T12:00:00Z."""


class Reading:
    """A desk whose logs are real, and an app that has written."""

    def __init__(self, desk: Desk, store: DiskLogStore, app: App) -> None:
        self.desk = desk
        self.store = store
        self.app = app

    async def write(self, *lines: LogLine) -> None:
        for each in lines:
            await self.store.append(self.app.id, REPLICA, [each])

    async def texts(self, options: str) -> list[str]:
        answer = await self.desk.give(f"logs blog -q {options}")
        assert answer.status == 0, answer.err
        return answer.out.splitlines()


class Watched(FakeSession):
    """Somebody whose screen a test can wait for, and whose reading it can hold up."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        """While cleared, a write does not return."""
        self.gate.set()
        self._changed = asyncio.Event()

    async def write(self, data: bytes) -> None:
        await super().write(data)
        self._changed.set()
        await self.gate.wait()

    async def until(self, out: str) -> None:
        """Return once just this was written."""
        while self.out != out:
            await self._changed.wait()
            self._changed.clear()


@pytest.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    async with core(tmp_path) as made, DiskLogStore(tmp_path / "logs", clock=made.clock) as store:
        made.logs = store  # type: ignore[assignment]
        desk = Desk(made)
        app = await made.create()
        yield Reading(desk, store, app)


async def test_lines_are_shown_with_time_and_process(reading: Reading) -> None:
    await reading.write(
        line("GET / 200", at=NOON + 123_456_789),
        line("exited with status 1", at=NOON + log_lines.SECOND, stream="agent"),
    )
    answer = await reading.desk.give("logs blog")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == (
        "2024-05-01T12:00:00.123456789Z app[web.1]: GET / 200\n"
        "2024-05-01T12:00:01.000000000Z app[web.1]: -----> exited with status 1\n"
    )


async def test_on_a_terminal_each_process_has_its_colour_and_nothing_else_acts(reading: Reading) -> None:
    await reading.write(line("\x1b[2J\x1b]0;evil\x07one", at=NOON), line("two", at=NOON + 1, number=2))
    answer = await reading.desk.give("logs blog", is_tty=True)
    assert answer.out == (
        "\x1b[36m2024-05-01T12:00:00.000000000Z app[web.1]:\x1b[0m one\r\n"
        "\x1b[33m2024-05-01T12:00:00.000000001Z app[web.2]:\x1b[0m two\r\n"
    )
    session = FakeSession(is_tty=True, environment={"NO_COLOR": "1"})
    assert "\x1b" not in (await reading.desk.give_as("logs blog", session)).out


async def test_the_newest_hundred_are_shown_or_as_many_as_asked_for(reading: Reading) -> None:
    await reading.write(*(line(str(number), at=NOON + number) for number in range(120)))
    assert await reading.texts("") == [str(number) for number in range(20, 120)]
    assert await reading.texts("-n 2") == ["118", "119"]
    assert len(await reading.texts("--since 2024-01-01")) == 120


async def test_options_narrow_what_is_shown(reading: Reading) -> None:
    clock = reading.desk.core.clock
    now = int(clock.now()) * log_lines.SECOND
    await reading.write(
        line("old", at=now - 7_200 * log_lines.SECOND),
        line("web one", at=now - 60 * log_lines.SECOND),
        line("web two", at=now - 50 * log_lines.SECOND, number=2, release=2),
        line("work", at=now - 40 * log_lines.SECOND, process="worker"),
    )
    assert await reading.texts("--since 1h") == ["web one", "web two", "work"]
    assert await reading.texts("-p web") == ["old", "web one", "web two"]
    assert await reading.texts("-p web.2") == ["web two"]
    assert await reading.texts("--release v2") == ["web two"]
    assert await reading.texts("--grep 'o(ne|rk)$'") == ["web one", "work"]
    assert await reading.texts("--grep nothing") == []


async def test_times_are_in_the_zone_that_was_named(reading: Reading) -> None:
    await reading.write(line("x", at=NOON))
    berlin = "2024-05-01T14:00:00.000000000+02:00 app[web.1]: x\n"
    assert (await reading.desk.give("logs blog --tz Europe/Berlin")).out == berlin
    for environment in ({"TZ": "Europe/Berlin"}, {"PUSHBOAT_TZ": "Europe/Berlin", "TZ": "Asia/Tokyo"}):
        assert (await reading.desk.give_as("logs blog", FakeSession(environment=environment))).out == berlin
    odd = FakeSession(environment={"TZ": ":/etc/localtime"})
    assert (await reading.desk.give_as("logs blog", odd)).out.startswith("2024-05-01T12:00:00.000000000Z ")


async def test_scripts_get_an_object_a_line(reading: Reading) -> None:
    await reading.write(line('say "hi"\x1b[31m \x9b', at=NOON, release=3, stream="stderr"))
    answer = await reading.desk.give("logs blog --format json")
    assert answer.json() == {
        "time": "2024-05-01T12:00:00.000000000Z",
        "app": "blog",
        "process": "web",
        "number": 1,
        "release": 3,
        "stream": "stderr",
        "text": 'say "hi"\x1b[31m \x9b',
    }
    assert answer.out.rstrip("\n").isprintable(), "harmless to a terminal all the same"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("--since yesterday", "logs.bad-time"),
        ("--since ''", "logs.bad-time"),
        ("--tz ../../etc/passwd", "logs.unknown-zone"),
        ("--tz Europe", "logs.unknown-zone"),
        ("--tz Mars/Phobos", "logs.unknown-zone"),
        ("-p web.x", "process.invalid"),
        ("-p web.1.2", "process.invalid"),
        ("--release five", "release.invalid"),
        ("--grep '('", "logs.bad-pattern"),
        ("-n ten", "argument.number"),
    ],
)
async def test_what_makes_no_sense_is_refused(reading: Reading, options: str, code: str) -> None:
    await reading.write(line("x"))
    answer = await reading.desk.give(f"logs blog --format json {options}")
    assert answer.status == Exit.FAILED
    assert msgspec.json.decode(answer.err)["error"]["code"] == code


async def test_an_app_that_never_ran_says_so(reading: Reading) -> None:
    answer = await reading.desk.give("logs blog")
    assert answer.status == Exit.FAILED
    assert answer.err.startswith(" !     blog has not been deployed.\n")


async def test_new_lines_follow_until_the_reader_leaves(reading: Reading) -> None:
    await reading.write(line("before", at=NOON))
    session = Watched()
    following = asyncio.ensure_future(reading.desk.give_as("logs blog -t -q", session))
    async with asyncio.timeout(10):
        for number in range(3):
            await reading.write(line(f"live {number}", at=NOON + number))
        await session.until("before\nlive 0\nlive 1\nlive 2\n")
        session.left.set()
        assert (await following).status == 1
    assert not reading.store._apps[reading.app.id].readers


async def test_a_reader_who_is_too_slow_is_told_what_he_missed(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "READER_BYTES", 1)
    await reading.write(line("first", at=NOON))
    session = Watched()
    session.gate.clear()
    following = asyncio.ensure_future(reading.desk.give_as("logs blog -t -q", session))
    async with asyncio.timeout(10):
        await session.until("first\n")
        await reading.write(*(line(str(number), at=NOON + 1) for number in range(10)))
        session.gate.set()
        await session.until("first\n9\n")
        session.left.set()
        await following
    assert session.err == " !     9 lines were left out: they came faster than this connection takes them.\n"


def test_moments_are_read() -> None:
    now = NOON / log_lines.SECOND
    assert read_moment("90s", now=now) == NOON - 90 * log_lines.SECOND
    assert read_moment("1d2h3m4s", now=now) == NOON - (86_400 + 7_200 + 180 + 4) * log_lines.SECOND
    assert read_moment("99999d", now=now) == 0
    assert read_moment("2024-05-01T12:00:00", now=0) == NOON
    assert read_moment("2024-05-01T14:00:00.5+02:00", now=0) == NOON + log_lines.SECOND // 2
    assert read_moment("1960-01-01", now=0) == 0
    for wrong in ("1x", "h", "-1h", "1h30", "tomorrow"):
        with pytest.raises(UserError):
            read_moment(wrong, now=now)


def test_stamps_know_daylight_saving() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert stamp(1_711_846_799 * log_lines.SECOND, zone=berlin) == "2024-03-31T01:59:59.000000000+01:00"
    assert stamp(1_711_846_800 * log_lines.SECOND, zone=berlin) == "2024-03-31T03:00:00.000000000+02:00"
    assert stamp(7, zone=UTC) == "1970-01-01T00:00:00.000000007Z"


def test_the_word_before_the_process_is_no_name() -> None:
    style = log_lines.Style()
    assert list(style.render([line("x", at=0)])) == ["1970-01-01T00:00:00.000000000Z app[web.1]: x"]
