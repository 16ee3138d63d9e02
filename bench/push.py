"""Ten pushes of a one-line change: until the new version answers, and until ``git push`` ends.

Ours and the reference (see `by_hand`) take turns, so that both meet the same machine. The first push of each, which
fills caches, is not counted.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.by_hand import ByHand
from bench.measured import figure, report, say
from tests.support.rig import Checkout, Rig, rig, small_app

RUNS = 10
APP = "bench"
PAUSE_SECONDS = 0.005


async def measure(runs: int = RUNS) -> None:
    """Run it and print the figures."""
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        folder = Path(name)
        async with rig(folder) as r:
            with ByHand(folder) as hand:
                answered, ended, by_hand = await _series(r, hand, runs)
    aim = "ratio <= 1.3 and ours < 2 s"
    report(
        [
            figure("push.answered", answered, by_hand, unit="s", aim=aim),
            figure("push.ended", ended, by_hand, unit="s", aim=aim),
        ]
    )


async def _series(r: Rig, hand: ByHand, runs: int) -> tuple[list[float], list[float], list[float]]:
    checkout = r.checkout(APP, small_app("warm-up"))
    answered: list[float] = []
    ended: list[float] = []
    by_hand: list[float] = []
    for number in range(runs + 1):
        version = f"run-{number}-"
        checkout.write({"index.html": f"{version}\n"})
        await checkout.commit()
        first, last = await _push(r, checkout, version)
        reference = await asyncio.to_thread(hand.push, checkout.folder, version=version)
        say(f"push {number}: answered {first:.2f} s, ended {last:.2f} s, by hand {reference:.2f} s")
        if number:
            answered.append(first)
            ended.append(last)
            by_hand.append(reference)
    return answered, ended, by_hand


async def _push(r: Rig, checkout: Checkout, version: str) -> tuple[float, float]:
    """Push; return the seconds until the version answers and until git ends."""
    started = time.perf_counter()
    push = asyncio.create_task(r.git_push(checkout))
    try:
        first = await _answer(r, version, started)
    finally:
        pushed = await push
    last = time.perf_counter() - started
    if pushed.status:
        raise RuntimeError(pushed.err)
    return first, last


async def _answer(r: Rig, version: str, started: float) -> float:
    async with asyncio.timeout(120):
        while True:
            answer = await asyncio.to_thread(r.boat.http, f"{APP}.localhost")
            if answer and version in answer.text:
                return time.perf_counter() - started
            await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    asyncio.run(measure())
