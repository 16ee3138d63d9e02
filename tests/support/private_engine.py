"""A Docker engine that belongs to one test module, to be restarted, killed and frozen without anybody else noticing.

It has its own data, its own containerd and its own socket, and leaves the machine's firewall alone. Containers reach
nothing outside, and this machine reaches them, which is all that is needed here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scripts.house import processes
from scripts.house.addresses import free_pool
from scripts.house.engine import Engine, EngineError
from scripts.house.processes import Process

START_SECONDS = 30.0
"""Until its first answer. It takes about half a second."""
STOP_SECONDS = 40.0
"""It gives its containers 10 s to end."""
PAUSE_SECONDS = 0.02


class PrivateEngine:
    """A dockerd of one's own in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Process | None = None
        self.bridge = f"pbt{secrets.token_hex(4)}"
        """Its default bridge, on which build steps run."""

    @property
    def path(self) -> str:
        """Where it answers."""
        return str(self._folder / "d.sock")

    @property
    def socket(self) -> str:
        """The same, as the settings and the docker command want it."""
        return f"unix://{self.path}"

    async def start(self) -> None:
        """Start it, and return when it answers."""
        folder = self._folder
        options = {
            "host": self.socket,
            "data-root": folder / "data",
            "exec-root": folder / "exec",
            "pidfile": folder / "pid",
            # Not `none`: a dockerd without a default bridge removes docker0, which is another engine's.
            "bridge": self.bridge,
            "iptables": "false",
        }
        await asyncio.to_thread(self._make_bridge)
        command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        self._process = processes.spawn(command, log=folder / "log", environment=os.environ, folder=folder)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await asyncio.to_thread(self._answers):
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"dockerd does not answer:\n{(folder / 'log').read_text()[-4_000:]}") from None

    async def stop(self) -> None:
        """End it politely: it ends its containers too, and will start again those that it shall."""
        if self._process:
            await asyncio.to_thread(processes.end, self._process, seconds=STOP_SECONDS)

    async def kill(self) -> None:
        """End it by SIGKILL. Its containers go on until it is back."""
        if self._process:
            await asyncio.to_thread(processes.kill, self._process)
            # Its containerd dies with it. Where process 1 reaps nobody, the next dockerd takes the zombie for alive.
            (self._folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        """Make it hang: it accepts connections, and answers none."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process and self._process.is_alive:
            os.kill(self._process.pid, signal.SIGCONT)

    async def remove(self) -> None:
        """End it and all that it has started, and take back its mounts and bridges; its folder is the caller's."""
        try:
            self.thaw()
            if not await asyncio.to_thread(self._answers):
                await self.start()
            await asyncio.to_thread(self._empty)
            await self.stop()
        finally:
            await self._take_back()

    async def _take_back(self) -> None:
        for left in processes.naming(str(self._folder)):
            await asyncio.to_thread(processes.kill, left)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (point := line.split()[1]).startswith(f"{self._folder}/"):
                await asyncio.to_thread(subprocess.run, ["umount", "--lazy", point], check=True)
        await asyncio.to_thread(subprocess.run, ["ip", "link", "del", self.bridge], check=True)

    def _make_bridge(self) -> None:
        if (Path("/sys/class/net") / self.bridge).exists():
            return
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        address = free_pool(Engine(), prefix=24)[1]
        subprocess.run(["ip", "addr", "add", f"{address}/24", "dev", self.bridge], check=True)

    def _empty(self) -> None:
        engine = Engine(self.path)
        for container in engine.call("GET", "/containers/json", all=1):
            engine.call("DELETE", f"/containers/{container['Id']}", force=1)
        for network in engine.call("GET", "/networks", filters={"type": ["custom"]}):
            engine.call("DELETE", f"/networks/{network['Id']}")

    def _answers(self) -> bool:
        try:
            Engine(self.path, seconds=2.0).call("GET", "/_ping")
        except EngineError:
            return False
        return True


@asynccontextmanager
async def short_lived_engine() -> AsyncIterator[PrivateEngine]:
    """Yield a running engine in a folder of its own with a short name: its sockets lie deep, and have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pbe-") as name:
        async with private_engine(Path(name)) as engine:
            yield engine


@asynccontextmanager
async def private_engine(folder: Path) -> AsyncIterator[PrivateEngine]:
    """Yield a running engine that lives in `folder`, whose name has to be short; nothing of it is left afterwards."""
    engine = PrivateEngine(folder)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.remove()
