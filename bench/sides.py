"""The two that ``bench/ssh`` compares, the agent and an sshd with ``git receive-pack`` behind it, and their clients."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.sshd import Sshd
from scripts.house.addresses import LOOPBACK
from tests.support.rig import Rig

CIPHER = "aes128-gcm@openssh.com"
KEY_EXCHANGE = "curve25519-sha256"
"""Of both; with sshd the client would choose chacha20 and sntrup761, which the agent does not offer and which take
several times as long."""
_SAME_WORDS = ("-c", CIPHER, "-o", f"KexAlgorithms={KEY_EXCHANGE}")
SAME_AS_OURS = {
    "receive.fsckObjects": "true",
    "receive.fsck.badFilemode": "error",
    "receive.autogc": "false",
    "receive.unpackLimit": "1",
    "receive.maxInputSize": str(1 << 30),
    "gc.auto": "0",
    "core.fsync": "objects,derived-metadata,reference",
    "core.bigFileThreshold": "16m",
}
"""How the agent runs git, so that both do the same work: objects are checked and synced."""
PATIENCE_SECONDS = 200.0
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Side:
    """A server, and how clients reach it."""

    name: str
    client: Sequence[str]
    """The ssh client with its options, without a host."""
    port: int
    pid: int
    command: str
    """The usual one: a list of apps, or nothing at all."""
    remote: Callable[[str], str]
    """Makes an app or a repository, and returns the address that it is pushed to."""
    path: Callable[[str], str]
    """Returns what git calls the app or repository on the server."""
    environment: Mapping[str, str]

    def receive_pack(self, name: str) -> list[str]:
        """Return a command line that takes a push on its standard input."""
        return [*self.client, LOOPBACK, f"git-receive-pack '{self.path(name)}'"]

    def ssh(self, *, source: str = LOOPBACK) -> list[str]:
        """Return a command line that runs the usual command, from one of loopback's addresses."""
        return [*self.client, "-b", source, LOOPBACK, self.command]


@dataclass(frozen=True)
class Ended:
    """A client that has ended."""

    seconds: float
    status: int
    error: str
    output: str = ""


def agent(r: Rig) -> Side:
    """Return the agent of a rig. What is pushed to it goes to a branch that does not deploy."""
    assert r.boat.agent
    client = [
        "ssh",
        "-F",
        str(r.boat.ssh_config),
        "-p",
        str(r.ports[0]),
        "-c",
        CIPHER,
        "-o",
        f"KexAlgorithms={KEY_EXCHANGE}",
    ]

    def remote(app: str) -> str:
        made = [r.boat.ssh("apps:create", app), r.boat.ssh("git:set", app, "deploy-branch", "main")]
        if any(done.returncode for done in made):
            raise RuntimeError(str(made))
        return r.boat.remote(app)

    return Side("agent", client, r.ports[0], r.boat.agent.pid, "apps:list", remote, str, r.boat.git_environment())


def reference(sshd: Sshd, r: Rig, folder: Path) -> Side:
    """Return an sshd with repositories in `folder`."""

    def path(name: str) -> str:
        return str(folder / f"{name}.git")

    def remote(name: str) -> str:
        repo = Path(path(name))
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repo)], check=True)
        for key, value in SAME_AS_OURS.items():
            subprocess.run(["git", "config", key, value], cwd=repo, check=True)
        return sshd.remote(repo)

    environment = {**r.boat.git_environment(), "GIT_SSH_COMMAND": sshd.git_ssh_command}
    return Side("sshd", sshd.client, sshd.port, sshd.pid, "true", remote, path, environment)


def run(
    command: Sequence[str], environment: Mapping[str, str], *, folder: Path | None = None, stdin: bytes = b""
) -> Ended:
    """Run a client to its end."""
    started = time.perf_counter()
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        env=dict(environment),
        cwd=folder,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    seconds = time.perf_counter() - started
    return Ended(
        seconds, done.returncode, *(said.decode(errors="replace").strip() for said in (done.stderr, done.stdout))
    )


def at_once(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str], *, folder: Path | None = None
) -> list[Ended]:
    """Run clients side by side. Their seconds count from when the first one was started."""
    with ThreadPoolExecutor(len(commands)) as threads:
        started = time.perf_counter()

        def timed(command: Sequence[str]) -> Ended:
            ended = run(command, environment, folder=folder)
            return Ended(time.perf_counter() - started, ended.status, ended.error)

        return list(threads.map(timed, commands))


class Peak:
    """The most memory that a server had within a ``with`` block, its git left out: a number for `megabytes`.

    Each page counts once, however many processes share it: Pss of smaps_rollup, proc(5).
    """

    def __init__(self, side: Side) -> None:
        self._pid = side.pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = _megabytes(side.pid)
        self.megabytes = self.before

    def __enter__(self) -> Peak:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.megabytes = max(self.megabytes, _megabytes(self._pid))


def _megabytes(root: int) -> float:
    name = _name(root)
    kilobytes, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError, StopIteration):  # it has ended meanwhile
            if _name(pid) == name:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                children = Path(f"/proc/{pid}/task").glob("*/children")
                waiting += [int(child) for path in children for child in path.read_text().split()]
    return kilobytes / 1000


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
