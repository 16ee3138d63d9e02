"""Log lines read out of the engine's stream, which repeats itself, leaves things out, stalls and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.docker.engine import Engine
from agent.docker.frames import FrameReader
from agent.docker.log_lines import LineReader
from agent.docker.log_resume import FILE_BYTES, MOST_SLOTS, RECORD_BYTES, Resume
from agent.docker.logs import DockerLogs
from agent.docker.stamps import StampReader, query_time, unix_seconds
from agent.errors import Unavailable
from agent.ports.logs import GAP, MAX_LINE, RawLine, RawLines
from proto.names import ReplicaId
from tests.support.scripted_engine import always, http, scripted

STAMP = b"2026-11-22T21:12:52.123456789Z"
AT = 1_795_381_972_123_456_789


def frame(payload: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_stamps_are_read_to_the_nanosecond() -> None:
    reader = StampReader()
    assert reader.read(STAMP + b" text") == AT
    assert reader.read(b"2026-11-22T21:13:00.000000000Z") == AT - 123_456_789 + 8 * 10**9
    assert query_time(AT) == "1795381972.123456789"
    assert query_time(5_000_000_001) == "5.000000001"
    assert unix_seconds("2026-11-22T21:12:52.123456789Z") == pytest.approx(AT / 1e9)
    assert unix_seconds("0001-01-01T00:00:00Z") == 0.0
    with pytest.raises(ValueError):
        reader.read(b"not a stamp at all")


def test_lines_of_both_streams_are_told_apart() -> None:
    data = frame(STAMP + b" out\n") + frame(STAMP + b" err\n", 2) + frame(STAMP + b" \n")
    assert list(LineReader().feed(data)) == [
        RawLine(AT, "stdout", b"out"),
        RawLine(AT, "stderr", b"err"),
        RawLine(AT, "stdout", b""),
    ]


@given(st.data())
def test_lines_do_not_depend_on_how_the_bytes_are_cut(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8))
    whole = b"".join(frame(STAMP + b" " + text.replace(b"\n", b"") + b"\n", stream) for stream, text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    reader, lines = LineReader(), []
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        lines += reader.feed(whole[start:stop])
    assert [*lines, *reader.end()] == list(LineReader().feed(whole))


SIZES_WITH_A_NEWLINE = (266 - 32, 522 - 32)
"""Lengths of texts whose frame's length has the byte of a newline in it."""

payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(SIZES_WITH_A_NEWLINE).map(lambda size: b"n" * size),
    st.just(frame(STAMP + b" a frame in a text")),
    st.sampled_from([MAX_LINE - 1, MAX_LINE, MAX_LINE + 1]).map(lambda size: b"l" * size),
)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), payloads, st.sampled_from([b"\n", b"\n", b""])), max_size=8))
def test_many_lines_at_once_are_the_same_as_each_by_itself(written: list[tuple[int, bytes, bytes]]) -> None:
    whole = b"".join(frame(STAMP + b" " + text + end, stream) for stream, text, end in written)
    assert list(LineReader().feed(whole)) == LineReader()._singly(whole)


def test_ordinary_lines_are_read_at_once() -> None:
    texts = [b"a", b"", b"n" * SIZES_WITH_A_NEWLINE[0], "ä\u2028".encode(), b"\xff", b"l" * MAX_LINE]
    whole = b"".join(frame(STAMP + b" " + text + b"\n", 1 + index % 2) for index, text in enumerate(texts))
    found = LineReader()._at_once(whole + frame(STAMP + b" begun\n")[:20])
    assert found is not None
    assert [(line.data, line.stream) for line in found] == [
        (text, ("stdout", "stderr")[index % 2]) for index, text in enumerate(texts)
    ]


def test_an_endless_text_that_looks_like_frames_is_a_text() -> None:
    fake = frame(STAMP + b" ")[:-1]
    reader, size = LineReader(), 0
    for _ in range(32):
        size += sum(len(line.data) for line in reader.feed(frame(STAMP + b" " + fake * 420)))
    assert 32 * 420 * len(fake) - size < MAX_LINE


def test_a_line_in_parts_is_joined_and_cut_at_the_limit() -> None:
    reader = LineReader()
    parts = [STAMP + b" " + b"a" * 16_384, STAMP + b" " + b"b" * 100 + b"\n"]
    lines = reader.feed(b"".join(map(frame, parts)))
    assert [len(line.data) for line in lines] == [MAX_LINE, 16_484 - MAX_LINE]
    assert b"".join(line.data for line in lines) == b"a" * 16_384 + b"b" * 100


def test_an_endless_line_is_given_in_pieces_and_not_kept() -> None:
    reader, given_bytes = LineReader(), 0
    for _ in range(1_000):
        lines = reader.feed(frame(STAMP + b" " + b"x" * 16_384))
        given_bytes += sum(len(line.data) for line in lines)
        assert all(len(line.data) == MAX_LINE for line in lines)
    assert 1_000 * 16_384 - given_bytes < MAX_LINE


def test_what_never_got_its_newline_comes_at_the_end() -> None:
    reader = LineReader()
    assert not reader.feed(frame(STAMP + b" half"))
    assert list(reader.end()) == [RawLine(AT, "stdout", b"half")]
    assert not reader.end()


def test_a_stream_that_is_none_is_noticed() -> None:
    with pytest.raises(ValueError):
        list(FrameReader().feed(b"HTTP/1.1 400 Bad Request\r\n"))


async def texts(logs: DockerLogs, replica: ReplicaId) -> list[str]:
    """Return what the replica has written, to its end."""
    async with asyncio.timeout(60):
        return [line.data.decode() async for batch in logs.follow(replica, since=0) for line in batch]


def test_a_follow_taken_up_again_neither_doubles_nor_drops_lines_whose_stamps_step_back() -> None:
    second = 1_000_000_000
    log = [RawLine(second + at * 1_000_000, "stdout", b"%d" % number) for number, at in enumerate([0, 30, 25, 60, 41])]
    for cut in range(len(log) + 1):
        resume = Resume(0)
        resume.begin()
        given = list(resume.unseen(RawLines.of(log[:cut])))
        resume.begin()
        again = [line for line in log if line.at >= resume.start]
        assert [*given, *resume.unseen(RawLines.of(again))] == log


@given(st.data())
def test_what_the_engine_repeats_within_one_follow_is_given_once(data: st.DataObject) -> None:
    """At a rotation the engine may begin the new file again. Pieces of one line share its stamp."""
    stream = st.sampled_from(["stdout", "stderr"])
    written = data.draw(st.lists(st.tuples(stream, st.integers(1, 3)), min_size=3, max_size=20))
    log = [
        [RawLine(AT + number * 7, name, text) for text in [b"x" * MAX_LINE] * (pieces - 1) + [b"x"]]
        for number, (name, pieces) in enumerate(written)
    ]
    start = data.draw(st.integers(0, len(log) - 3))
    cut = data.draw(st.integers(start + 3, len(log)))
    # A long line that is the only one of its stream in the file looks as if it went on.
    assume(len(log[start]) == 1 or log[start][0].stream in {pieces[0].stream for pieces in log[start + 1 : cut]})
    engine = [*log[:cut], *log[start:cut], *log[cut:]]
    resume = Resume(0)
    resume.begin()
    given_lines = [line for pieces in engine for line in resume.unseen(RawLines.of(pieces))]
    assert given_lines == [line for pieces in log for line in pieces]


@given(st.data())
def test_many_lines_are_known_again_as_each_by_itself_is(data: st.DataObject) -> None:
    """Of the same follow, cut into any batches and begun anew anywhere, the same lines are given."""
    stream = st.sampled_from(["stdout", "stderr"])
    steps = data.draw(st.lists(st.tuples(stream, st.integers(0, 30_000_000)), min_size=1, max_size=30))
    log, at = [], AT
    for number, (name, step) in enumerate(steps):
        at += step
        log.append(RawLine(at, name, b"%d" % number))
    size = data.draw(st.integers(1, 10))
    cut = data.draw(st.integers(0, len(log)))
    at_once, singly = Resume(0), Resume(0)
    given_at_once: list[RawLine] = []
    given_singly: list[RawLine] = []
    for part in (log[:cut], log):
        at_once.begin()
        singly.begin()
        again = [line for line in part if line.at >= at_once.start]
        for start in range(0, len(again), size):
            given_at_once += at_once.unseen(RawLines.of(again[start : start + size]))
            given_singly += singly._singly_unseen(RawLines.of(again[start : start + size]))
    assert given_at_once == given_singly == log
    assert (at_once.since, at_once._given) == (singly.since, singly._given)


def test_a_clock_that_is_set_back_costs_no_line() -> None:
    log = [RawLine(AT + step, "stdout", b"x") for step in (1_000, 2_000, 3_000, 1_500, 1_600, 2_500)]
    resume = Resume(0)
    resume.begin()
    assert list(resume.unseen(RawLines.of(log))) == log


def test_as_many_stamps_are_kept_of_a_long_follow_as_a_file_has_lines() -> None:
    resume, step = Resume(0), 10_000
    resume.begin()
    for start in range(AT, AT + 60 * step, step):
        resume.unseen(RawLines(range(start, start + step), ["stderr"] * step, [b"x" * 30] * step))
    of_a_file = FILE_BYTES // (RECORD_BYTES + 30)
    assert of_a_file <= len(resume._met["stderr"]) <= 2 * of_a_file


def test_a_long_follow_counts_few_slots() -> None:
    resume = Resume(0)
    resume.begin()
    for number in range(100):
        stamps = [number * 1_000_000_000 + step * 20_000_000 for step in range(50)]
        resume.unseen(RawLines(stamps, ["stdout"] * 50, [b""] * 50))
    assert len(resume._given) <= MOST_SLOTS


class Flood:
    """A log whose lines come a microsecond apart, 1,000 bytes each, as an engine reads it that may skip and repeat."""

    def __init__(self, lines: int) -> None:
        self.at = [AT + number * 10_000 for number in range(lines)]
        self.resume = Resume(0)
        self.given: list[RawLine] = []

    def read(self, start: int, stop: int, *, waited: float = 0.0) -> bool:
        """Let some lines come, in batches of a hundred. Return whether all of this read is of use."""
        for first in range(start, stop, 100):
            at = self.at[first : min(first + 100, stop)]
            self.given += self.resume.unseen(RawLines(at, ["stdout"] * len(at), [b"x" * 900] * len(at)), waited=waited)
            if self.resume.has_hole:
                return False
        return True

    def begin(self, oldest: int = 0) -> None:
        """Begin a read of what the engine still has."""
        start = self.resume.start
        self.resume.begin()
        first = next(number for number, at in enumerate(self.at) if at >= start and number >= oldest)
        assert self.read(first, len(self.at))


def test_a_file_that_the_engine_skips_is_noticed_and_read_after_all() -> None:
    flood = Flood(30_000)
    flood.resume.begin()
    assert flood.read(0, 10_000)
    assert not flood.read(20_000, 30_000), "10,000 lines are missing, and the bytes went on without a pause"
    flood.begin()
    assert [line.at for line in flood.given] == flood.at


def test_a_file_that_is_given_again_and_one_that_is_skipped_after_it_cost_nothing() -> None:
    flood = Flood(30_000)
    flood.resume.begin()
    assert flood.read(0, 10_000)
    assert flood.read(1_000, 10_000)
    assert not flood.read(20_000, 30_000)
    flood.begin()
    assert [line.at for line in flood.given] == flood.at


def test_after_a_skipped_file_a_longer_overlap_doubles_nothing() -> None:
    flood = Flood(60_000)
    flood.resume.begin()
    assert flood.read(0, 40_000)
    assert not flood.read(50_000, 60_000)
    flood.begin()
    flood.begin()
    assert [line.at for line in flood.given] == flood.at


def test_what_is_gone_when_it_is_read_after_all_is_marked() -> None:
    flood = Flood(30_000)
    flood.resume.begin()
    assert flood.read(0, 10_000)
    assert not flood.read(20_000, 30_000)
    flood.begin(oldest=15_000)
    assert [line.at for line in flood.given if line.stream == "stdout"] == flood.at[:10_000] + flood.at[15_000:]
    assert [line for line in flood.given if line.stream == "agent"] == [
        RawLine(flood.at[15_000], "agent", GAP.encode())
    ]
    assert flood.given[10_000].stream == "agent"


def test_new_lines_are_not_taken_for_those_of_the_same_moment_that_were_rotated_away() -> None:
    log = [RawLine(AT + number, "stdout", b"%d" % number) for number in range(10)]
    resume = Resume(0)
    resume.begin()
    given_lines = list(resume.unseen(RawLines.of(log[:4])))
    resume.begin()
    given_lines += resume.unseen(RawLines.of(log[6:]))
    assert given_lines == [*log[:4], RawLine(AT + 6, "agent", GAP.encode()), *log[6:]]


def test_a_pause_of_the_app_is_no_skipped_file() -> None:
    flood = Flood(10_000)
    flood.at += [at + 5_000_000_000 for at in flood.at]
    flood.resume.begin()
    assert flood.read(0, 10_000)
    assert flood.read(10_000, 20_000, waited=5.0)
    assert [line.at for line in flood.given] == flood.at


async def test_a_follow_that_stalls_is_left_and_taken_up_where_it_stopped(tmp_path: Path) -> None:
    def line(second: int, text: str) -> bytes:
        return frame(f"2026-11-22T21:12:{second:02d}.000000000Z {text}\n".encode())

    state = ["running", "running", "exited"]
    asked: list[str] = []

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = request.split()[1]
        if path.startswith("/v1.41/containers/json"):
            writer.write(http(200, b'[{"Id": "c1"}]'))
        elif path.startswith("/v1.41/containers/c1/json"):
            status = state.pop(0) if len(state) > 1 else state[0]
            writer.write(http(200, f'{{"Id": "c1", "State": {{"Status": "{status}"}}}}'.encode()))
        else:
            asked.append(path)
            writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
            if "tail=1" in path:
                writer.write(line(3, "three"))
            elif len(asked) == 1:
                writer.write(line(1, "one") + line(1, "uno") + line(2, "two"))
                await writer.drain()
                await reader.read()
            else:
                since = int(path.partition("since=")[2].partition(".")[0]) - AT // 10**9 + 52
                writer.write(b"".join(line(at, text) for at, text in ((2, "two"), (3, "three")) if at >= since))
            await writer.drain()
            writer.close()

    async with scripted(tmp_path, answer) as (engine, _):
        logs = DockerLogs(engine, silence_seconds=0.05)
        assert await texts(logs, ReplicaId("r1")) == ["one", "uno", "two", "three"]
    assert "since" not in asked[0] and "follow=1" in asked[0]


async def test_an_engine_that_goes_away_is_told(tmp_path: Path) -> None:
    rows = always(http(200, b'[{"Id": "c1"}]'))
    async with scripted(tmp_path, rows) as (engine, _):
        # To what came next the list is no answer that makes sense.
        with pytest.raises(Unavailable):
            await texts(DockerLogs(engine), ReplicaId("r1"))
    async with Engine.open(f"unix://{tmp_path}/none.sock", instance="i1") as engine:
        with pytest.raises(Unavailable):
            await texts(DockerLogs(engine), ReplicaId("r1"))
