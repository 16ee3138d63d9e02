"""The reference of ``bench/push``: the same work as a push, done by hand with nothing of Pushboat.

Push to a bare repository through a real sshd, stream ``git archive`` to BuildKit through
the Engine API, create a container, start it, ask it until it answers.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from pathlib import Path

from bench.sshd import Sshd
from scripts.house.engine import Engine

PORT = 5000
PAUSE_SECONDS = 0.005
NAME = "pushboat-bench-by-hand"


class ByHand:
    """A bare repository behind sshd, and one container at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._engine = Engine()
        self._repo = folder / "by-hand.git"
        self._container = ""
        self._sshd = Sshd(folder)

    def __enter__(self) -> ByHand:
        """Make the repository and start sshd."""
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self._repo)], check=True)
        self._sshd.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove all that was made."""
        self._sshd.__exit__()
        self._remove(self._container)
        images = self._engine.call("GET", "/images/json", filters={"label": [NAME]})
        for image in images:
            self._engine.call("DELETE", f"/images/{image['Id']}", force=1)

    def push(self, checkout: Path, *, version: str) -> float:
        """Do all of it for the commit at HEAD; return the seconds until `version` is answered."""
        environment = {**os.environ, "GIT_SSH_COMMAND": self._sshd.git_ssh_command}
        before = self._container
        started = time.perf_counter()
        subprocess.run(
            ["git", "push", "-q", self._sshd.remote(self._repo), "HEAD:main"], cwd=checkout, env=environment, check=True
        )
        archive = subprocess.run(["git", "archive", "main"], cwd=self._repo, capture_output=True, check=True).stdout
        tag = f"{NAME}:{version}"
        self._engine.call("POST", "/build", archive, version=2, t=tag, labels={NAME: "1"})
        address = self._start(tag)
        self._wait(address, version)
        seconds = time.perf_counter() - started
        self._remove(before)
        return seconds

    def _start(self, tag: str) -> str:
        """Create and start a container the way the agent does; return its address."""
        body = {
            "Image": tag,
            "Env": [f"PORT={PORT}"],
            "Labels": {NAME: "1"},
            "HostConfig": {"Init": True, "PidsLimit": 512, "SecurityOpt": ["no-new-privileges"]},
        }
        made = self._engine.call("POST", "/containers/create", json.dumps(body).encode())
        self._container = made["Id"]
        self._engine.call("POST", f"/containers/{self._container}/start")
        found = self._engine.call("GET", f"/containers/{self._container}/json")
        return str(found["NetworkSettings"]["IPAddress"])

    def _wait(self, address: str, version: str) -> None:
        while True:
            connection = http.client.HTTPConnection(address, PORT, timeout=5)
            try:
                connection.request("GET", "/")
                if version.encode() in connection.getresponse().read():
                    return
            except ConnectionRefusedError:
                time.sleep(PAUSE_SECONDS)
            finally:
                connection.close()

    def _remove(self, container: str) -> None:
        if container:
            self._engine.call("DELETE", f"/containers/{container}", force=1, v=1)
