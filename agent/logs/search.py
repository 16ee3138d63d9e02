"""The newest matching lines of a shelf, found from the end backwards, in bounded memory.

Two passes. The first walks the segments backwards and notes only where the matching records are, until there are
enough of them or all older ones are too old. The second reads those places forwards, in pages. Both work on one segment
at a time, in a thread; a pattern is matched in between, since that is another process's work (see `matching`).

Lines lie in the order in which they were stored. Those of one replica are in the order of their stamps, but
after a restart one replica may be caught up before another; so each page is sorted by stamp.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Sequence

import msgspec

from agent.logs.lines import Wanted, decode, decode_checkpoint, split, text_of, wanted
from agent.logs.matching import Matcher
from agent.logs.segments import Mark, Shelf
from agent.ports.logs import LogLine, LogQuery

PAGE_LINES = 5_000
"""Lines of one page, at most."""

PAGE_BYTES = 1024 * 1024
"""A page is handed over once it has as many bytes."""

_TURN_RECORDS = 20_000
"""Records looked at in one turn of the thread, so that others get theirs and a cancellation is noticed."""

_TURN_MATCHES = 1_000
"""Candidates that one turn hands to the matcher."""


class _Found(msgspec.Struct, frozen=True):
    """Where the matching records of one segment begin, newest first."""

    segment: int
    offsets: array[int]


async def pages(shelf: Shelf, mark: Mark, *, query: LogQuery, matcher: Matcher) -> AsyncGenerator[list[LogLine], None]:
    """Yield the lines before `mark` that match, oldest first.

    What is deleted for the budget's sake meanwhile is left out.
    """
    found = await _find(shelf, mark, query=query, matcher=matcher)
    page: list[LogLine] = []
    size = 0
    for place in reversed(found):
        data = await asyncio.to_thread(shelf.load, place.segment, mark)
        offsets = place.offsets[::-1]
        for start in range(0, len(offsets), PAGE_LINES):
            lines = await asyncio.to_thread(_read, data, offsets[start : start + PAGE_LINES])
            page += lines
            size += sum(len(line.text) for line in lines)
            if len(page) >= PAGE_LINES or size >= PAGE_BYTES:
                yield sorted(page, key=_stamp)
                page, size = [], 0
    if page:
        yield sorted(page, key=_stamp)


async def _find(shelf: Shelf, mark: Mark, *, query: LogQuery, matcher: Matcher) -> list[_Found]:
    condition = wanted(query)
    missing = query.last
    found: list[_Found] = []
    for segment in await asyncio.to_thread(shelf.segments, mark):
        if missing is not None and missing <= 0:
            break
        data = await asyncio.to_thread(shelf.load, segment, mark)
        offsets = await _find_in(data, condition, limit=missing, matcher=matcher)
        found.append(_Found(segment, offsets))
        missing = None if missing is None else missing - len(offsets)
        header = decode_checkpoint(data[: data.find(b"\n")])
        if header is not None and header.at < condition.since:
            # Whatever is in an older segment was stored, and so stamped, before this one began.
            break
    return found


async def _find_in(data: bytes, condition: Wanted, *, limit: int | None, matcher: Matcher) -> array[int]:
    offsets: array[int] = array("Q")
    end = len(data)
    while end > 0 and (limit is None or len(offsets) < limit):
        starts, texts, end = await asyncio.to_thread(_candidates, data, end, condition)
        matches = await matcher.matches(texts)
        offsets.extend(start for start, is_match in zip(starts, matches, strict=True) if is_match)
    return offsets if limit is None else offsets[:limit]


def _candidates(data: bytes, end: int, condition: Wanted) -> tuple[list[int], list[str], int]:
    """Return where records that meet `condition` begin and their texts, from `end` backwards, and how far it got."""
    starts: list[int] = []
    texts: list[str] = []
    looked = 0
    while end > 0 and looked < _TURN_RECORDS and len(starts) < _TURN_MATCHES:
        start = data.rfind(b"\n", 0, end - 1) + 1
        fields = split(data[start : end - 1])
        if fields is not None and condition.accepts(fields):
            starts.append(start)
            texts.append(text_of(fields))
        end = start
        looked += 1
    return starts, texts, end


def _read(data: bytes, offsets: Sequence[int]) -> list[LogLine]:
    lines: list[LogLine] = []
    for start in offsets:
        fields = split(data[start : data.find(b"\n", start)])
        if fields is not None:
            lines.append(decode(fields))
    return lines


def _stamp(line: LogLine) -> int:
    return line.at
