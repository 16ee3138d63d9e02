"""What an idle agent holds and burns, with 1 app and with 300 running, beside a Python that imports its packages."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.measured import Figure, cpu_seconds, figure, megabytes, report, say
from tests.support.rig import BASE, Rig, rig, small_app

MANY = int(os.environ.get("BENCH_APPS", "300"))
CALM_SECONDS = 45
"""Before measuring: what a start or a deploy leaves to do is done by then."""
WATCHES = 3
WATCH_SECONDS = 30
"""Each sees one survey: they come every 30 s."""
IMPORTS = "import aiodocker, aiosqlite, asyncssh, cryptography, msgspec, structlog, uvloop"


async def measure() -> None:
    """Run it and print the figures."""
    imports = [await _importing() for _ in range(WATCHES)]
    figures = []
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        async with rig(Path(name), build={"concurrency": 2}) as r:
            pushed = await r.git_push(r.checkout("app-0", small_app()))
            if pushed.status:
                raise RuntimeError(pushed.err)
            figures += await _idle(r, 1, imports, under=90)
            await _deploy_many(r, MANY)
            figures += await _idle(r, MANY, imports, under=120)
            await r.restart_agent()
            figures += await _idle(r, MANY, imports, under=120, when=".after-restart")
    report(figures)


async def _importing() -> float:
    """Return the megabytes of a Python that imports the agent's packages and does nothing."""
    program = f"{IMPORTS}; print(flush=True); input()"
    pipe = asyncio.subprocess.PIPE
    python = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe)
    assert python.stdout
    await python.stdout.readline()
    size = megabytes(python.pid)
    await python.communicate(b"\n")
    return size


async def _deploy_many(r: Rig, count: int) -> None:
    """Give every app one running replica of the image that the first one was built into."""
    say(f"Deploying {count - 1} more apps.")
    limit = asyncio.Semaphore(4)

    async def deploy(number: int) -> None:
        async with limit:
            files = {**small_app(str(number)), "Dockerfile": f"FROM {BASE}\nCMD exec httpd -f -p $PORT -h /\n"}
            pushed = await r.git_push(r.checkout(f"app-{number}", files), "-q")
            if pushed.status:
                raise RuntimeError(pushed.err)

    async with asyncio.TaskGroup() as group:
        for number in range(1, count):
            group.create_task(deploy(number))


async def _idle(r: Rig, apps: int, imports: Sequence[float], *, under: int, when: str = "") -> list[Figure]:
    """Let the agent come to rest, then look at it for a while."""
    say(f"Watching an idle agent with {apps} app{'s' if apps > 1 else ''}{when}.")
    await asyncio.sleep(CALM_SECONDS)
    agent = r.boat.agent
    assert agent
    sizes, percents = [], []
    for _ in range(WATCHES):
        before = cpu_seconds(agent.pid)
        await asyncio.sleep(WATCH_SECONDS)
        percents.append(100 * (cpu_seconds(agent.pid) - before) / WATCH_SECONDS)
        sizes.append(megabytes(agent.pid))
    name = f"{apps}-app{'s' if apps > 1 else ''}{when}"
    return [
        figure(f"memory.{name}", sizes, imports, unit="MB", aim=f"ours < {under} MB"),
        figure(f"cpu.{name}", percents, [0.0], unit="% of a core", aim="ours < 0.5 %"),
    ]


if __name__ == "__main__":
    asyncio.run(measure())
