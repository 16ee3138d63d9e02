"""Crowds at the front door: logins, silent connections and pushes at once, beside OpenSSH's sshd doing the same.

Clients are plain ``ssh`` and ``git``, the same for both, on the same machine: their work is in all times. Both speak
the same key exchange and cipher. sshd may have as many connections that have not signed in as the logins need; beside
silent ones it may have what the agent may.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.crowd import Crowd
from bench.measured import Figure, both, figure, report, say
from bench.sides import CIPHER, KEY_EXCHANGE, Ended, Peak, Side, agent, at_once, reference, run
from bench.sshd import Sshd
from tests.support import bombs
from tests.support.rig import Rig, rig

LOGINS = 200
SILENT = 5_000
CROWDS = {"one-source": 0, "500-sources": 500, "5000-sources": 5_000}
"""From how many addresses the silent ones come; 0: from that of the good logins."""
GOOD_LOGINS = 20
GRACE_SECONDS = 20
"""For sshd as for the agent."""
PUSHES, PUSH_MEGABYTES = 50, 10
LARGE_MEGABYTES = 500
BLOB_MEGABYTES = 50
"""Of the files of the large push."""
COMMANDS = 100
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
SAME_WORDS = (f"Ciphers {CIPHER}", f"KexAlgorithms {KEY_EXCHANGE}")
MEGABYTE = 1_000_000
LIMIT_BYTES = 1 << 30
"""Of the agent's largest push, and of the reference's."""
BOMBS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "2-gigabytes-of-zeros": (bombs.push_of_zeros, 2 << 30),
    "million-files": (bombs.push_of_width, 1_000_000),
    "folders-100000-deep": (bombs.push_of_depth, 100_000),
}
"""Each is one push."""


async def measure() -> None:
    """Run it and print the figures."""
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        folder = Path(name)
        async with rig(folder) as r:
            report(await asyncio.to_thread(_all, r, folder))


def _all(r: Rig, folder: Path) -> list[Figure]:
    wanted = set(os.environ.get("BENCH_PARTS", "logins,silent,pushes,large,refused").split(","))
    figures: list[Figure] = []
    with Sshd(folder / "roomy", f"MaxStartups {2 * LOGINS}", *SAME_WORDS) as roomy:
        sides = agent(r), reference(roomy, r, folder)
        if "logins" in wanted:
            figures += _logins(sides)
        if "pushes" in wanted:
            figures += _pushes(sides, folder)
        if "large" in wanted:
            figures += _large(sides, folder)
        if "refused" in wanted:
            figures += _refused(sides)
    if "silent" in wanted:
        capped = ("MaxStartups 100", "PerSourceMaxStartups 10", f"LoginGraceTime {GRACE_SECONDS}", *SAME_WORDS)
        for crowd, sources in CROWDS.items():
            with Sshd(folder / "capped", *capped) as sshd:
                figures += _beside_silence((agent(r), reference(sshd, r, folder)), crowd, sources)
    return figures


def _logins(sides: Sequence[Side]) -> list[Figure]:
    """Measure logins at once, all from one address, and each from its own."""
    figures = []
    sources = {"one-source": ["127.0.0.1"] * LOGINS, "own-sources": [f"127.0.1.{n}" for n in range(1, LOGINS + 1)]}
    for kind, addresses in sources.items():
        last: dict[str, list[float]] = {side.name: [] for side in sides}
        failed = 0
        for _ in range(RUNS):
            for side in sides:
                ended = at_once([side.ssh(source=address) for address in addresses], side.environment)
                lost = [one for one in ended if one.status]
                if side is sides[0]:
                    failed += len(lost)
                last[side.name].append(max(one.seconds for one in ended))
                say(f"{LOGINS} logins, {kind}, {side.name}: {last[side.name][-1]:.2f} s, {len(lost)} failed")
        one = figure(f"logins.{LOGINS}.{kind}", *last.values(), unit="s", aim="ours < 3 s")
        figures.append(_with_failed(one, failed))
    return figures


def _beside_silence(sides: Sequence[Side], kind: str, sources: int) -> list[Figure]:
    """Measure logins beside a crowd that says nothing, and how long and in how much memory it is held."""
    login: list[float] = []
    slowest: list[float] = []
    refused: list[int] = []
    freed: list[float] = []
    memory: list[float] = []
    for side in sides:
        run(side.ssh(), side.environment)
        with Peak(side) as peak:
            began = time.perf_counter()
            with Crowd(side.port, size=SILENT, sources=sources) as crowd:
                say(f"{SILENT} silent, {kind}, {side.name}: knocked in {time.perf_counter() - began:.1f} s")
                good = [run(side.ssh(), side.environment) for _ in range(GOOD_LOGINS)]
                left = crowd.size
                crowd.until_freed(seconds=3 * GRACE_SECONDS)
                freed.append(time.perf_counter() - began)
                if crowd.size:
                    say(f"    {crowd.size} silent connections are left, and count no more")
        served = [one.seconds for one in good if not one.status]
        login.append(statistics.median(served) if served else 0.0)
        slowest.append(max(served, default=0.0))
        refused.append(GOOD_LOGINS - len(served))
        memory.append(peak.megabytes - peak.before)
        say(
            f"    login {login[-1]:.3f} s, slowest {slowest[-1]:.3f} s, {refused[-1]} of {GOOD_LOGINS} refused, "
            f"{left} silent held after them, all freed after {freed[-1]:.1f} s, {memory[-1]:.1f} MB more"
        )
    name = f"silent.{SILENT}.{kind}"
    return [
        both(f"{name}.login", "s", login, "ours < 0.25 s", GOOD_LOGINS, failed=refused[0]),
        both(f"{name}.slowest-login", "s", slowest, "ours < 0.25 s", GOOD_LOGINS),
        both(f"{name}.refused-logins", "logins", refused, "0", GOOD_LOGINS),
        both(f"{name}.freed", "s", freed, f"ours < {GRACE_SECONDS + 5} s", 1),
        both(f"{name}.memory", "MB", memory, "bounded", 1),
    ]


def _pushes(sides: Sequence[Side], folder: Path) -> list[Figure]:
    """Measure pushes at once, each to an app of its own."""
    source = _repository(folder / "medium", files=1, megabytes=PUSH_MEGABYTES)
    seconds: list[float] = []
    memory: list[float] = []
    for side in sides:
        commands = [_push(side.remote(f"push-{number}")) for number in range(PUSHES)]
        with Peak(side) as peak:
            ended = at_once(commands, side.environment, folder=source)
        _must(ended)
        seconds.append(max(one.seconds for one in ended))
        memory.append(peak.megabytes - peak.before)
        say(f"{PUSHES} pushes of {PUSH_MEGABYTES} MB, {side.name}: {seconds[-1]:.2f} s, {memory[-1]:.1f} MB more")
    size = PUSHES * PUSH_MEGABYTES
    name = f"pushes.{PUSHES}x{PUSH_MEGABYTES}MB"
    shutil.rmtree(source)
    return [
        both(f"{name}.time", "s", seconds, "ratio <= 1.5", 1, failed=0),
        both(f"{name}.rate", "MB/s", (size / one for one in seconds), "ratio >= 0.67", 1),
        both(f"{name}.memory", "MB", memory, f"ours < {size // 2} MB", 1),
    ]


def _large(sides: Sequence[Side], folder: Path) -> list[Figure]:
    """Measure a large push alone, and one beside commands."""
    source = _repository(folder / "large", files=LARGE_MEGABYTES // BLOB_MEGABYTES, megabytes=BLOB_MEGABYTES)
    alone: list[float] = []
    beside: list[float] = []
    memory: list[float] = []
    commands: list[list[float]] = []
    for side in sides:
        one = run(_push(side.remote("alone")), side.environment, folder=source)
        _must([one])
        alone.append(one.seconds)
        say(f"{LARGE_MEGABYTES} MB, {side.name}: {one.seconds:.2f} s")
        with Peak(side) as peak:
            push, times = _beside_push(side, source)
        beside.append(push)
        commands.append(times)
        memory.append(peak.megabytes - peak.before)
        say(
            f"    beside commands: {push:.2f} s, {memory[-1]:.1f} MB more; commands: median "
            f"{statistics.median(times) * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms"
        )
    name = f"push.{LARGE_MEGABYTES}MB"
    shutil.rmtree(source)
    slow = [statistics.quantiles(times, n=100, method="inclusive")[98] for times in commands]
    return [
        both(f"{name}.alone", "s", alone, "ratio <= 1.5", 1),
        both(f"{name}.rate", "MB/s", (LARGE_MEGABYTES / one for one in alone), "ratio >= 0.67", 1),
        both(f"{name}.beside-commands", "s", beside, "ratio <= 1.5", 1),
        both(f"{name}.memory", "MB", memory, "ours < 64 MB", 1),
        figure(f"{name}.command", *commands, unit="s", aim="ratio <= 2"),
        both(f"{name}.command-p99", "s", slow, "ratio <= 2", COMMANDS),
    ]


def _beside_push(side: Side, source: Path) -> tuple[float, list[float]]:
    """Run commands one by one while pushes go on; return the seconds of the first push and of each command."""
    pushes: list[Ended] = []
    has_enough = threading.Event()

    def push_on() -> None:
        while not has_enough.is_set():
            pushes.append(run(_push(side.remote(f"beside-{len(pushes)}")), side.environment, folder=source))

    thread = threading.Thread(target=push_on)
    thread.start()
    ended = [run(side.ssh(), side.environment) for _ in range(COMMANDS)]
    has_enough.set()
    thread.join()
    _must([*ended, *pushes])
    return pushes[0].seconds, [one.seconds for one in ended]


def _refused(sides: Sequence[Side]) -> list[Figure]:
    """Measure how long what is too much takes to be refused: bombs, and a push from where it passes the limit."""
    figures = []
    for kind, (make, size) in BOMBS.items():
        sent = make(size)
        figures += _beside(sides, f"refused.{kind}", partial(_bomb, sent=sent, name=kind))
    return figures + _beside(sides, "refused.past-1GiB", _past_limit)


def _beside(sides: Sequence[Side], name: str, attack: Callable[[Side], float]) -> list[Figure]:
    seconds: list[float] = []
    memory: list[float] = []
    for side in sides:
        with Peak(side) as peak:
            seconds.append(attack(side))
        memory.append(peak.megabytes - peak.before)
        say(f"{name}, {side.name}: {seconds[-1]:.2f} s, {memory[-1]:.1f} MB more")
    return [
        both(f"{name}.time", "s", seconds, "ours < 2 s", 1),
        both(f"{name}.memory", "MB", memory, "ours < 64 MB", 1),
    ]


def _bomb(side: Side, *, sent: bytes, name: str) -> float:
    side.remote(name)
    ended = run(side.receive_pack(name), side.environment, stdin=sent)
    say(f"{name}, {side.name}: {'refused' if ended.status or 'ng refs' in ended.output else 'taken'}")
    return ended.seconds


def _past_limit(side: Side) -> float:
    """Send files until the server has had enough; return the seconds from the byte that was too much."""
    side.remote("endless")
    noise = bombs.small(bombs.BLOB, os.urandom(BLOB_MEGABYTES * MEGABYTE), level=0)
    sent = bombs.push(noise[0], [noise] * 2 * (LIMIT_BYTES // len(noise[1])))
    passed = time.perf_counter()
    pipe = subprocess.PIPE
    command, environment = side.receive_pack("endless"), dict(side.environment)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment) as client:
        assert client.stdin and client.stdout
        with suppress(BrokenPipeError):
            client.stdin.write(memoryview(sent)[:LIMIT_BYTES])
            passed = time.perf_counter()
            client.stdin.write(memoryview(sent)[LIMIT_BYTES:])
        with suppress(BrokenPipeError):
            client.stdin.close()
        said = client.stdout.read()
    if b"larger than" not in said and b"maximum allowed size" not in said:
        raise RuntimeError(f"{side.name} said {said[-1_000:]!r}")
    return time.perf_counter() - passed


def _push(remote: str) -> list[str]:
    return ["git", "push", "-q", remote, "HEAD:refs/heads/stored"]


def _must(ended: Sequence[Ended]) -> None:
    for one in ended:
        if one.status:
            raise RuntimeError(f"{one.status}: {one.error}")


def _repository(folder: Path, *, files: int, megabytes: int) -> Path:
    """Return a repository whose commit holds files of noise, packed already, so that a push costs the client little."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    for number in range(files):
        (folder / f"noise-{number}").write_bytes(os.urandom(megabytes * MEGABYTE))
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    for words in (
        ("config", "core.compression", "0"),
        ("config", "pack.window", "0"),
        ("add", "."),
        (*who, "commit", "-q", "-m", "Noise"),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    subprocess.run(["git", "repack", "-a", "-d", "-q"], cwd=folder, check=True)
    return folder


def _with_failed(one: Figure, failed: int) -> Figure:
    return Figure(one.measure, one.unit, one.ours, one.reference, one.aim, one.runs, failed)


if __name__ == "__main__":
    asyncio.run(measure())
