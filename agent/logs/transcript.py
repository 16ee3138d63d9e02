"""One deploy's transcript: a text file with a limit.

Past the limit lines are dropped; but the end of a transcript is what tells the reason of a failure, so the last of
those lines are held, and written with a note of how many went before them once the deploy has gone quiet or is over.
The same happens to what the disk was too slow for. Nothing is synced: a power failure may cost an output's last lines.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

PENDING_BYTES = 4 << 20
"""What may wait in memory for the disk."""

HELD_LINES = 200
"""Lines held of those past the limit: the last ones."""

_PAGE_BYTES = 256 * 1024


class Transcript:
    """What is being written of one deploy. Lines are bytes that end with a newline."""

    def __init__(self, path: Path, *, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._held: deque[bytes] = deque()
        self._dropped = 0
        self._is_writing = False
        """Whether lines were taken to be written. Changes under the lock, together with what was taken."""
        self.said_at = 0.0
        """When the last line was said, by the clock of whoever said it."""

    @property
    def is_holding(self) -> bool:
        """Whether lines are held back."""
        return bool(self._held)

    @property
    def is_waiting(self) -> bool:
        """Whether there is anything that is not in the file yet, or is just being written."""
        with self._lock:
            return self._is_writing or bool(self._pending or self._held or self._dropped)

    def say(self, line: bytes, *, now: float) -> None:
        """Let a line wait to be written. The lock is only ever held for moments."""
        with self._lock:
            self.said_at = now
            if self._held or self._pending_bytes + len(line) > PENDING_BYTES:
                self._hold([line])
            else:
                self._pending.append(line)
                self._pending_bytes += len(line)

    def write(self, *, is_final: bool) -> None:
        """Write what waits; with `is_final` also what is held. For a thread.

        Raises:
            OSError: what was to be written is lost, and counted as dropped.
        """
        with self._writing:
            try:
                self._write(is_final=is_final)
            finally:
                with self._lock:
                    self._is_writing = False

    def _write(self, *, is_final: bool) -> None:
        with self._lock:
            self._is_writing = True
            lines, self._pending, self._pending_bytes = self._pending, [], 0
        room = self._limit - self._size()
        fitting = _count_fitting(lines, room)
        self._append(lines[:fitting], lost=len(lines))
        with self._lock:
            if fitting < len(lines):
                later = list(self._held)
                self._held.clear()
                self._hold([*lines[fitting:], *later])
            if not (is_final or self._size() < self._limit):
                return
            ending, self._held = list(self._held), deque()
            dropped, self._dropped = self._dropped, 0
        lost = dropped + len(ending)
        if dropped:
            ending.insert(0, b"[%d lines left out]\n" % dropped)
        self._append(ending, lost=lost)

    def _hold(self, lines: Sequence[bytes]) -> None:
        self._held.extend(lines)
        while len(self._held) > HELD_LINES:
            self._held.popleft()
            self._dropped += 1

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _append(self, lines: Sequence[bytes], *, lost: int) -> None:
        """Write `lines`. `lost`: how many lines that were said are lost if that fails."""
        if not lines:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: after a failure nothing is left to be written when the file is closed.
            with self._path.open("ab+", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 1, 0))
                torn = b"\n" if size and file.read(1) != b"\n" else b""
                _write_whole(file.fileno(), torn + b"".join(lines), size=size)
        except OSError:
            with self._lock:
                self._dropped += lost
            raise


def read_lines(path: Path, offset: int) -> list[bytes]:
    """Return the whole lines of a page from `offset` on, without their newlines; none at the end, or without a file."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            page = file.read(_PAGE_BYTES)
    except FileNotFoundError:
        return []
    return page[: page.rfind(b"\n") + 1].split(b"\n")[:-1]


def _count_fitting(lines: Sequence[bytes], room: int) -> int:
    for index, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return index
    return len(lines)


def _write_whole(file: int, data: bytes, *, size: int) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError:
        os.ftruncate(file, size)
        raise
