"""A log stream's bytes made into lines: many at once where they are ordinary, one by one where they are not.

An ordinary line is one frame that holds a stamp, a text and a newline. Whole reads of those are taken apart by one
regular expression, some 0.5 µs a line, where frame by frame it is ten times that. Nothing is assumed: the expression
must cover the bytes without a hole, and each frame's length must be what its text says. Where that fails, or where a
line goes on from before, the frames are read singly, which knows everything.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final

from agent.docker.frames import HEADER, MAX_FRAME, FrameReader
from agent.docker.stamps import LINE_STAMP, StampReader
from agent.ports.logs import MAX_LINE, RawLine, RawLines, Stream

_ORDINARY: Final = re.compile(rb"([\x01\x02])\0\0\0(....)(.{19})\.([0-9]{9})Z ([^\n]*+)\n", re.DOTALL)
"""Stream, length, stamp before and after its point, text. Meets only bytes that end with a newline, so that each
attempt which gets past its stamp succeeds: no bytes make it slow."""
_GROUPS: Final = 5
_AROUND: Final = LINE_STAMP + 2
"""Bytes of a frame beside the text: the stamp, a blank, a newline."""
_STREAMS: Final[dict[bytes, Stream]] = {b"\x01": "stdout", b"\x02": "stderr"}


class LineJoiner:
    """Makes lines of texts that the engine has cut. Holds at most `MAX_LINE` bytes and one text of each stream.

    It cuts lines of more than 16 KiB into several texts, each with the stamp of the first and only the last with a
    newline. They are joined again, and cut at `MAX_LINE`.
    """

    def __init__(self) -> None:
        self._open: dict[Stream, tuple[int, bytes]] = {}

    @property
    def is_open(self) -> bool:
        """Whether a line goes on."""
        return bool(self._open)

    def add(self, at: int, stream: Stream, text: bytes) -> Sequence[RawLine]:
        """Return the lines that a text completes."""
        opened = self._open
        if opened and stream in opened:
            at, start = opened.pop(stream)
            text = start + text
        if text.endswith(b"\n"):
            return (RawLine(at, stream, text[:-1]),) if len(text) <= MAX_LINE else _pieces(at, stream, text[:-1])
        whole = len(text) - len(text) % MAX_LINE
        opened[stream] = (at, text[whole:])
        return _pieces(at, stream, text[:whole])

    def end(self) -> RawLines:
        """Return what was begun and never got its newline."""
        begun = [RawLine(at, stream, text) for stream, (at, text) in self._open.items() if text]
        self._open.clear()
        return RawLines.of(begun)


class LineReader:
    """Makes lines of one log stream's bytes. Holds at most `MAX_LINE` bytes and one frame of each stream."""

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._stamps = StampReader()
        self._joiner = LineJoiner()

    def feed(self, data: bytes) -> RawLines:
        """Return the lines that `data` completes, in order.

        Raises:
            ValueError: this is no log stream with time stamps.
        """
        if not self._joiner.is_open:
            found = self._at_once(self._frames.rest + data)
            if found is not None:
                return found
        return RawLines.of(self._singly(data))

    def end(self) -> RawLines:
        """Return what was begun and never got its newline."""
        return self._joiner.end()

    def _at_once(self, data: bytes) -> RawLines | None:
        """Return the lines of `data` if all its whole frames are ordinary; keep the rest."""
        whole = data.rfind(b"\n") + 1
        parts = _ORDINARY.split(data[:whole])
        rest = parts.pop() + data[whole:]
        if not parts or any(parts[:: _GROUPS + 1]) or _holds_a_frame(rest):
            return None
        streams, sizes, seconds, fractions, texts = (parts[group :: _GROUPS + 1] for group in range(1, _GROUPS + 1))
        lengths = struct.unpack(f">{len(sizes)}I", b"".join(sizes))
        if max(lengths) > MAX_LINE + _AROUND or list(lengths) != [_AROUND + size for size in map(len, texts)]:
            return None
        at = self._stamps.column(seconds, fractions)
        if streams.count(streams[0]) == len(streams):
            names = [_STREAMS[streams[0]]] * len(streams)
        else:
            names = [_STREAMS[stream] for stream in streams]
        self._frames.rest = rest
        return RawLines(at, names, texts)

    def _singly(self, data: bytes) -> list[RawLine]:
        lines: list[RawLine] = []
        read_stamp, add = self._stamps.read, self._joiner.add
        for stream, payload in self._frames.feed(data):
            lines += add(read_stamp(payload), stream, payload[LINE_STAMP + 1 :])
        return lines


def _holds_a_frame(rest: bytes) -> bool:
    """Tell whether what is left over is a whole frame, or no frame at all: that is for reading singly to say."""
    if len(rest) < HEADER:
        return False
    size = int.from_bytes(rest[4:HEADER], "big")
    return size > MAX_FRAME or HEADER + size <= len(rest)


def _pieces(at: int, stream: Stream, text: bytes) -> list[RawLine]:
    return [RawLine(at, stream, text[start : start + MAX_LINE]) for start in range(0, len(text), MAX_LINE)]
