"""What an idle agent holds and burns, with 1 app and with 300 running, beside a Python that imports its packages."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from bench.measured import Figure, cpu_seconds, megabytes, report, say
from tests.support.rig import BASE, Rig, rig, small_app

MANY = int(os.environ.get("BENCH_APPS", "300"))
CALM_SECONDS = 45
"""Before measuring: what a start or a deploy leaves to do is done by then."""
WATCH_SECONDS = 60
"""Long enough to see a survey, which comes every 30 s."""
IMPORTS = "import aiodocker, aiosqlite, asyncssh, cryptography, msgspec, structlog, uvloop"


async def measure() -> None:
    """Run it and print the figures."""
    imports = await _importing()
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


async def _idle(r: Rig, apps: int, imports: float, *, under: int, when: str = "") -> list[Figure]:
    """Let the agent come to rest, then look at it for a while."""
    say(f"Watching an idle agent with {apps} app{'s' if apps > 1 else ''}{when}.")
    await asyncio.sleep(CALM_SECONDS)
    agent = r.boat.agent
    assert agent
    before = cpu_seconds(agent.pid)
    await asyncio.sleep(WATCH_SECONDS)
    percent = 100 * (cpu_seconds(agent.pid) - before) / WATCH_SECONDS
    name = f"{apps}-app{'s' if apps > 1 else ''}{when}"
    return [
        Figure(f"memory.{name}", "MB", megabytes(agent.pid), imports, f"ours < {under} MB", 1),
        Figure(f"cpu.{name}", "% of a core", percent, 0.0, "ours < 0.5 %", 1),
    ]


if __name__ == "__main__":
    asyncio.run(measure())
