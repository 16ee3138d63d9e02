"""The engine's own files of one container's log (driver ``json-file``), read as they grow and through their rotation.

The engine writes ``ID-json.log``, and when that is full renames it to ``.1``, that one to ``.2`` and so on, and removes
the last. What has been opened stays readable whatever becomes of its name. So the files are held open from the oldest
that is still to be read to the newest, and the next one is found by looking for the last that is held among those with
a name: nothing is guessed, nothing comes twice, and where files were removed before they could be opened it is known.

To be served by the engine costs three times as much as to be written by it (docs/adr/0022-log-files.md).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agent.docker.log_lines import LineJoiner
from agent.docker.stamps import SECOND_STAMP, StampReader
from agent.ports.logs import GAP, MAX_LINE, RawLine, RawLines, Stream

log = structlog.get_logger(__name__)

CHUNK_BYTES: Final = 256 * 1024
"""Read at once."""
HELD_FILES: Final = 6
"""Open of one container at the most. They take up disk until they are read, also those that the engine removed."""
OVERLAP_NS: Final = 2_000_000_000
"""How far stamps may step back within a file, at the most: what is older by more is passed over by the chunk."""
MAX_RECORD_BYTES: Final = 256 * 1024
"""Of one record. The engine cuts lines at 16 KiB, of which each byte takes up six at the most."""


class Unreadable(Exception):
    """These are no files that can be followed: compressed, or of another form."""


class _Record(msgspec.Struct):
    log: str
    time: str
    stream: str = "stdout"


_RECORDS: Final = msgspec.json.Decoder(_Record)
_STREAMS: Final[dict[str, Stream]] = {"stdout": "stdout", "stderr": "stderr"}
_FULL_STAMP: Final = 30
"""Characters of a stamp that ends with no zero; the engine leaves zeros at the end away."""


class _File:
    """One file that is open, and how far it is read."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.inode = os.fstat(file).st_ino
        self.offset = 0
        self.is_after_gap = False

    def read(self) -> bytes | None:
        """Return what comes next, as far as it is in memory: nothing at the end, `None` where it is on the disk."""
        buffer = bytearray(CHUNK_BYTES)
        try:
            size = os.preadv(self.file, [buffer], self.offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise
        self.offset += size
        return bytes(buffer[:size])

    def read_from_disk(self) -> bytes:
        """Do the same, however long it takes."""
        data = os.pread(self.file, CHUNK_BYTES, self.offset)
        self.offset += len(data)
        return data

    def is_cut(self) -> bool:
        """Tell whether somebody has emptied the file."""
        return os.fstat(self.file).st_size < self.offset


class LogFiles:
    """The files of one container's log. Used by one reader at a time; closed by it."""

    def __init__(self, path: Path, *, since: int) -> None:
        """`path`: of the newest file, as the engine tells it. `since`: older lines are left out (ns since 1970).

        Raises:
            OSError: there are none, or they must not be read.
            Unreadable: the engine compresses them.
        """
        self.path = path
        self._since = since
        self._records = RecordReader()
        self._files: deque[_File] = deque()
        try:
            self._files += reversed(self._newer_than(None))
            if not self._files:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self._leave_out_old_files()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the files. Repeating is harmless."""
        for held in self._files:
            os.close(held.file)
        self._files.clear()

    async def read(self) -> RawLines | None:
        """Return the next lines that were not returned yet: `None` when all were, perhaps none of use before that.

        Raises:
            Unreadable: the engine compresses its files now, and what comes next cannot be read.
        """
        self._note_new_files()
        while True:
            first = self._files[0]
            data = first.read()
            if data is None:
                data = await asyncio.to_thread(first.read_from_disk)
            if data:
                return self._lines(first, data)
            if first.is_cut():
                log.warning("logs.file-emptied", file=str(self.path))
                first.offset = 0
                self._records.drop_rest()
            elif len(self._files) > 1:
                self._files[1].is_after_gap |= first.is_after_gap
                os.close(self._files.popleft().file)
                self._records.drop_rest()
            else:
                return None

    def is_behind(self) -> bool:
        """Tell whether something was written that has not been read.

        Raises:
            OSError: the newest file cannot be found.
        """
        newest, named = self._files[-1], os.stat(self.path)
        return len(self._files) > 1 or named.st_ino != newest.inode or named.st_size != newest.offset

    def last(self) -> RawLines:
        """Return what was begun and never got its newline, when nothing will be written any more."""
        return self._records.end()

    def _lines(self, file: _File, data: bytes) -> RawLines:
        if self._since and self._records.is_older(data, self._since - OVERLAP_NS):
            return RawLines((), (), ())
        lines = self._records.feed(data)
        if self._since and lines:
            lines = self._without_old(lines)
        if file.is_after_gap and lines:
            file.is_after_gap = False
            lines = RawLines.of([RawLine(lines.at[0], "agent", GAP.encode()), *lines])
        return lines

    def _without_old(self, lines: RawLines) -> RawLines:
        if min(lines.at) >= self._since:
            # Lines of the other stream that are a little older come soon, if ever.
            if min(lines.at) >= self._since + OVERLAP_NS:
                self._since = 0
            return lines
        return RawLines.of([line for line in lines if line.at >= self._since])

    def _leave_out_old_files(self) -> None:
        while len(self._files) > 1 and os.fstat(self._files[0].file).st_mtime_ns < self._since - OVERLAP_NS:
            os.close(self._files.popleft().file)

    def _note_new_files(self) -> None:
        """Hold files that have come since, so that they cannot go before they are read."""
        newest = self._files[-1]
        try:
            if len(self._files) >= HELD_FILES or os.stat(self.path).st_ino == newest.inode:
                return
        except FileNotFoundError:
            # Renamed, and the next one is not there yet; or all were removed, and this is the last.
            return
        found = self._newer_than(newest)
        self._files += reversed(found)

    def _newer_than(self, known: _File | None) -> list[_File]:
        """Return the files after `known`, newest first."""
        found: list[_File] = []
        try:
            for number in range(100):
                file = self._opened(number)
                if file is None:
                    break
                if known is not None and file.inode == known.inode:
                    os.close(file.file)
                    return found
                if any(other.inode == file.inode for other in found):
                    # Renamed since it was opened.
                    os.close(file.file)
                else:
                    found.append(file)
        except BaseException:
            for file in found:
                os.close(file.file)
            raise
        if known is not None and found:
            found[-1].is_after_gap = True
        return found

    def _opened(self, number: int) -> _File | None:
        path = self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")
        try:
            return _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            if path.with_name(f"{path.name}.gz").exists():
                raise Unreadable(f"{path} is compressed") from None
            return None


class RecordReader:
    """Makes lines of one log's records, such as ``{"log":"text\\n","stream":"stdout","time":"…"}``, one to a line."""

    def __init__(self) -> None:
        self._rest = b""
        self._stamps = StampReader()
        self._joiner = LineJoiner()

    def feed(self, data: bytes) -> RawLines:
        """Return the lines that `data` completes, in order. What is no record is left out."""
        data = self._rest + data if self._rest else data
        whole = data.rfind(b"\n") + 1
        self._rest = data[whole:] if len(data) - whole <= MAX_RECORD_BYTES else b""
        records, at = self._decoded(data[:whole])
        if not records:
            return RawLines((), (), ())
        texts = None if self._joiner.is_open else _texts(records)
        streams = [_STREAMS.get(record.stream, "stdout") for record in records]
        if texts is not None:
            return RawLines(at, streams, texts)
        return RawLines.of(self._joined(at, streams, records))

    def is_older(self, data: bytes, than: int) -> bool:
        """Tell whether all records that end in `data` are older; then they count as fed."""
        whole = data.rfind(b"\n") + 1
        begin = data.rfind(b"\n", 0, max(whole - 1, 0)) + 1
        # A record that began before is not looked at.
        _, at = self._decoded(data[begin:whole]) if begin else ([], [])
        if not at or at[0] >= than:
            return False
        self._rest = data[whole:]
        return True

    def drop_rest(self) -> None:
        """Forget the record that has begun: it never was written to its end."""
        self._rest = b""

    def end(self) -> RawLines:
        """Return what was begun and never got its newline."""
        return self._joiner.end()

    def _decoded(self, data: bytes) -> tuple[list[_Record], list[int]]:
        """Return the records in `data`, which ends with a newline or is empty, and their stamps."""
        try:
            records = _RECORDS.decode_lines(data)
            return records, self._at(records)
        except (ValueError, msgspec.MsgspecError):
            known = [found for line in data.split(b"\n") if (found := self._single(line)) is not None]
            return [record for record, _ in known], [at for _, at in known]

    def _single(self, line: bytes) -> tuple[_Record, int] | None:
        """Return what one line holds, `None` for what is no record: a disk that was full leaves halves of them."""
        if not line:
            return None
        try:
            record = _RECORDS.decode(line)
            return record, self._at([record])[0]
        except (ValueError, msgspec.MsgspecError):
            log.warning("logs.no-record", bytes=len(line))
            return None

    def _at(self, records: Sequence[_Record]) -> list[int]:
        times = [record.time for record in records]
        bases = {second: self._stamps.second(second.encode()) for second in {time[:SECOND_STAMP] for time in times}}
        return [
            bases[time[:SECOND_STAMP]] + (int(time[20:29]) if len(time) == _FULL_STAMP else _fraction(time))
            for time in times
        ]

    def _joined(self, at: Sequence[int], streams: Sequence[Stream], records: Sequence[_Record]) -> Iterator[RawLine]:
        for stamp, stream, record in zip(at, streams, records, strict=True):
            yield from self._joiner.add(stamp, stream, record.log.encode("utf-8", "replace"))


def _texts(records: Sequence[_Record]) -> list[bytes] | None:
    """Return the text of each record without its newline, if each is a line of ordinary length."""
    logs = [record.log for record in records]
    if [text[-1:] for text in logs].count("\n") != len(logs):
        return None
    texts = "".join(logs).encode("utf-8", "replace").split(b"\n")
    texts.pop()
    if len(texts) != len(logs) or max(map(len, texts)) > MAX_LINE:
        return None
    return texts


def _fraction(time: str) -> int:
    """Return the nanoseconds of a stamp whose last digits are left away, with its point if all are."""
    return int(time[SECOND_STAMP + 1 : -1].ljust(9, "0"))
