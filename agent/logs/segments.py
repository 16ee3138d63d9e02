"""One app's lines on disk: numbered segments, of which the last is written and the others are closed.

``0000000007.log`` is text (see `lines`); a closed one becomes ``0000000006.log.gz``. A batch is one ``write``, so
after the agent's death it is there or the file ends within it: the first look at the file cuts a torn end off, and what
was cut comes again from the engine, since positions are derived from the file itself. A write that fails (a full
disk) is undone at once.

**What survives what.** When `append` returns, the lines are in the kernel: no death of the agent loses them. They are
forced to the disk when a segment is closed, and every `SYNC_SECONDS` while lines come; so a power failure can cost the
last seconds of the file, and then too they come again, as long as the engine still has them.

A shelf is used from several threads; everything it does with its files is under its lock.
"""

from __future__ import annotations

import gzip
import os
import shutil
import threading
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import structlog

from agent.logs.lines import (
    CHECKPOINT,
    Checkpoint,
    Recent,
    absorb_records,
    decode_checkpoint,
    encode,
    encode_checkpoint,
)
from agent.ports.logs import LogLine, Position
from agent.ports.world import Clock
from proto.names import ReplicaId

SYNC_SECONDS = 5.0
"""Longest time that a steady stream of lines stays unsynced: what a power failure may cost."""

CHECKPOINT_BYTES = 256 * 1024
"""Distance of checkpoints: what a restart has to read of each app."""

_BLOCK = 64 * 1024
_COMPRESSION = 3
"""zlib level: a tenth of the size at about 100 MB/s; the best level would save a fifth more at a tenth of the speed."""

_log = structlog.get_logger()


class Mark(msgspec.Struct, frozen=True):
    """A place in an app's lines: everything before it is stored."""

    segment: int
    offset: int


class Shelf:
    """The segments of one app."""

    def __init__(self, folder: Path, *, segment_bytes: int, clock: Clock) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._is_open = False
        self._is_removed = False
        self._last = 1
        self._size = 0
        self._since_checkpoint = 0
        self._synced_at = clock.monotonic()
        self._recent: dict[ReplicaId, Recent] = {}
        self._closed: dict[int, int] = {}
        self._closed_at: dict[int, float] = {}
        self._scan()

    # What is there.

    @property
    def size(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return self._size + sum(self._closed.values())

    @property
    def active_size(self) -> int:
        """Bytes of the segment that is written."""
        return self._size

    @property
    def number(self) -> int:
        """Number of the segment that is written. Grows by one whenever one is closed."""
        return self._last

    def oldest(self) -> float | None:
        """Return when the oldest closed segment was closed (Unix seconds), or `None` if none is."""
        with self._lock:
            return self._closed_at[min(self._closed)] if self._closed else None

    def mark(self) -> Mark:
        """Return the end of what is stored."""
        with self._lock:
            self._open()
            return Mark(self._last, self._size)

    def segments(self, mark: Mark) -> list[int]:
        """Return the numbers of the segments that hold what is before `mark`, newest first."""
        with self._lock:
            numbers = {*self._closed, self._last}
        return sorted((number for number in numbers if number <= mark.segment), reverse=True)

    def load(self, number: int, mark: Mark) -> bytes:
        """Return a segment's bytes up to `mark`; nothing if it has been deleted meanwhile."""
        data = self._whole(number)
        return data[: mark.offset] if number == mark.segment else data

    def position(self, replica: ReplicaId) -> Position:
        """Return how far the replica's lines are stored."""
        with self._lock:
            self._open()
            recent = self._recent.get(replica)
            return Position() if recent is None else recent.position()

    # Writing.

    def append(self, replica: ReplicaId, lines: Sequence[LogLine]) -> int:
        """Store `lines` and return their size in bytes.

        Raises:
            OSError: nothing was stored.
        """
        data = encode(replica, lines)
        with self._lock:
            if self._is_removed:
                return 0
            self._open()
            if self._size >= self._segment_bytes:
                self._rotate()
            if not self._size:
                self._folder.mkdir(parents=True, exist_ok=True)
            head = self._checkpoint() if self._size == 0 or self._since_checkpoint >= CHECKPOINT_BYTES else b""
            self._write(head + data)
            self._since_checkpoint = len(data) + (0 if head else self._since_checkpoint)
            self._recent.setdefault(replica, Recent()).absorb_lines(lines)
        return len(data)

    def retain(self, replicas: Collection[ReplicaId]) -> None:
        """Let the next checkpoints name `replicas` alone."""
        with self._lock:
            self._open()
            self._recent = {replica: recent for replica, recent in self._recent.items() if replica in replicas}

    def rotate(self) -> int:
        """Close the segment that is written, whatever its size. Return the size of the new one."""
        with self._lock:
            self._open()
            if self._size:
                self._rotate()
            return self._size

    # Upkeep.

    def unpacked(self) -> list[int]:
        """Return the closed segments that are not compressed yet, oldest first."""
        with self._lock:
            return [number for number in sorted(self._closed) if self._plain(number).exists()]

    def pack(self, number: int) -> None:
        """Compress a closed segment. Repeating is harmless; a crash leaves the plain one in force."""
        packed = self._packed(number)
        part = packed.with_suffix(".part")
        try:
            with self._plain(number).open("rb") as source, part.open("wb") as raw:
                with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=_COMPRESSION, mtime=0) as target:
                    shutil.copyfileobj(source, target, length=1024 * 1024)
                raw.flush()
                os.fsync(raw.fileno())
        except FileNotFoundError:
            return
        with self._lock:
            if number not in self._closed:
                part.unlink(missing_ok=True)
                return
            part.rename(packed)
            self._plain(number).unlink(missing_ok=True)
            self._closed[number] = packed.stat().st_size

    def drop_oldest(self) -> int:
        """Delete the oldest closed segment. Return how many bytes that freed."""
        with self._lock:
            if not self._closed:
                return 0
            number = min(self._closed)
            self._plain(number).unlink(missing_ok=True)
            self._packed(number).unlink(missing_ok=True)
            del self._closed_at[number]
            return self._closed.pop(number)

    def remove(self) -> None:
        """Delete everything; later appends store nothing."""
        with self._lock:
            self._is_removed = True
            self._closed.clear()
            self._closed_at.clear()
            self._size = 0
            if self._folder.exists():
                shutil.rmtree(self._folder)

    # Private: the lock is held.

    def _plain(self, number: int) -> Path:
        return self._folder / f"{number:010}.log"

    def _packed(self, number: int) -> Path:
        return self._folder / f"{number:010}.log.gz"

    def _scan(self) -> None:
        """Find the segments by name and size. Reads none of them: a thousand apps must not delay a start."""
        if not self._folder.is_dir():
            return
        plain: set[int] = set()
        for entry in os.scandir(self._folder):
            number, _, kind = entry.name.partition(".")
            if kind.endswith("part") or not number.isdigit():
                continue
            if kind == "log":
                plain.add(int(number))
            self._closed[int(number)] = entry.stat().st_size
            self._closed_at[int(number)] = entry.stat().st_mtime
        if not self._closed:
            return
        newest = max(self._closed)
        if newest in plain:
            self._last = newest
            self._size = self._closed.pop(newest)
            self._closed_at.pop(newest)
        else:
            self._last = newest + 1

    def _open(self) -> None:
        """Repair the last segment's end and read the positions. Once, before the first use that needs them."""
        if self._is_open:
            return
        tail = self._repair() if self._size else b""
        if not self._size and self._closed:
            # The last segment is not begun, or was cut off in its first line, which repeats what the former one knew.
            tail = self._whole(max(self._closed))
        start = max(tail.rfind(b"\n" + CHECKPOINT) + 1, 0)
        first, _, rest = tail[start:].partition(b"\n")
        checkpoint = decode_checkpoint(first)
        self._recent = {} if checkpoint is None else checkpoint.recent
        self._since_checkpoint = len(rest)
        absorb_records(self._recent, rest.split(b"\n"))
        self._is_open = True

    def _repair(self) -> bytes:
        """Cut an unfinished line off the last segment. Return its end, from its last checkpoint (or earlier) on."""
        path = self._plain(self._last)
        with path.open("rb+") as file:
            tail = b""
            start = self._size
            while start > 0 and b"\n" + CHECKPOINT not in tail:
                start = max(start - _BLOCK, 0)
                file.seek(start)
                tail = file.read(min(_BLOCK, self._size - start)) + tail
            torn = len(tail) - (tail.rfind(b"\n") + 1)
            if torn:
                _log.warning("logs.torn-end-cut", segment=str(path), bytes=torn)
                self._size -= torn
                file.truncate(self._size)
        return tail[: len(tail) - torn]

    def _whole(self, number: int) -> bytes:
        try:
            return self._plain(number).read_bytes()
        except FileNotFoundError:
            return self._unpack(number)

    def _unpack(self, number: int) -> bytes:
        try:
            return gzip.decompress(self._packed(number).read_bytes())
        except FileNotFoundError:
            return b""
        except (EOFError, zlib.error, gzip.BadGzipFile):
            _log.exception("logs.segment-unreadable", segment=str(self._packed(number)))
            return b""

    def _checkpoint(self) -> bytes:
        # Never before a stamp that is stored already, even if the machine's clock was set back.
        newest = max((recent.newest for recent in self._recent.values()), default=0)
        return encode_checkpoint(Checkpoint(max(int(self._clock.now() * 1e9), newest), self._recent))

    def _write(self, data: bytes) -> None:
        file = os.open(self._plain(self._last), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
            except OSError:
                os.ftruncate(file, self._size)
                raise
            self._size += len(data)
            if self._clock.monotonic() - self._synced_at >= SYNC_SECONDS:
                os.fdatasync(file)
                self._synced_at = self._clock.monotonic()
        finally:
            os.close(file)

    def _rotate(self) -> None:
        file = os.open(self._plain(self._last), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        self._closed[self._last] = self._size
        self._closed_at[self._last] = self._clock.now()
        self._last += 1
        self._size = 0
        # The new segment begins with the positions, so deleting every older one loses none.
        self._write(self._checkpoint())
        self._since_checkpoint = 0
