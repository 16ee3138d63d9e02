"""Where a follow stands: which lines were given, so that nothing is given twice and nothing left out unseen.

Three things are known of the engine's follow (20.10).

- Its ``since`` is inclusive, and the stamps of the two streams step back by milliseconds: so a follow is taken up some
  time before the newest stamp, and of each slot of time as many lines are left out as were given.
- At a rotation it may begin a file again, a few lines or all of it. The engine stamps the lines of one stream one after
  another, so such a line is told by its stamp, which is older than the newest of its stream and was met before to the
  nanosecond.
- Where it lags by more than a file it skips files and says nothing: then stamps jump on while the bytes come without a
  pause. Such a jump is not believed. Nothing behind it is taken, and the follow is begun anew, which reads the rotated
  files first. What they no longer hold is marked as a gap; where a
  file was rotated away just at its end nothing may be missing there, which nobody can tell.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from operator import sub
from typing import Final

from agent.ports.logs import (
    GAP,
    MAX_LINE,
    RawLine,
    RawLines,
    Stream,
    are_rising,
    count_slots,
    slot_of,
)

OVERLAP_NS: Final = 2_000_000_000
"""How far before the newest stamp a follow begins anew. Stamps were seen to step back by some milliseconds."""
SHORT_OVERLAP_NS: Final = 200_000_000
"""The same where files were skipped: there lines come so fast that two seconds of them are all that the engine has."""
FILE_BYTES: Final = 10_500_000
"""Of one file of the engine (``max-size``), and what it may go over."""
RECORD_BYTES: Final = 70
"""Of each line in such a file, beside its text."""
FILE_SHARE: Final = 1_600_000
"""Bytes of text and stamps that one file holds at least: escaped in JSON a byte becomes six at the most."""
RATE_BYTES: Final = 65_536
"""Over so many bytes it is measured how fast an app writes."""
SHORTEST_FILE_NS: Final = 30_000_000
"""No engine fills a file faster (300 MB/s), so no shorter jump of stamps hides one."""
MOST_SLOTS: Final = 400
"""Counted at the most; the overlap has a hundred."""


class Resume:
    """What was given of one container's log, over all reads of it."""

    def __init__(self, since: int) -> None:
        self.since = since
        """The newest stamp that was given; before that, where the caller wants to begin."""
        self.has_hole = False
        """Whether this read has jumped over lines: it is no use any more."""
        self._beginning = since
        self._given: Counter[int] = Counter()
        self._skip: Counter[int] = Counter()
        self._skipped_until = -1
        """The newest stamp given by earlier reads: what is later is new, whatever was rotated away before it."""
        self._is_met_again = True
        """Whether this read has come to where the one before it ended."""
        self._met: dict[Stream, array[int]] = {"stdout": array("Q"), "stderr": array("Q")}
        self._last: dict[Stream, bytes] = {}
        self._is_repeating = False
        self._flow = _Flow()

    @property
    def is_flowing(self) -> bool:
        """Whether lines come so fast, and were so many in this read, that files are rotated."""
        return self._flow.shortest_hole < inf

    @property
    def start(self) -> int:
        """Where the next read begins; 0: at the first line."""
        overlap = SHORT_OVERLAP_NS if self.has_hole else OVERLAP_NS
        return max(slot_of(self.since - overlap), self._beginning) if self._given else self._beginning

    def begin(self) -> None:
        """Note that a read begins at `start`."""
        # Of the long overlap all are kept, also where this read begins later: the next one may have it.
        self._forget_slots()
        self._skip = Counter({slot: count for slot, count in self._given.items() if slot >= slot_of(self.start)})
        self._skipped_until = self.since if self._given else -1
        self._is_met_again = not self._given
        self._is_repeating = self.has_hole = False
        self._flow = _Flow()
        for stamps in self._met.values():
            del stamps[:]

    def unseen(self, lines: RawLines, *, waited: float = inf) -> RawLines:
        """Return those of `lines`, the next of this read, that were not given before; up to a hole, if there is one.

        `waited`: seconds since the lines before were read.
        """
        if not lines:
            return lines
        fresh = self._at_once_unseen(lines, waited)
        if fresh is None:
            fresh = RawLines.of(self._singly_unseen(lines, waited))
        if fresh:
            self._flow.note(fresh)
        if len(self._given) > MOST_SLOTS:
            self._forget_slots()
        return fresh

    def _forget_slots(self) -> None:
        oldest = slot_of(self.since - OVERLAP_NS)
        self._given = Counter({slot: count for slot, count in self._given.items() if slot >= oldest})

    def _at_once_unseen(self, lines: RawLines, waited: float) -> RawLines | None:
        """Return `lines` if all are later than any met, as they nearly always are. Costs a tenth of looking at each."""
        if self._is_repeating or not self._is_met_again or min(lines.at) <= self._skipped_until:
            return None
        for stream, at, _ in _by_stream(lines):
            met = self._met[stream]
            if (met and at[0] <= met[-1]) or not are_rising(at):
                return None
        lines = lines[: self._before_hole(lines.at, waited)]
        if not lines:
            return lines
        for stream, at, last in _by_stream(lines):
            met = self._met[stream]
            met.extend(at)
            if len(met) > 2 * self._flow.lines_of_a_file:
                del met[: -self._flow.lines_of_a_file]
            self._last[stream] = last
            self.since = max(self.since, at[-1])
            self._given.update(count_slots(at))
        return lines

    def _before_hole(self, at: Sequence[int], waited: float) -> int:
        """Return how many lines come before a jump that is not believed: all of them, nearly always."""
        least = self._flow.shortest_hole
        if least == inf:
            return len(at)
        if self._given and at[0] - self.since >= max(least, 2e9 * waited):
            self.has_hole = True
            return 0
        jumps = list(map(sub, at[1:], at))
        widest = max(jumps, default=0)
        if widest < least:
            return len(at)
        self.has_hole = True
        return jumps.index(widest) + 1

    def _singly_unseen(self, lines: RawLines, waited: float = inf) -> Iterator[RawLine]:
        for index, line in enumerate(lines):
            if self._is_repeated(line):
                continue
            slot = slot_of(line.at)
            if line.at <= self._skipped_until and self._skip[slot] > 0:
                self._skip[slot] -= 1
                self._is_met_again = True
                continue
            pause = 0.0 if index else 2e9 * waited
            if self._given and line.at - self.since >= max(self._flow.shortest_hole, pause):
                self.has_hole = True
                return
            if not self._is_met_again:
                self._is_met_again = True
                yield RawLine(line.at, "agent", GAP.encode())
            self._given[slot] += 1
            self.since = max(self.since, line.at)
            yield line

    def _is_repeated(self, line: RawLine) -> bool:
        """Tell whether this read had the line before."""
        stamps = self._met[line.stream]
        if stamps and line.at < stamps[-1]:
            if stamps[bisect_left(stamps, line.at)] == line.at:
                self._is_repeating = True
                return True
            # The machine's clock was set back.
            del stamps[:]
        elif stamps and line.at == stamps[-1] and (self._is_repeating or self._is_like_last(line)):
            return True
        elif len(stamps) > 2 * self._flow.lines_of_a_file:
            del stamps[: -self._flow.lines_of_a_file]
        self._is_repeating = False
        self._last[line.stream] = line.data
        stamps.append(line.at)
        return False

    def _is_like_last(self, line: RawLine) -> bool:
        """Tell whether the line is the stream's last one once more; the pieces of a cut line share their stamp."""
        return len(line.data) < MAX_LINE and self._last.get(line.stream) == line.data


class _Flow:
    """How fast, and how long, the lines of one read are."""

    def __init__(self) -> None:
        self.shortest_hole = inf
        """Nanoseconds that a jump of stamps has at least which a skipped file could be behind."""
        self._volume = 0
        self._texts = 0
        self._lines = 0
        self._measured = 0
        self._began = 0

    @property
    def lines_of_a_file(self) -> int:
        """How many lines one file of the engine may hold: as many it may give again."""
        mean = self._texts // self._lines if self._lines else 0
        return FILE_BYTES // (RECORD_BYTES + mean)

    def note(self, fresh: RawLines) -> None:
        """Take note of lines that were given."""
        size = sum(map(len, fresh.texts))
        self._texts += size
        self._lines += len(fresh)
        size += len(fresh) * RECORD_BYTES // 2
        self._volume += size
        if not self._measured:
            self._began = fresh.at[0]
        self._measured += size
        if self._measured < RATE_BYTES:
            return
        if self._volume >= FILE_SHARE:
            # A file takes at least as long as its smallest content does at the rate of just now.
            span = max(fresh.at[-1] - self._began, 0)
            self.shortest_hole = max(span * FILE_SHARE / self._measured, SHORTEST_FILE_NS)
        self._measured = 0


def _by_stream(lines: RawLines) -> Iterator[tuple[Stream, Sequence[int], bytes]]:
    """Yield each stream that `lines` have, with its stamps and its last text."""
    if lines.is_of_one_stream:
        yield lines.streams[0], lines.at, lines.texts[-1]
        return
    for stream in set(lines.streams):
        indices = [index for index, name in enumerate(lines.streams) if name == stream]
        yield stream, [lines.at[index] for index in indices], lines.texts[indices[-1]]
