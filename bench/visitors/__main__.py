"""All visitors of one proxy, as a process of their own: ``python -m bench.visitors PORT RATE HOLDS_SECONDS``.

It reads the phases of the run from standard input, a word a line, and ``leave`` at the end. It writes how many bulk
requests were made, a number a line, each second; and at last what became of all, as one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys

import uvloop

from bench.visitors import kinds
from bench.visitors.sockets import websocket

STREAMS = (
    ("/stream", f"answer of {kinds.SLOW_SECONDS} s", kinds.SLOW_SECONDS),
    ("/events", "server-sent events", kinds.EVENTS_SECONDS),
)
COUNT_SECONDS = 1.0


async def visit(port: int, rate: float, holds_seconds: float) -> None:
    """Send the visitors, and tell what they saw when they are told to leave."""
    street = kinds.Street(port, holds_seconds=holds_seconds)
    async with asyncio.TaskGroup() as group:
        for kind, (share, visitors) in kinds.SHARES.items():
            for _ in range(visitors):
                group.create_task(kinds.bulk(street, kind, rate=rate * share / visitors))
        for _ in range(4):
            group.create_task(kinds.slow(street))
            for path, kind, seconds in STREAMS:
                group.create_task(kinds.streamed(street, path, kind, seconds))
            group.create_task(websocket(street, kinds.SHOP))
            group.create_task(websocket(street, kinds.CHAT))
            group.create_task(kinds.late(street))
        for _ in range(12):
            group.create_task(kinds.idler(street))
        for number, is_kept in itertools.product(range(4), (True, False)):
            group.create_task(kinds.mortal(street, milliseconds=100 + 400 * number, is_kept=is_kept))
        group.create_task(kinds.death(street))
        counting = group.create_task(_count(street))
        await _listen(street)
        counting.cancel()
    street.judge_deaths()
    print(json.dumps({kind: tally.plain() for kind, tally in street.tallies.items()}), flush=True)


async def _listen(street: kinds.Street) -> None:
    """Follow the phases until it is time to leave, or whoever told them is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while (word := (await reader.readline()).decode().strip()) not in ("leave", ""):
        street.phase = word
    street.is_closing.set()


async def _count(street: kinds.Street) -> None:
    while True:
        print(sum(street.tallies[kind].requests for kind in kinds.SHARES), flush=True)
        await asyncio.sleep(COUNT_SECONDS)


if __name__ == "__main__":
    random.seed(int(sys.argv[4]))
    uvloop.run(visit(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
