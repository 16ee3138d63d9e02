"""Log lines at full load: stored whole, followed by thousands, and beside an app that floods.

Three measurements, each beside what the engine does by itself in the same run. 50 replicas of 5 apps write together;
the reference is ``docker logs --follow`` of the same containers into files, and the engine with no reader at all. Then
what was stored is compared with ``docker logs``, line by line. 2,000 sessions follow one app; the reference are as many
followers of the engine's own. One app floods while others write now and then, followed by us and at the engine.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from bench import log_outputs
from bench.log_followers import engine_follows, sessions
from bench.log_outputs import Output, Written
from bench.measured import Figure, cpu_seconds, forget_peak, megabytes, report, say
from scripts.house.engine import Engine
from tests.support.rig import BASE, Rig, rig

RATE = int(os.environ.get("BENCH_RATE", "100000"))
"""Lines a second that all replicas write together."""
SECONDS = float(os.environ.get("BENCH_SECONDS", "15"))
APPS = int(os.environ.get("BENCH_APPS", "5"))
REPLICAS = int(os.environ.get("BENCH_REPLICAS", "10"))
"""Of each app."""
FOLLOWERS = int(os.environ.get("BENCH_FOLLOWERS", "2000"))
SESSIONS = 100
"""Of them share one connection."""
LINES = 15
"""That all followers get, one a second."""
FLOOD_RATE = 100_000
"""Lines a second of a flood: 100 MB/s."""
PATIENCE_SECONDS = 90
ENGINE_PID = Path("/var/run/docker.pid")


async def measure() -> None:
    """Run it and print the figures."""
    which = os.environ.get("BENCH_PARTS", ",".join(PARTS)).split(",")
    with tempfile.TemporaryDirectory(prefix="pb-bench-") as name:
        async with rig(Path(name), ssh={"max_sessions": SESSIONS}, build={"concurrency": 2}) as r:
            await _deploy(r)
            with log_outputs.opened(Engine(), process="writer") as outputs:
                for part in which:
                    # Each reported at once: what comes after may be ended from outside.
                    report(await PARTS[part](r, outputs))


async def _deploy(r: Rig) -> None:
    """Let there be apps with a web process that is silent and replicas that do nothing but hold a pipe open."""
    say(f"Deploying {APPS} apps of {REPLICAS} replicas.")
    for number in range(APPS):
        files = {
            "Dockerfile": f"FROM {BASE}\nCOPY . /www\nEXPOSE 5000\n",
            "Procfile": "web: httpd -f -p $PORT -h /www\nwriter: sleep 1000000\n",
            "index.html": f"{number}\n",
        }
        pushed = await r.git_push(r.checkout(f"app-{number}", files))
        if pushed.status:
            raise RuntimeError(pushed.err)
        await r.must("ps:scale", f"app-{number}", f"writer={REPLICAS}")


async def _storing(r: Rig, outputs: Sequence[Output]) -> list[Figure]:
    agent = r.boat.agent
    assert agent
    say(f"{len(outputs)} replicas write {RATE} lines/s for {SECONDS:g} s.")
    forget_peak(agent.pid)
    before, engine_before = cpu_seconds(agent.pid), _engine_cpu()
    writing = asyncio.create_task(asyncio.to_thread(log_outputs.write, outputs, rate=RATE, seconds=SECONDS))
    ages = await _ages(r, outputs, writing)
    written = await writing
    behind = await _until_stored(r, outputs, written) - written.began - written.seconds
    cpu, engine_cpu = cpu_seconds(agent.pid) - before, _engine_cpu() - engine_before
    peak = megabytes(agent.pid, "VmHWM")
    text = f"{written.lines // len(outputs) // 2:010} "
    asked = time.perf_counter()
    await r.must("logs", "app-0", "-n", "1", "-p", "writer.1", "--grep", text)
    searched = time.perf_counter() - asked
    await r.stop_agent()
    bare, bare_cpu = await asyncio.to_thread(_by_engine_alone, outputs, first=written.last + 1)
    docker, docker_behind, docker_cpu = await asyncio.to_thread(_by_docker_logs, r, outputs, first=bare.last + 1)
    began = time.time()
    await r.start_agent()
    caught_up = bare.lines + docker.lines
    catching_up = await _until_stored(r, outputs, docker) - began
    missing, doubled, total = await asyncio.to_thread(log_outputs.differing, outputs, r.data / "logs")
    say(f"The engine alone: {bare.rate:,.0f} lines/s written, {bare_cpu / bare.lines * 1e6:.1f} us of its CPU a line.")
    say(f"{total} lines compared with docker logs: {missing} missing, {doubled} doubled.")
    stored_rate = written.lines / (written.seconds + max(behind, 0))
    docker_rate = docker.lines / (docker.seconds + max(docker_behind, 0))
    ours = engine_cpu + cpu
    return [
        Figure("logs.stored", "lines/s", stored_rate, docker_rate, "100,000", 1, failed=missing + doubled),
        Figure("logs.behind", "s", behind, docker_behind, "beside the reference", 1),
        Figure("logs.newest-stored-age.p99", "s", _p99(ages), 0.0, "ours < 1 s", len(ages)),
        Figure("logs.cpu", "us a line", cpu / written.lines * 1e6, docker_cpu[1] / docker.lines * 1e6, "", 1),
        Figure(
            "logs.cpu-with-engine", "us a line", ours / written.lines * 1e6, sum(docker_cpu) / docker.lines * 1e6, "", 1
        ),
        Figure("logs.memory-peak", "MB", peak, 0.0, "ours < 200 MB", 1),
        Figure("logs.caught-up", "lines/s", caught_up / catching_up, 0.0, "", 1),
        Figure("logs.search", "s", searched, 0.0, "ours < 2 s", 1),
    ]


async def _ages(r: Rig, outputs: Sequence[Output], writing: asyncio.Task[Written]) -> list[float]:
    """Return how old each app's newest stored line was, looked at again and again while they write."""
    ages: list[float] = []
    await asyncio.sleep(1)
    while not writing.done():
        for app in {output.app for output in outputs}:
            rows = log_outputs.newest(r.data / "logs" / app).split(b"\n")
            if len(rows) > 1:
                ages.append(log_outputs.delay(rows[-2].split(b" ", 5)[5].decode(), now=time.time()))
        await asyncio.sleep(0.1)
    return ages


async def _until_stored(r: Rig, outputs: Sequence[Output], written: Written) -> float:
    """Wait until the last line of each output is stored; return when that was seen."""
    missing = {output.replica for output in outputs}
    looks = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while missing:
            await asyncio.sleep(0.02)
            looks += 1
            for app in {output.app for output in outputs if output.replica in missing}:
                folder, is_packed = r.data / "logs" / app, looks % 50 == 0
                missing -= await asyncio.to_thread(log_outputs.ended, folder, written.last, is_packed=is_packed)
    return time.time()


def _by_engine_alone(outputs: Sequence[Output], *, first: int) -> tuple[Written, float]:
    before = _engine_cpu()
    written = log_outputs.write(outputs, rate=RATE, seconds=SECONDS, first=first)
    return written, _engine_cpu() - before


def _by_docker_logs(r: Rig, outputs: Sequence[Output], *, first: int) -> tuple[Written, float, tuple[float, float]]:
    """Follow each container into a file. Return what was written, how far behind, CPU of the engine and of the rest."""
    folder = r.boat.folder / "by-docker"
    folder.mkdir()
    with ExitStack() as stack:
        followers = []
        for output in outputs:
            target = stack.enter_context((folder / output.container).open("wb"))
            command = ["docker", "logs", "--follow", "--timestamps", "--tail", "0", output.container]
            followers.append(subprocess.Popen(command, stdout=target, stderr=subprocess.STDOUT))
        try:
            time.sleep(5)
            before = _engine_cpu(), sum(cpu_seconds(follower.pid) for follower in followers)
            written = log_outputs.write(outputs, rate=RATE, seconds=SECONDS, first=first)
            deadline = time.time() + PATIENCE_SECONDS
            last = f" {written.last:010} ".encode()
            while not all(last in _tail(folder / output.container) for output in outputs):
                if time.time() > deadline:
                    raise TimeoutError("docker logs does not come to the end")
                time.sleep(0.02)
            behind = time.time() - written.began - written.seconds
            after = _engine_cpu(), sum(cpu_seconds(follower.pid) for follower in followers)
        finally:
            for follower in followers:
                follower.kill()
                follower.wait()
    return written, behind, (after[0] - before[0], after[1] - before[1])


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4_096))
        return file.read()


def _engine_cpu() -> float:
    return cpu_seconds(int(ENGINE_PID.read_text()))


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else float("nan")


async def _following(r: Rig, outputs: Sequence[Output]) -> list[Figure]:
    """Let many sessions follow one app that writes a line now and then; beside it as many follows of the engine."""
    app, output = await _first_of(r, 0, outputs)
    agent = r.boat.agent
    assert agent
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    say(f"{FOLLOWERS} sessions follow {app}, {SESSIONS} to a connection.")
    size = megabytes(agent.pid)
    async with sessions(r, app, FOLLOWERS, per_connection=SESSIONS) as ours:
        await asyncio.sleep(2)
        before = cpu_seconds(agent.pid)
        await asyncio.to_thread(log_outputs.write_seldom, [output], every=1.0, count=LINES)
        await asyncio.sleep(2)
        cpu = cpu_seconds(agent.pid) - before
        size = megabytes(agent.pid) - size
    say(f"{FOLLOWERS} clients follow the same container at the engine.")
    async with engine_follows(output.container, FOLLOWERS) as theirs:
        await asyncio.sleep(5)
        await asyncio.to_thread(log_outputs.write_seldom, [output], every=1.0, count=LINES)
        await asyncio.sleep(2)
    lost = LINES * FOLLOWERS - len(ours.seconds)
    name = f"logs.{FOLLOWERS}-followers"
    return [
        Figure(f"{name}.p99", "s", ours.p99(), theirs.p99(), "beside the reference", len(ours.seconds), failed=lost),
        Figure(f"{name}.cpu", "us a line and follower", cpu / LINES / FOLLOWERS * 1e6, 0.0, "", 1),
        Figure(f"{name}.memory", "kB a follower", size * 1000 / FOLLOWERS, 0.0, "", 1),
    ]


async def _flooding(r: Rig, outputs: Sequence[Output]) -> list[Figure]:
    """Let one app write 100 MB/s, and follow the others beside it."""
    agent = r.boat.agent
    assert agent
    loud, loud_output = await _first_of(r, 0, outputs)
    calm = [await _first_of(r, number, outputs) for number in range(1, APPS)]
    say(f"{loud} floods, {len(calm)} others write now and then.")
    forget_peak(agent.pid)
    async with AsyncExitStack() as stack:
        mine = [await stack.enter_async_context(sessions(r, app, 1, per_connection=1)) for app, _ in calm]
        theirs = [await stack.enter_async_context(engine_follows(output.container, 1)) for _, output in calm]
        await asyncio.sleep(1)
        before = cpu_seconds(agent.pid)
        writing = asyncio.create_task(
            asyncio.to_thread(log_outputs.flood, loud_output, rate=FLOOD_RATE, seconds=SECONDS)
        )
        seldom = [output for _, output in calm]
        await asyncio.to_thread(log_outputs.write_seldom, seldom, every=0.1, count=round(SECONDS / 0.1))
        written = await writing
        await asyncio.sleep(3)
        cpu = cpu_seconds(agent.pid) - before
    ours = [seconds for delays in mine for seconds in delays.seconds]
    reference = [seconds for delays in theirs for seconds in delays.seconds]
    peak = megabytes(agent.pid, "VmHWM")
    mega = log_outputs.FLOOD_BYTES / 1e6
    say(f"The engine took {written.rate * mega:.0f} MB/s; the agent used {cpu / written.seconds:.2f} cores.")
    lost = len(calm) * round(SECONDS / 0.1) - len(ours)
    holes, gaps = await asyncio.to_thread(log_outputs.holes, loud_output, r.data / "logs")
    say(f"Of the flood's lines that are kept, {holes:.1%} are missing between others; {gaps} gaps are marked.")
    return [
        Figure("logs.beside-a-flood.p99", "s", _p99(ours), _p99(reference), "ours < 1 s", len(ours), failed=lost),
        Figure("logs.flood.memory-peak", "MB", peak, 0.0, "ours < 250 MB", 1),
        Figure("logs.flood.missing", "of its lines", holes, 0.0, "marked as gaps", gaps),
        Figure("logs.flood.taken-by-engine", "MB/s", written.rate * mega, 0.0, "100", 1),
    ]


async def _first_of(r: Rig, number: int, outputs: Sequence[Output]) -> tuple[str, Output]:
    """Return the name of one of the apps, and one of its outputs."""
    name = f"app-{number}"
    containers = await r.replicas(name)
    return name, next(output for output in outputs if output.container in containers)


PARTS = {"store": _storing, "follow": _following, "flood": _flooding}


if __name__ == "__main__":
    asyncio.run(measure())
