"""A real Pushboat for one test or one bench: its own agent process, folder, ports, address pool and HAProxy.

::

    async with rig(tmp_path) as r:
        app = r.checkout("blog", {"Dockerfile": …})
        pushed = await r.git_push(app)
        assert pushed.status == 0
        assert (await r.http("blog.localhost")).text == "hello\n"

Nothing is shared with other rigs but the machine's Docker engine, and all that was made is removed at the end, also
after a failure or a killed agent.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.docker.labels import APP_NAME, KIND, REPLICA
from scripts.house import boat as house
from scripts.house import processes
from scripts.house.boat import Answer, Boat
from scripts.house.engine import SOCKET, Engine

BASE = "pushboat-test/base:rig"
"""An image with busybox: what the apps of tests are built on, as no registry can be asked."""
ENDED = ("live", "failed", "cancelled", "superseded")
"""Statuses of deploys that have their outcome."""
PAUSE_SECONDS = 0.02
"""Between two looks at something outside this process that tells nobody when it changes."""


@dataclass(frozen=True)
class Done:
    """A program that has ended."""

    status: int
    out: str
    err: str
    raw: bytes = b""
    """What `out` was before it was read as text."""


class Rig:
    """What a test does with its Pushboat. All calls are bounded."""

    def __init__(self, boat: Boat) -> None:
        self.boat = boat

    @property
    def data(self) -> Path:
        """The agent's data folder."""
        return self.boat.data

    @property
    def ports(self) -> tuple[int, int]:
        """Where ssh and HTTP answer, on loopback."""
        return self.boat.ssh_port, self.boat.http_port

    @property
    def log(self) -> str:
        """All that the agent has printed."""
        return self.boat.log.read_text(errors="replace")

    async def run(self, *command: str, stdin: bytes = b"", folder: Path | None = None, seconds: float = 120.0) -> Done:
        """Run a program as a user of this Pushboat would, and return how it ended."""
        process = await self.spawn(*command, folder=folder)
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin), seconds)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Done(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"), out)

    async def spawn(self, *command: str, folder: Path | None = None) -> asyncio.subprocess.Process:
        """Start a program and return it with its three pipes; the caller ends it."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, env=self.boat.git_environment()
        )

    async def ssh(self, *words: str, stdin: bytes = b"", seconds: float = 120.0) -> Done:
        """Ask the agent for something, as ``ssh host WORDS``."""
        return await self.run(*self.boat.ssh_command(words), stdin=stdin, seconds=seconds)

    async def must(self, *words: str, stdin: bytes = b"") -> str:
        """Ask the agent for something that has to work; return what it printed."""
        done = await self.ssh(*words, stdin=stdin)
        assert done.status == 0, f"{words}: {done.status}\n{done.out}{done.err}"
        return done.out

    def checkout(self, name: str, files: Mapping[str, str]) -> Checkout:
        """Return a new work tree with `files` in its first commit, and a remote ``pushboat`` for the app `name`."""
        folder = self.boat.folder / "checkouts" / name
        folder.mkdir(parents=True)
        return Checkout(self, folder, name, dict(files))

    async def git_push(self, checkout: Checkout, *options: str, seconds: float = 180.0) -> Done:
        """Commit what changed and push ``main``, as a user does."""
        await checkout.commit()
        command = ["git", "push", *options, self.boat.remote(checkout.app), "main"]
        return await self.run(*command, folder=checkout.folder, seconds=seconds)

    async def http(self, host: str, path: str = "/", *, method: str = "GET", body: bytes | None = None) -> Answer:
        """Ask the proxy for a page of `host`, on a connection of its own."""
        answer = await asyncio.to_thread(self.boat.http, host, path, method=method, body=body)
        assert answer is not None, "nobody listens for HTTP"
        return answer

    async def page(
        self, host: str, wanted: str, *, path: str = "/", status: int = 200, seconds: float = 30.0
    ) -> Answer:
        """Wait until `host` answers `status` with `wanted` in the page."""
        last: Answer | None = None
        try:
            async with asyncio.timeout(seconds):
                while not (last and last.status == status and wanted in last.text):
                    last = await asyncio.to_thread(self.boat.http, host, path)
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{host} did not answer {wanted!r} within {seconds} s, but {last}") from None
        return last

    async def start_agent(self) -> None:
        """Start the agent where it does not run; return when it answers."""
        await asyncio.to_thread(self.boat.start)

    async def stop_agent(self) -> None:
        """End the agent politely."""
        await asyncio.to_thread(self.boat.stop)

    async def kill_agent(self) -> None:
        """End the agent by SIGKILL."""
        await asyncio.to_thread(self.boat.kill)

    async def restart_agent(self) -> None:
        """End the agent politely and start it again; return when it answers."""
        await self.stop_agent()
        await self.start_agent()

    def folder_clone(self, checkout: Checkout, name: str) -> Checkout:
        """Return a second work tree of the same app at the same commit."""
        folder = checkout.folder.with_name(f"{checkout.folder.name}-{name}")
        shutil.copytree(checkout.folder, folder)
        return Checkout(self, folder, checkout.app, {})

    async def until_deploy(self, app: str, status: str, *, seconds: float = 60.0) -> None:
        """Wait until the newest deploy of `app` has this status."""
        async with asyncio.timeout(seconds):
            while True:
                done = await self.ssh("deploys", app, "--format", "json")
                deploys = json.loads(done.out) if done.status == 0 else []
                if deploys and deploys[0]["status"] == status:
                    return
                await asyncio.sleep(PAUSE_SECONDS)

    async def until_logged(self, app: str, text: str, *, seconds: float = 30.0) -> None:
        """Wait until `app` has logged `text`."""
        async with asyncio.timeout(seconds):
            while text not in (await self.ssh("logs", app, "-n", "1000")).out:
                await asyncio.sleep(PAUSE_SECONDS)

    async def until_in_flight(self, app: str, *, seconds: float = 20.0) -> None:
        """Wait until a replica of `app` holds a connection."""
        async with asyncio.timeout(seconds):
            while True:
                for container in self.containers():
                    done = await self.run("docker", "exec", container, "netstat", "-tn")
                    if "ESTABLISHED" in done.out:
                        return
                await asyncio.sleep(PAUSE_SECONDS)

    async def until_running(self, app: str, *, seconds: float = 30.0) -> None:
        """Wait until a container of the app runs."""
        async with asyncio.timeout(seconds):
            while not await self.replicas(app):
                await asyncio.sleep(PAUSE_SECONDS)

    async def is_tidy(self, *apps: str, seconds: float = 100.0) -> bool:
        """Wait until just the replicas run that these apps (all there are) should have, and no deploy is under way."""
        async with asyncio.timeout(seconds):
            while True:
                rows = 0
                deploys = []
                for app in apps:
                    report = json.loads(await self.must("ps:report", app, "--format", "json"))
                    rows += sum(key.startswith("status-") for key in report)
                    deploys += json.loads(await self.must("deploys", app, "--format", "json"))
                if rows == len(self.containers()) and all(deploy["status"] in ENDED for deploy in deploys):
                    return True
                await asyncio.sleep(PAUSE_SECONDS)

    async def is_at_rest(self) -> bool:
        """Wait until `is_tidy` holds of every app that there is."""
        return await self.is_tidy(*(await self.must("apps:list", "--quiet")).split())

    async def docker(self, *words: str) -> Done:
        """Do something by hand to the engine that this Pushboat uses."""
        return await self.run("docker", "--host", f"unix://{self.boat.engine.path}", *words)

    async def replicas(self, app: str) -> list[str]:
        """Return the ids of the app's replicas that run, by the name that it had when they were made. No one-offs."""
        labels = (f"{APP_NAME}={app}", f"{KIND}={REPLICA}")
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        return (await self.docker("ps", "--quiet", "--no-trunc", *filters)).out.split()

    def proxy_pids(self) -> list[int]:
        """Return the process ids of this Pushboat's HAProxy."""
        return [process.pid for process in processes.naming(str(self.data / "proxy"))]

    def containers(self) -> list[str]:
        """Return the ids of all containers that this agent's instance has, running or not."""
        return [
            container
            for instance in self.boat.engine.instances_in(self.boat.pool)
            for container in self.boat.engine.containers(instance)
        ]


class Checkout:
    """A user's work tree of one app."""

    def __init__(self, rig: Rig, folder: Path, app: str, files: dict[str, str]) -> None:
        self.folder = folder
        self.app = app
        self._rig = rig
        self.write(files)

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, their folders included, to be committed by the next push."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    async def run(self, *command: str, stdin: bytes = b"") -> Done:
        """Run a program in the work tree and return how it ended."""
        return await self._rig.run(*command, stdin=stdin, folder=self.folder)

    async def git(self, *words: str) -> str:
        """Run git in the work tree; return what it printed; it has to work."""
        done = await self.run("git", *words)
        assert done.status == 0, f"git {words}: {done.err}"
        return done.out

    @property
    def remote(self) -> str:
        """The address that the app is pushed to."""
        return self._rig.boat.remote(self.app)

    async def commit(self, message: str = "A change") -> None:
        """Commit all that changed; nothing changed is fine."""
        if not (self.folder / ".git").exists():
            await self.git("init", "-q", "-b", "main")
        await self.git("add", "--all")
        if await self.git("status", "--porcelain"):
            await self.git("commit", "-q", "-m", message)


@asynccontextmanager
async def rig(folder: Path, **tables: Mapping[str, object]) -> AsyncIterator[Rig]:
    """Yield a running Pushboat that lives in `folder`, and remove all of it afterwards.

    `tables`: settings beside the rig's own, one keyword per table: ``rig(tmp_path, http={"keep_alive": 2.0})``.
    """
    boat = await asyncio.to_thread(_launched, folder, tables)
    try:
        yield Rig(boat)
    finally:
        await asyncio.to_thread(boat.remove)


def _launched(folder: Path, tables: Mapping[str, Mapping[str, object]]) -> Boat:
    socket = str(tables.get("engine", {}).get("socket", f"unix://{SOCKET}"))
    engine = Engine(socket.removeprefix("unix://"))
    if not engine.has_image(BASE):
        engine.make_base(BASE)
    boat = Boat.moor(folder / "boat", python=sys.executable)
    # The engine's build cache is everybody's here, and the machine's disk as full as it is.
    disk = {"free_percent": 0, "prunes_build_cache": False, **tables.get("disk", {})}
    boat.settings = {**tables, "disk": disk}
    boat.engine = engine
    try:
        boat.start()
        boat.grant_key("rig")
    except (house.BoatError, OSError):
        boat.remove()
        raise
    return boat


def small_app(version: str = "1") -> dict[str, str]:
    """Return the files of the smallest web app: its page says `version`."""
    return {
        "Dockerfile": f"FROM {BASE}\nCOPY . /www\nEXPOSE 5000\nCMD exec httpd -f -p $PORT -h /www\n",
        "index.html": f"version {version}\n",
    }
