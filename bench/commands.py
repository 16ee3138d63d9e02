"""What a command costs beside a session that only echoes: over a fresh connection and a shared one, 1 app and 300.

And what the client costs: a second ``pushboat`` in a linked folder, beside ssh over a connection that is shared, too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.measured import Figure, figure, report, say
from scripts.house.addresses import LOOPBACK
from scripts.house.boat import ROOT
from tests.support.rig import Rig, rig, small_app

RUNS = 100
MANY = 300
APP = "bench"
COMMANDS = (("apps:list",), ("config:get", APP, "COLOUR"), ("ps:report", APP))

Run = Callable[[Sequence[str]], float]
"""Runs a command line and returns the seconds it took."""


async def measure(runs: int = RUNS) -> None:
    """Run it and print the figures."""
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        async with rig(Path(name)) as r, _echo(r) as port:
            pushed = await r.git_push(r.checkout(APP, small_app()))
            if pushed.status:
                raise RuntimeError(pushed.err)
            await r.must("config:set", "--no-restart", APP, "COLOUR=blue")
            figures = [await asyncio.to_thread(_by_client, r, runs)]
            figures += await asyncio.to_thread(_with_apps, r, 1, port, runs)
            say(f"Creating {MANY - 1} more apps.")
            await _create(r, MANY - 1)
            figures += await asyncio.to_thread(_with_apps, r, MANY, port, runs)
    report(figures)


@asynccontextmanager
async def _echo(r: Rig) -> AsyncIterator[int]:
    """Yield the port of the reference server."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "bench.echo_server", str(r.boat.folder)]
    server = await asyncio.create_subprocess_exec(*command, stdout=pipe, cwd=ROOT)
    assert server.stdout
    try:
        yield int(await server.stdout.readline())
    finally:
        server.terminate()
        await server.wait()


async def _create(r: Rig, count: int) -> None:
    """Create apps, a few at a time, over one connection each."""
    limit = asyncio.Semaphore(4)

    async def create(number: int) -> None:
        async with limit:
            await r.must("apps:create", f"app-{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(create(number))


def _with_apps(r: Rig, apps: int, echo_port: int, runs: int) -> list[Figure]:
    """Measure every command beside the echo, in turns, fresh and shared."""
    figures = []
    for kind in ("fresh", "shared"):
        ours = _client(r, r.ports[0], kind)
        echo = _client(r, echo_port, kind)
        for command in COMMANDS:
            pairs = [(ours(command), echo(("echo",))) for _ in range(runs + 1)][1:]  # the first one warms up
            name = f"{command[0]}.{kind}.{apps}-app{'s' if apps > 1 else ''}"
            mine, reference = zip(*pairs, strict=True)
            figures.append(figure(name, mine, reference, unit="s", aim="ratio <= 1.2"))
            say(f"{name}: {figures[-1].ours * 1000:.1f} ms, echo {figures[-1].reference * 1000:.1f} ms")
    for port in (r.ports[0], echo_port):
        subprocess.run(["ssh", *_shared(r, port), "-O", "exit", LOOPBACK], capture_output=True, check=False)
    return figures


def _by_client(r: Rig, runs: int) -> Figure:
    """Measure the client in a linked folder beside plain ssh, in turns, each over a connection that is open already."""
    folder = r.boat.folder / "linked"
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "remote", "add", "pushboat", r.boat.remote(APP)], check=True)
    # A socket's path is short (unix(7)).
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        ssh = Path(name) / "ssh"
        # Both by this: ssh takes no configuration from $HOME, only from the user's real one.
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{r.boat.ssh_config}" "$@"\n')
        ssh.chmod(0o755)
        paths = {"PATH": f"{name}:{os.environ['PATH']}", "HOME": name, "XDG_RUNTIME_DIR": name, "PYTHONPATH": str(ROOT)}
        environment = {**paths, "PUSHBOAT_KEY": str(r.boat.key)}
        plain = [str(ssh), "-p", str(r.ports[0]), *_shared(r, r.ports[0]), LOOPBACK, "ps:report", APP]

        def once() -> tuple[float, float]:
            client = [sys.executable, "-m", "cli", "ps:report"]
            return _seconds(client, folder=folder, environment=environment), _seconds(plain)

        mine, reference = zip(*[once() for _ in range(runs + 1)][1:], strict=True)  # the first opens the connections
        for path in (*Path(name).glob("pushboat-*"), r.boat.folder / f"cm-{r.ports[0]}"):
            subprocess.run(["ssh", "-S", str(path), "-O", "exit", LOOPBACK], capture_output=True, check=True)
    found = figure("ps:report.client", mine, reference, unit="s", aim="beside the reference")
    say(f"{found.measure}: {found.ours * 1000:.1f} ms, plain ssh {found.reference * 1000:.1f} ms")
    return found


def _shared(r: Rig, port: int) -> list[str]:
    """Return ssh's options for one connection that stays open for further commands."""
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={r.boat.folder}/cm-{port}", "-o", "ControlPersist=60"]


def _client(r: Rig, port: int, kind: str) -> Run:
    """Return what runs one command as the OpenSSH client does, on a new connection or on one that stays open."""
    options = ["-F", str(r.boat.ssh_config), "-o", f"Port={port}", "-o", f"HostKeyAlias=port-{port}"]
    if kind == "shared":
        options += _shared(r, port)

    return lambda words: _seconds(["ssh", *options, LOOPBACK, *words])


def _seconds(command: Sequence[str], *, folder: Path | None = None, environment: dict[str, str] | None = None) -> float:
    """Return how long a command took that has to work."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command}: {done.returncode} {done.stdout}{done.stderr}")
    return seconds


if __name__ == "__main__":
    asyncio.run(measure())
