"""A whole Pushboat of one's own on this machine: an agent with its folder, ports, address pool, HAProxy and key.

Everything that belongs to it is found again from its folder alone, by whatever program comes next: the agent by pid and
start time, HAProxy by the folder in its command line, containers, networks and images by the label that this agent
gives. So `remove` takes away what was made, and nothing else, also after a crash of everything.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from scripts.house import processes
from scripts.house.addresses import LOOPBACK, free_pool, free_port
from scripts.house.engine import Engine
from scripts.house.processes import Process
from scripts.house.removal import instances

ROOT = Path(__file__).parent.parent.parent
READY_SECONDS = 30.0
"""From the agent's start until ssh and HTTP answer; it takes about one."""
MAX_DATA_PATH = 64
"""Bytes; what is left of 107 is for ``/proxy/sockets/master.sock`` and what HAProxy appends while it binds."""
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./@+-]*")
PAUSE_SECONDS = 0.02
"""Between two looks at something that tells nobody when it changes."""


class BoatError(Exception):
    """Something did not come up or go away; the text says what, with the end of the agent's log."""


@dataclass
class Boat:
    """One agent and all that is its own. Calls block; repeating any of them is harmless."""

    folder: Path
    python: str
    """Interpreter that has the agent's packages."""
    ssh_port: int
    http_port: int
    pool: IPv4Network
    domain: str = "localhost"
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Further settings by table and key; they win."""
    engine: Engine = field(default_factory=Engine)
    program: str = "agent"
    """The module that is run as the agent; one that wraps it, where a bench looks inside."""

    @classmethod
    def moor(cls, folder: Path, *, python: str, ports: tuple[int, int] = (0, 0), pool: str | None = None) -> Boat:
        """Return the boat that lives in `folder`, or a new one there.

        Ports (ssh, http; 0 for any) and `pool` are preferences: where one is taken, a free one is chosen. What was
        chosen is written down and holds until `remove`.
        """
        plan = folder / "boat.json"
        if plan.exists():
            made = json.loads(plan.read_text())
        else:
            folder.mkdir(parents=True, exist_ok=True)
            network = free_pool(Engine(), preferred=pool, prefix=IPv4Network(pool).prefixlen if pool else 18)
            made = {"ssh": free_port(ports[0]), "http": free_port(ports[1]), "pool": str(network)}
            plan.write_text(json.dumps(made))
        return cls(folder, python, made["ssh"], made["http"], IPv4Network(made["pool"]))

    @property
    def data(self) -> Path:
        """The agent's data folder; by a short alias where its own path is none that HAProxy's sockets can live below.

        The path of a unix socket has 107 bytes (unix(7)), and HAProxy's file has no quoting.
        """
        folder = self.folder / "data"
        return folder if len(bytes(folder)) <= MAX_DATA_PATH and PLAIN_PATH.fullmatch(str(folder)) else self._alias

    @property
    def _alias(self) -> Path:
        return Path("/run") / f"pushboat-{hashlib.sha256(bytes(self.folder)).hexdigest()[:12]}"

    @property
    def log(self) -> Path:
        """What the agent printed."""
        return self.folder / "agent.log"

    @property
    def key(self) -> Path:
        """The private key that `grant_key` lets in."""
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        """The agent's host key, as an ssh client stores it."""
        return self.folder / "known_hosts"

    @property
    def agent(self) -> Process | None:
        """The running agent, or `None`."""
        return processes.load(self.folder / "agent.process")

    def start(self) -> None:
        """Start the agent where it does not run, and return when ssh and HTTP answer.

        Raises:
            BoatError: it ended instead, or took too long.
        """
        if self.agent is None:
            self._launch()
        self._await("ssh", lambda: self.agent is not None and processes.listens(self.agent, self.ssh_port))
        self._await("HTTP", lambda: self.http("ready.invalid") is not None)

    def _launch(self) -> None:
        if self.data == self._alias and not self._alias.is_symlink():
            (self.folder / "data").mkdir(mode=0o700, exist_ok=True)
            self._alias.symlink_to(self.folder / "data")
        command = [self.python, "-m", self.program, "run"]
        agent = processes.spawn(command, log=self.log, environment=self._environment(), folder=ROOT)
        agent.save(self.folder / "agent.process")

    def _environment(self) -> dict[str, str]:
        """Return this process's environment, but with the settings of this boat and no others."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PUSHBOAT_")}
        return {**environment, "PUSHBOAT_CONFIG": str(self.write_settings())}

    def check(self) -> subprocess.CompletedProcess[str]:
        """Ask ``pushboat-agent check`` about what is stored, and return its answer."""
        command = [self.python, "-m", "agent", "check"]
        return subprocess.run(command, cwd=ROOT, env=self._environment(), capture_output=True, text=True, check=False)

    def write_settings(self) -> Path:
        """Write the agent's settings file and return where."""
        tables: dict[str, dict[str, object]] = {
            "data": {"folder": str(self.data)},
            "ssh": {"host": LOOPBACK, "port": self.ssh_port},
            "http": {"binds": [f"{LOOPBACK}:{self.http_port}"], "is_supervised": True},
            "domains": {"default": self.domain},
            "network": {"pool": str(self.pool)},
        }
        for table, values in self.settings.items():
            tables.setdefault(table, {}).update(values)
        # JSON's strings, numbers, booleans and lists are TOML's as well.
        blocks = [
            "\n".join([f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
            for table, values in tables.items()
        ]
        path = self.folder / "pushboat.toml"
        path.write_text("\n\n".join(blocks) + "\n")
        return path

    def _await(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_so():
            if self.agent is None:
                raise BoatError(f"The agent ended before {what} answered.\n{self.end_of_log()}")
            if time.monotonic() > deadline:
                raise BoatError(f"{what} did not answer within {READY_SECONDS:.0f} s.\n{self.end_of_log()}")
            time.sleep(PAUSE_SECONDS)

    def end_of_log(self, lines: int = 30) -> str:
        """Return the last lines that the agent printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def stop(self) -> None:
        """End the agent politely. HAProxy and the apps go on."""
        if agent := self.agent:
            processes.end(agent, seconds=30)

    def kill(self) -> None:
        """End the agent by SIGKILL, as a crash would. HAProxy and the apps go on."""
        if agent := self.agent:
            processes.kill(agent)

    def grant_key(self, name: str) -> None:
        """Make a key pair and let it in under `name`, through the agent, by root's local key."""
        if not self.key.exists():
            make_key(self.key, comment=name)
        if self.ssh("version").returncode == 0:
            return
        public = self.key.with_suffix(".pub").read_bytes()
        added = self.ssh("ssh-keys:add", name, key=self.data / "local_key", stdin=public)
        if added.returncode:
            said = (added.stderr + added.stdout).decode(errors="replace")
            raise BoatError(f"The key was not accepted: {said}\n{self.end_of_log()}")

    @property
    def ssh_config(self) -> Path:
        """A configuration with which plain ssh and git reach this agent: ``ssh -F FILE pushboat apps:list``."""
        path = self.folder / "ssh_config"
        if not path.exists():
            path.write_text(self._ssh_config_text())
        return path

    def _ssh_config_text(self) -> str:
        words = {
            "User": "pushboat",
            "Port": self.ssh_port,
            "IdentityFile": f'"{self.key}"',
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "accept-new",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        everywhere = "".join(f"    {name} {value}\n" for name, value in words.items())
        return f"Host pushboat\n    HostName {LOOPBACK}\nHost *\n{everywhere}"

    def ssh_command(self, words: Sequence[str], key: Path | None = None) -> list[str]:
        """Return the command line that asks the agent for something."""
        other = ["-o", f"IdentityFile={key}"] if key else []
        return ["ssh", "-F", str(self.ssh_config), *other, "pushboat", *words]

    def ssh(
        self, *words: str, key: Path | None = None, stdin: bytes = b"", seconds: float = 120.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Ask the agent for something and return its answer, whatever that is."""
        return subprocess.run(
            self.ssh_command(words, key), input=stdin, capture_output=True, timeout=seconds, check=False
        )

    @property
    def git_ssh_command(self) -> str:
        """The ssh that git is to use, as ``core.sshCommand`` wants it."""
        return shlex.join(["ssh", "-F", str(self.ssh_config)])

    def git_environment(self) -> dict[str, str]:
        """Return the environment in which plain git reaches the agent and depends on nothing of this machine's."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": self.git_ssh_command,
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.com",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.com",
        }

    def remote(self, app: str) -> str:
        """Return the address that git pushes `app` to."""
        return f"ssh://pushboat@{LOOPBACK}:{self.ssh_port}/{app}"

    def http(
        self, host: str, path: str = "/", *, method: str = "GET", body: bytes | None = None, seconds: float = 10.0
    ) -> Answer | None:
        """Ask the proxy, on a connection of its own; return `None` where nobody listens."""
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=seconds)
        try:
            connection.request(method, path, body, {"Host": host, "Connection": "close"})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected):
            return None
        finally:
            connection.close()

    def firewall(self, action: str) -> None:
        """Apply, check or remove the rules that keep this boat's containers from this machine. Needs root.

        What its settings have listen at more than loopback stays open: nothing, unless `settings` says so.

        Raises:
            BoatError: iptables refused.
        """
        command = [self.python, "-m", "agent.docker.firewall", action]
        if action == "apply":
            (self.folder / "firewall").touch()  # Before it is so: what is half applied has to be removed as well.
        done = subprocess.run(command, cwd=ROOT, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BoatError(f"Firewall: {done.stderr.strip() or done.stdout.strip()}")

    def remove(self) -> list[str]:
        """Stop and remove all that is this boat's, its folder included; return what that was, for people."""
        removed = []
        if self.agent:
            self.stop()
            removed.append("agent")
        proxies = processes.naming(f"{self.data}/", programs=("haproxy",))
        # An agent that was killed leaves those of its gits that were at work.
        for process in [*proxies, *processes.naming(f"{self.data}/", programs=("git",))]:
            processes.end(process, seconds=5)
        if proxies:
            removed.append("HAProxy")
        if (self.folder / "firewall").exists():
            self.firewall("remove")
            removed.append("firewall rules")
        for instance in instances(self.engine, data=self.data, pool=self.pool):
            if count := self.engine.remove_all(instance):
                removed.append(f"{count} containers, networks and images")
        self._alias.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        return removed


@dataclass(frozen=True)
class Answer:
    """What an HTTP request was answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


def make_key(path: Path, *, comment: str) -> None:
    """Make an ed25519 key pair without a passphrase at `path` and `path`.pub."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
