"""OpenSSH's server as the reference: one of our own on loopback, that lets one key in and is gone afterwards."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import time
from pathlib import Path

from scripts.house import processes
from scripts.house.addresses import LOOPBACK, free_port
from scripts.house.boat import make_key

PAUSE_SECONDS = 0.005


class Sshd:
    """An sshd that runs for the length of a ``with`` block. `options`: lines of sshd_config(5) beside its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: processes.Process | None = None
        self.port = 0

    def __enter__(self) -> Sshd:
        """Start it; it listens when this returns."""
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if not program:
            raise RuntimeError("there is no sshd here, and nothing else does the same work: install openssh-server")
        self._folder.mkdir(exist_ok=True)
        self.port = free_port()
        for name in ("host", "user"):
            if not (self._folder / name).exists():
                make_key(self._folder / name, comment="pushboat-bench")
        config = self._folder / "sshd_config"
        lines = [
            f"Port {self.port}",
            f"ListenAddress {LOOPBACK}",
            f"HostKey {self._folder / 'host'}",
            "PidFile none",
            "StrictModes no",
            f"AuthorizedKeysFile {self._folder / 'user.pub'}",
            "UsePAM no",
            "PasswordAuthentication no",
            "SetEnv SHLVL=2",  # else bash reads the login's .bashrc for each command, whatever that costs here
            *self._options,
        ]
        config.write_text("\n".join(lines) + "\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
        log = self._folder / "sshd.log"
        log.write_text("")
        command = [program, "-D", "-e", "-f", str(config)]
        self._process = processes.spawn(command, log=log, environment=dict(os.environ), folder=self._folder)
        while "Server listening" not in log.read_text():
            if not self._process.is_alive:
                raise RuntimeError(log.read_text())
            time.sleep(PAUSE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        """End it. What it serves ends by itself, or with its client."""
        if self._process:
            processes.end(self._process)

    @property
    def pid(self) -> int:
        """The process that listens, parent of one for each connection."""
        assert self._process
        return self._process.pid

    @property
    def client(self) -> list[str]:
        """The ssh client that it lets in, without a host."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes")
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "none", "-i", str(self._folder / "user"), "-p", str(self.port), *words]

    @property
    def git_ssh_command(self) -> str:
        """The same for git."""
        return shlex.join(self.client)

    def remote(self, repo: Path) -> str:
        """Return the address of a repository behind it."""
        return f"ssh://{getpass.getuser()}@{LOOPBACK}:{self.port}{repo}"
