"""What containers write, as lines with the engine's time stamps, from any moment on.

The engine's follow has three ways of ending or going silent while there is more to read: it ends at every restart of
the container, it ends when the engine does, and it is known to stall when a log file is rotated (moby#37646, #39235,
#45728). So a follow here is a sequence of the engine's follows, each from the last stamp seen, with the lines that come
again taken out; and a long silence is checked by asking for the last line alone.

At a rotation one follow was also seen (engine 20.10) to begin the new file twice, so that its first lines come again.
The engine stamps the lines of one stream one after another, so such a line is told by its stamp: it is older than the
newest of its stream, and was met before to the nanosecond; and from it on up to that newest one.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from agent.docker import labels
from agent.docker.containers import Containers
from agent.docker.engine import Engine, Refused
from agent.docker.log_lines import LineReader
from agent.docker.raw import RawStream, open_raw
from agent.docker.stamps import query_time
from agent.errors import Unavailable
from agent.ports.logs import MAX_LINE, SLOT_NS, RawLine, RawLines, Stream, are_rising, count_slots, slot_of
from proto.names import ReplicaId

SILENCE_SECONDS: Final = 30.0
"""After so long without a line we ask whether there is one; each fruitless question doubles it."""
MAX_SILENCE_SECONDS: Final = 600.0
PAUSE_SECONDS: Final = 0.05
"""Before following anew a container that is about to start or restart; doubles up to `MAX_PAUSE_SECONDS`."""
MAX_PAUSE_SECONDS: Final = 1.0
OVERLAP_NS: Final = 2_000_000_000
"""How far before the newest stamp a follow begins anew. Stamps were seen to step back by some milliseconds."""
PACE_SECONDS: Final = 0.05
"""Where lines come faster than this one after another, they gather for so long. 50 busy containers are read a thousand
times a second then and not a hundred thousand times, and a follower waits as long for its own batches anyway."""
BUSY_BYTES: Final = 16_384
"""A read of so much is as much as a socket holds of short lines (the engine writes each singly): go on at once."""
MOST_STAMPS: Final = 65_536
"""Stamps of each stream that are kept to know a line again, 8 bytes each. The engine was seen to repeat 46 lines."""
MOST_SLOTS: Final = 400
"""Counted at the most; the overlap has a hundred."""


class DockerLogs:
    """Fulfils ``agent.ports.logs.LogSource``."""

    def __init__(self, engine: Engine, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        """`silence_seconds`: see `SILENCE_SECONDS`; tests set it short."""
        self._engine = engine
        self._containers = Containers(engine)
        self._silence = silence_seconds

    async def follow(self, replica: ReplicaId, *, since: int) -> AsyncIterator[RawLines]:
        """See ``LogSource``."""
        rows = await self._containers.find({labels.REPLICA_ID: replica})
        if not rows:
            return
        container, resume, pause = rows[0].id, _Resume(since), PAUSE_SECONDS
        while True:
            # Looked at before the read and not after: what was written before the end is then surely in it.
            detail = await self._containers.inspect(container)
            if detail is None:
                return
            is_over = detail.state.status not in ("created", "running", "restarting", "paused")
            async for batch in self._once(container, resume, is_followed=detail.is_running):
                pause = PAUSE_SECONDS
                yield batch
            # An answer that was cut looks like one that ended, hence the second look.
            if is_over and await self._newest(container) <= resume.since:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_SECONDS)

    async def _once(self, container: str, resume: _Resume, *, is_followed: bool) -> AsyncIterator[RawLines]:
        """Yield what one answer of the engine holds. Returns when it ends, or stalls."""
        params: dict[str, str | int] = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(is_followed)}
        if resume.start:
            params["since"] = query_time(resume.start)
        resume.begin()
        lines = LineReader()
        try:
            async with open_raw(self._engine, "GET", f"containers/{container}/logs", params=params) as stream:
                pace = _Pace()
                while data := await self._read(stream, container, resume):
                    if batch := resume.unseen(lines.feed(data)):
                        yield batch
                    if pace.is_brisk(len(data)):
                        await stream.gather(PACE_SECONDS)
        except Refused as refusal:
            # 404 and 409: it is gone or going, which the next look at it will tell.
            if refusal.status not in (404, 409):
                raise Unavailable("docker.unavailable", f"Docker refused: {refusal.message}") from refusal
        except ValueError as error:
            raise Unavailable("docker.unavailable", "Docker sent a log that makes no sense.") from error
        if batch := resume.unseen(lines.end()):
            yield batch

    async def _read(self, stream: RawStream, container: str, resume: _Resume) -> bytes:
        """Return what comes next, or nothing if the stream ended or stalled."""
        silence = self._silence
        while True:
            try:
                async with asyncio.timeout(silence):
                    return await stream.read()
            except TimeoutError:
                if await self._newest(container) > resume.since:
                    return b""
                silence = min(silence * 2, MAX_SILENCE_SECONDS)

    async def _newest(self, container: str) -> int:
        """Return the stamp of the container's last line (cheap: the engine reads its file from the end)."""
        params = {"stdout": 1, "stderr": 1, "timestamps": 1, "tail": 1}
        lines, newest = LineReader(), 0
        try:
            async with open_raw(self._engine, "GET", f"containers/{container}/logs", params=params) as stream:
                while data := await stream.read():
                    newest = max([newest, *lines.feed(data).at])
        except Refused:
            return 0
        return max([newest, *lines.end().at])


class _Resume:
    """Where a follow stands, so that the next read gives nothing twice and leaves nothing out.

    The engine's ``since`` is inclusive, several lines may share a stamp, and on a busy machine the stamps of the two
    streams step back by milliseconds. So the next read begins `OVERLAP_NS` before the newest stamp, and of each slot
    of time as many lines are left out as were given before: a log keeps its order.
    """

    def __init__(self, since: int) -> None:
        self.since = since
        """The newest stamp that was given; before that, where the caller wants to begin."""
        self._beginning = since
        self._given: Counter[int] = Counter()
        self._skip: Counter[int] = Counter()
        self._skipped_at = 0
        """From this stamp on none is left out."""
        self._met: dict[Stream, array[int]] = {"stdout": array("Q"), "stderr": array("Q")}
        self._last: dict[Stream, bytes] = {}
        self._is_repeating = False

    @property
    def start(self) -> int:
        """Where the next read begins; 0: at the first line."""
        return max(slot_of(self.since - OVERLAP_NS), self._beginning) if self._given else self._beginning

    def begin(self) -> None:
        """Note that a read begins at `start`."""
        self._given = Counter({slot: count for slot, count in self._given.items() if slot >= slot_of(self.start)})
        self._skip = self._given.copy()
        self._skipped_at = max(self._skip, default=-SLOT_NS) + SLOT_NS
        for stamps in self._met.values():
            del stamps[:]

    def unseen(self, lines: RawLines) -> RawLines:
        """Return those of `lines`, the next of this read, that were not given before."""
        if not lines:
            return lines
        fresh = lines if self._are_new(lines) else RawLines.of(self._singly_unseen(lines))
        if len(self._given) > MOST_SLOTS:
            oldest = slot_of(self.since - OVERLAP_NS)
            self._given = Counter({slot: count for slot, count in self._given.items() if slot >= oldest})
        return fresh

    def _are_new(self, lines: RawLines) -> bool:
        """Tell whether all of `lines` are later than any met, as they nearly always are; they are taken note of then.

        Costs a tenth of looking at each.
        """
        earliest = min(lines.at)
        if self._is_repeating or earliest < self._skipped_at:
            return False
        columns = list(_by_stream(lines))
        for stream, at, _ in columns:
            met = self._met[stream]
            if (met and at[0] <= met[-1]) or not are_rising(at):
                return False
        for stream, at, last in columns:
            met = self._met[stream]
            met.extend(at)
            if len(met) > MOST_STAMPS:
                del met[: -MOST_STAMPS // 2]
            self._last[stream] = last
            self.since = max(self.since, at[-1])
            self._given.update(count_slots(at))
        return True

    def _singly_unseen(self, lines: RawLines) -> Iterator[RawLine]:
        for line in lines:
            if self._is_repeated(line):
                continue
            slot = slot_of(line.at)
            if self._skip[slot] > 0:
                self._skip[slot] -= 1
                continue
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
        elif len(stamps) >= MOST_STAMPS:
            del stamps[: MOST_STAMPS // 2]
        self._is_repeating = False
        self._last[line.stream] = line.data
        stamps.append(line.at)
        return False

    def _is_like_last(self, line: RawLine) -> bool:
        """Tell whether the line is the stream's last one once more; the pieces of a cut line share their stamp."""
        return len(line.data) < MAX_LINE and self._last.get(line.stream) == line.data


class _Pace:
    """Tells whether lines come so fast that they had better gather between two reads.

    What comes seldom is read at once, as is the beginning of a burst: a brief life is not made longer.
    """

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._read_at = -PACE_SECONDS

    def is_brisk(self, size: int) -> bool:
        """Take note of a read of `size` bytes; tell whether the next one should wait."""
        before, self._read_at = self._read_at, self._clock()
        return size < BUSY_BYTES and self._read_at - before < 2 * PACE_SECONDS


def _by_stream(lines: RawLines) -> Iterator[tuple[Stream, Sequence[int], bytes]]:
    """Yield each stream that `lines` have, with its stamps and its last text."""
    if lines.is_of_one_stream:
        yield lines.streams[0], lines.at, lines.texts[-1]
        return
    for stream in set(lines.streams):
        indices = [index for index, name in enumerate(lines.streams) if name == stream]
        yield stream, [lines.at[index] for index in indices], lines.texts[indices[-1]]
