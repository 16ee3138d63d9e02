"""A corner of the machine's real Docker engine for one test: an instance label, an address pool and a tiny image."""

from __future__ import annotations

import asyncio
import io
import random
import secrets
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from agent.docker import labels
from agent.docker.containers import Containers
from agent.docker.engine import DEFAULT_SOCKET, Engine
from agent.ports.addresses import Bridges, text
from agent.ports.scheduler import OneOff, ReplicaWish, TaskWish
from proto.names import AppId, ProcessType, ReplicaId, TaskId

PROGRAMS = "sh cat echo env head httpd id kill ls nc ping printf seq sleep stty test touch wget yes".split()

POLL_SECONDS = 0.02
"""Between two looks at what a real container has come to."""


def token(prefix: str = "") -> str:
    """Return `prefix` and random characters, 12 in all."""
    return (prefix + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(12)))[:12]


async def until(claim: Callable[[], Awaitable[Any]], *, seconds: float = 20.0) -> Any:
    """Return the first true answer of `claim`; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not (answer := await claim()):
            await asyncio.sleep(POLL_SECONDS)
    return answer


def remove_group(name: str) -> None:
    """Remove a control group of that name that an engine with its driver ``cgroupfs`` made and left, if it is empty."""
    for folder in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        with suppress(OSError):  # It is in use, and somebody else's.
            folder.rmdir()


def busybox_tar() -> bytes:
    """Return the root file system of the image: /bin with busybox under the names of `PROGRAMS`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for folder in ("bin", "tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(Path("/bin/busybox"), "bin/busybox")
        for program in PROGRAMS:
            entry = tarfile.TarInfo(f"bin/{program}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return data.getvalue()


class Corner:
    """What a test does with its corner of the engine."""

    def __init__(self, engine: Engine, *, bridges: Bridges) -> None:
        self.engine = engine
        self.bridges = bridges
        self.containers = Containers(engine)
        self.image = ""
        self.app = AppId(token("a"))
        self._numbers = iter(range(1, 1_000))

    async def import_image(self, *changes: str) -> str:
        """Make an image of `busybox_tar` with Dockerfile instructions on top, and return its id."""
        tag = token("t")
        repository = f"pushboat-{self.engine.instance}/{token('a')}"
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", change) for change in changes)]
        async with self.engine.stream("POST", f"images/create?{urlencode(query)}", body=busybox_tar()) as chunks:
            answer = b"".join([chunk async for chunk in chunks])
        return str(msgspec.json.decode(answer.strip().rpartition(b"\n")[2])["status"])

    def wish(self, *command: str, **changes: Any) -> ReplicaWish:
        """Return a wish for a replica of its own that runs `command` (default: for ever)."""
        number = next(self._numbers)
        fields: dict[str, Any] = {
            "app": self.app,
            "app_name": f"blog-{self.engine.instance}",
            "process": ProcessType("web"),
            "release": 7,
            "image": self.image,
            "command": command or ("sleep", "1000"),
            "env": {"PORT": "5000"},
            "replica": ReplicaId(token("r")),
            "number": number,
            "bridge": 0,
            "address": text(self.bridges.addresses(0)[0] + number),
            "fingerprint": "f1",
            "stop_seconds": 1.0,
        }
        return ReplicaWish(**(fields | changes))

    def one_off(self, *command: str, **changes: Any) -> OneOff:
        """Return a one-off that runs `command`."""
        fields: dict[str, Any] = {
            "app": self.app,
            "app_name": f"blog-{self.engine.instance}",
            "process": ProcessType("run"),
            "release": 7,
            "image": self.image,
            "command": command,
            "env": {},
            "name": f"blog-{self.engine.instance}.run.{token()}",
            "entry": token("e"),
        }
        return OneOff(**(fields | changes))

    def task(self, *command: str, **changes: Any) -> TaskWish:
        """Return a task that runs `command`."""
        fields: dict[str, Any] = {
            "app": self.app,
            "app_name": f"blog-{self.engine.instance}",
            "process": ProcessType("release"),
            "release": 7,
            "image": self.image,
            "command": command,
            "env": {},
            "task": TaskId(ReplicaId(token("t"))),
            "stop_seconds": 1.0,
        }
        return TaskWish(**(fields | changes))

    async def kill(self, replica: ReplicaId, signal: str = "KILL") -> None:
        """Send a signal to a replica as `docker kill` does."""
        for row in await self.containers.find({labels.REPLICA_ID: replica}):
            await self.engine.json("POST", f"containers/{row.id}/kill", params={"signal": signal})

    async def clean(self) -> None:
        """Remove all that carries the corner's label or tags."""
        for row in await self.containers.find({}):
            await self.containers.remove(row.id)
        mine = {"filters": labels.filters({labels.INSTANCE: self.engine.instance})}
        for network in await self.engine.json("GET", "networks", params=mine):
            await self.engine.json("DELETE", f"networks/{network['Id']}")
        wanted = msgspec.json.encode({"reference": [f"pushboat-{self.engine.instance}/*"]}).decode()
        for image in await self.engine.json("GET", "images/json", params={"filters": wanted}):
            await self.engine.json("DELETE", f"images/{image['Id']}", params={"force": True})


@asynccontextmanager
async def corner(socket: str = DEFAULT_SOCKET) -> AsyncIterator[Corner]:
    """Give a corner of the engine, with its image; nothing is left of it afterwards."""
    instance = token("t")
    # Any /20 of 10.214.0.0 to 10.249.255.255: tests run side by side, and beside a real agent's 10.213.0.0/16.
    pool = f"10.{random.randrange(214, 250)}.{random.randrange(16) * 16}.0/20"
    async with Engine.open(socket, instance=instance) as engine:
        made = Corner(engine, bridges=Bridges(pool))
        try:
            made.image = await made.import_image()
            yield made
        finally:
            await made.clean()
