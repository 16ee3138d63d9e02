"""The engine's own log files: read as they grow, are renamed and removed, and in all other states they are found in."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.docker.file_changes import FileChanges
from agent.docker.log_files import (
    CHUNK_BYTES,
    HELD_FILES,
    MAX_RECORD_BYTES,
    OVERLAP_NS,
    LogFiles,
    RecordReader,
    Unreadable,
)
from agent.docker.log_lines import LineReader
from agent.ports.logs import GAP, MAX_LINE, RawLine, RawLines

AT = 1_795_381_972_123_456_789
KEPT = 3
"""Files that the engine keeps."""


def stamp(at: int) -> str:
    """Return a stamp as the engine writes it, zeros at its end left away."""
    second = datetime.fromtimestamp(at // 10**9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{at % 10**9:09d}".rstrip("0").rstrip(".") + "Z"


def record(at: int, text: str, stream: str = "stdout") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": stamp(at)}, ensure_ascii=False).encode() + b"\n"


class Log:
    """A container's log as the engine keeps it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "c-json.log"
        self.path.touch()
        self.written: list[RawLine] = []

    def write(self, count: int = 1, *, step: int = 1_000) -> None:
        with self.path.open("ab") as file:
            for _ in range(count):
                number = len(self.written)
                line = RawLine(AT + number * step, "stderr" if number % 7 == 0 else "stdout", f"line {number}".encode())
                file.write(record(line.at, f"line {number}\n", line.stream))
                self.written.append(line)

    def rotate(self) -> None:
        if not self.path.stat().st_size:
            return
        for number in range(KEPT - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.rename(older)
        self.path.touch()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@contextmanager
def opened(log: Log, *, since: int = 0) -> Iterator[LogFiles]:
    files = LogFiles(log.path, since=since)
    try:
        yield files
    finally:
        files.close()


async def read(files: LogFiles) -> list[RawLine]:
    """Return all that is there now."""
    lines: list[RawLine] = []
    while (batch := await files.read()) is not None:
        lines += batch
    return lines


async def test_what_is_written_meanwhile_is_read_once_through_rotations(log: Log) -> None:
    log.write(5)
    with opened(log) as files:
        found = await read(files)
        for _ in range(5):
            log.write(2)
            log.rotate()
            log.write(3)
            found += await read(files)
        log.rotate()
        found += await read(files)
    assert found == log.written


async def test_all_files_that_are_left_are_read_from_the_oldest(log: Log) -> None:
    for _ in range(KEPT):
        log.rotate()
        log.write(4)
    with opened(log) as files:
        assert await read(files) == log.written


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["write", "rotate", "read"]), max_size=30))
@pytest.mark.slow
def test_no_order_of_writes_rotations_and_reads_loses_a_line_unmarked(steps: Sequence[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        log, found = Log(folder), list[RawLine]()
        with opened(log) as files:
            for step in steps:
                if step == "write":
                    log.write(3)
                elif step == "rotate":
                    log.rotate()
                else:
                    found += asyncio.run(read(files))
            found += asyncio.run(read(files))
        assert_whole_or_marked(found, log.written)
        most, rotations = 0, 0
        for step in steps:
            rotations = {"read": 0, "rotate": rotations + 1}.get(step, rotations)
            most = max(most, rotations)
        assert most >= KEPT or found == log.written, (
            "a reader that is not behind by all files that there are loses none"
        )
    finally:
        shutil.rmtree(folder)


def assert_whole_or_marked(found: Sequence[RawLine], written: Sequence[RawLine]) -> None:
    position, may_skip = 0, False
    for line in found:
        if line.stream == "agent":
            assert line.data == GAP.encode()
            may_skip = True
            continue
        at = written.index(line, position)
        assert at == position or may_skip
        position, may_skip = at + 1, False
    assert position == len(written), "of what is there the newest is never lost"


async def test_a_reader_that_is_behind_holds_few_files_and_marks_what_it_lost(log: Log) -> None:
    with opened(log) as files:
        for _ in range(3 * HELD_FILES):
            log.rotate()
            log.write()
            files._note_new_files()
            assert len(files._files) <= HELD_FILES + KEPT
        found = await read(files)
        found += await read(files)
    assert_whole_or_marked(found, log.written)
    assert sum(line.stream == "agent" for line in found) >= 1


async def test_only_what_is_not_older_than_asked_is_given(log: Log) -> None:
    log.write(1_000, step=OVERLAP_NS // 100)
    log.rotate()
    log.write(20_000, step=OVERLAP_NS // 100)
    assert log.path.stat().st_size > 4 * CHUNK_BYTES
    for since in (log.written[500].at, log.written[20_500].at, log.written[20_500].at + 1, log.written[-1].at + 1):
        with opened(log, since=since) as files:
            assert await read(files) == [line for line in log.written if line.at >= since]


async def test_an_old_file_is_not_even_opened(log: Log) -> None:
    log.write(3)
    os.utime(log.path, ns=(AT, AT))
    log.rotate()
    log.write(3)
    with opened(log, since=AT + 2 * OVERLAP_NS) as files:
        assert len(files._files) == 1


async def test_a_file_that_somebody_empties_is_read_on(log: Log) -> None:
    log.write(10)
    with opened(log) as files:
        assert len(await read(files)) == 10
        os.truncate(log.path, 0)
        log.write(2)
        assert await read(files) == log.written[-2:]


async def test_compressed_files_are_for_the_engine_to_read(log: Log) -> None:
    log.write()
    log.path.with_name(f"{log.path.name}.1.gz").touch()
    with pytest.raises(Unreadable):
        LogFiles(log.path, since=0)


async def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogFiles(tmp_path / "none-json.log", since=0)


async def test_half_a_record_is_waited_for_and_a_broken_one_costs_only_itself(log: Log) -> None:
    whole = record(AT, "one\n") + b'{"log":"tw' + record(AT + 2, "three\n") + b"\0\0\n" + record(AT + 3, "four\n")
    log.path.write_bytes(whole[:-10])
    with opened(log) as files:
        found = await read(files)
        with log.path.open("ab") as file:
            file.write(whole[-10:] + b'{"log":"end\\n","time":"yesterday"}\n')
        found += await read(files)
    assert [line.data for line in found] == [b"one", b"four"]


async def test_what_never_got_its_newline_comes_last(log: Log) -> None:
    log.path.write_bytes(record(AT, "one\n") + record(AT + 1, "half"))
    with opened(log) as files:
        assert [line.data for line in await read(files)] == [b"one"]
        assert list(files.last()) == [RawLine(AT + 1, "stdout", b"half")]
        assert not files.last()


texts = st.one_of(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([MAX_LINE - 1, MAX_LINE, MAX_LINE + 1]).map(lambda size: "l" * size),
)
pieces = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), texts, st.sampled_from(["\n", "\n", ""])), max_size=8
)


@given(pieces, st.data())
def test_files_and_stream_give_the_same_lines_however_they_are_cut(
    written: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    records, frames = b"", b""
    for number, (stream, text, end) in enumerate(written):
        at = AT + number * 10_000_000
        records += record(at, text + end, stream)
        second = datetime.fromtimestamp(at // 10**9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
        payload = f"{second}.{at % 10**9:09d}Z {text}{end}".encode()
        frames += bytes([1 + (stream == "stderr"), 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=4)))
    by_file, by_stream = RecordReader(), LineReader()
    found: list[RawLine] = []
    for start, stop in zip([0, *cuts], [*cuts, len(records)], strict=True):
        found += by_file.feed(records[start:stop])
    assert [*found, *by_file.end()] == [*by_stream.feed(frames), *by_stream.end()]


def test_an_endless_record_is_not_kept() -> None:
    reader = RecordReader()
    assert not reader.feed(b'{"log":"')
    for _ in range(100):
        assert not reader.feed(b"x" * CHUNK_BYTES)
        assert len(reader._rest) <= CHUNK_BYTES
    assert list(reader.feed(b'"}\n' + record(AT, "next\n"))) == [RawLine(AT, "stdout", b"next")]


@pytest.mark.parametrize("past", [0, 1])
def test_a_record_may_have_256_kibibytes(past: int) -> None:
    around = len(record(AT, "\n")) - 1
    reader = RecordReader()
    whole = record(AT, "y" * (MAX_RECORD_BYTES - around + past) + "\n")
    assert not reader.feed(whole[:-1])
    lines = reader.feed(whole[-1:] + record(AT, "next\n"))
    assert sum(line.data.count(b"y") for line in lines) == (0 if past else MAX_RECORD_BYTES - around)
    assert list(lines)[-1].data == b"next"


def test_ordinary_records_are_read_at_once() -> None:
    reader = RecordReader()
    data = b"".join(record(AT + number, f"line {number}\n") for number in range(10))
    lines = reader.feed(data)
    assert isinstance(lines, RawLines) and lines.at == list(range(AT, AT + 10))
    assert not reader._joiner.is_open


@pytest.fixture
async def changes() -> AsyncIterator[FileChanges]:
    found = FileChanges()
    yield found
    found.close()


async def is_woken(woken: asyncio.Event) -> bool:
    """Tell whether an event comes. A marker behind it tells that none does."""
    for _ in range(20):
        await asyncio.sleep(0)
        if woken.is_set():
            return True
        await asyncio.sleep(0.005)
    return False


async def test_who_waits_for_a_file_is_woken_by_a_write_and_by_a_new_name(tmp_path: Path, changes: FileChanges) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.touch()
    other.touch()
    woken = asyncio.Event()
    with changes.watching(file, woken):
        other.write_text("x")
        assert not await is_woken(woken)
        file.write_text("x")
        assert await is_woken(woken)
    woken.clear()
    file.write_text("y")
    assert not await is_woken(woken), "it no longer waits"
    with changes.watching(file, woken):
        file.rename(tmp_path / "renamed")
        assert await is_woken(woken)
    with pytest.raises(FileNotFoundError), changes.watching(file, woken):
        pass


async def test_two_who_wait_for_one_file_are_both_woken_and_one_may_leave(tmp_path: Path, changes: FileChanges) -> None:
    file = tmp_path / "file"
    file.touch()
    one, two = asyncio.Event(), asyncio.Event()
    with changes.watching(file, one):
        with changes.watching(file, two):
            pass
        with changes.watching(file, two):
            file.write_text("x")
            assert await is_woken(one) and await is_woken(two)
    assert not changes._waiting


async def test_after_dropped_events_everybody_looks(tmp_path: Path, changes: FileChanges) -> None:
    file = tmp_path / "file"
    file.touch()
    woken = asyncio.Event()
    with changes.watching(file, woken):
        read_end, write_end = os.pipe()
        os.write(write_end, (-1).to_bytes(4, "little", signed=True) + bytes(12))
        os.dup2(read_end, changes._file)
        changes._take()
        assert woken.is_set()
    os.close(read_end)
    os.close(write_end)
