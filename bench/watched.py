"""The agent, and beside it in the same loop a task that notes how late the loop is: ``python -m bench.watched run``.

The file named by ``BENCH_LAG`` gets a line a second: how many milliseconds late each of its timers (one every 10 ms)
was called. That costs the agent 1 to 2 % of a core, which is part of the idle figures then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from agent import bootstrap
from agent.__main__ import main
from agent.settings import Settings

TICK = 0.01
LAG = "BENCH_LAG"
_running = bootstrap.running


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[object]:
    """Run the agent as ever, and note its lag to the file that the environment names."""
    async with asyncio.TaskGroup() as group:
        noting = group.create_task(note_lag(Path(os.environ[LAG])))
        try:
            async with _running(settings) as agent:
                yield agent
        finally:
            noting.cancel()


async def note_lag(path: Path) -> None:
    """Append a line of lags in milliseconds every second, until cancelled."""
    loop = asyncio.get_running_loop()
    with path.open("a", buffering=1) as file:
        while True:
            lags = []
            until = loop.time() + 1.0
            while (before := loop.time()) < until:
                await asyncio.sleep(TICK)
                lags.append(max(0.0, loop.time() - before - TICK) * 1000)
            file.write(" ".join(f"{lag:.1f}" for lag in lags) + "\n")


def lags_since(path: Path, offset: int) -> list[float]:
    """Return the lags in milliseconds that were noted after the file had `offset` bytes."""
    with path.open() as file:
        file.seek(offset)
        return [float(word) for line in file.read().splitlines() for word in line.split()]


if __name__ == "__main__":
    bootstrap.running = running  # type: ignore[assignment]
    main()
