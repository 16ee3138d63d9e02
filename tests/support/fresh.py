"""A Debian 12 on which nothing is installed but what every server has, git, and systemd as process 1.

A container with the rights of a machine, its own network and its own disk for Docker: what is installed in it, Docker
included, runs in it and is gone with it.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import ensure_debian
from tests.support.docker import token

HAS = ("systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates", "git")
"""What a person has who got as far as cloning the repository."""
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW")
"""What systemd, dockerd and iptables need. Not all there are: a virtual machine itself may lack some."""
CONFINEMENTS = ("seccomp", "apparmor", "systempaths")
BOOT = (
    "mount -o remount,rw /sys"
    " && for at in $(findmnt -nro TARGET -R /sys/fs/cgroup); do mount -o remount,bind,rw $at; done"
    " && exec /lib/systemd/systemd"
)
BOOT_SECONDS = 60.0
TREE = "/root/pushboat"


@dataclass(frozen=True)
class Fresh:
    """The machine."""

    name: str

    def run(self, *command: str, folder: str = TREE, seconds: float = 500.0) -> subprocess.CompletedProcess[str]:
        """Run a program on it as root, and return how it ended."""
        words = ["docker", "exec", "--workdir", folder, "--env", "HOME=/root", self.name, *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)

    def must(self, *command: str, folder: str = TREE) -> str:
        """Run a program that has to work; return what it printed."""
        done = self.run(*command, folder=folder)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def programs(self) -> set[str]:
        """Return the names of the programs that run, without the ones that only came to look."""
        return set(self.must("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null || true").split()) - {"sh", "cat"}

    def docker(self) -> dict[str, set[str]]:
        """Return what is in its Docker: containers, networks, images, volumes, by id or name."""
        asked = {
            "containers": ("ps", "--all", "--quiet"),
            "networks": ("network", "ls", "--quiet"),
            "images": ("images", "--all", "--quiet"),
            "volumes": ("volume", "ls", "--quiet"),
        }
        return {kind: set(self.must("docker", *words).split()) for kind, words in asked.items()}

    def rules(self) -> set[str]:
        """Return its firewall rules."""
        return set(self.must("iptables", "-S").splitlines())

    def files(self) -> set[str]:
        """Return what is in the source tree, ignored files included."""
        return set(self.must("git", "status", "--porcelain", "--ignored").splitlines())


@contextmanager
def fresh(tree: Path) -> Iterator[Fresh]:
    """Yield a machine with a clone of the repository `tree` in /root/pushboat, and remove it afterwards."""
    image = _image()
    machine = Fresh(f"pushboat-test-fresh-{token()}")
    command = ["docker", "run", "--detach", "--name", machine.name, "--cgroupns", "private"]
    command += [word for capability in CAPABILITIES for word in ("--cap-add", capability)]
    command += [word for what in CONFINEMENTS for word in ("--security-opt", f"{what}=unconfined")]
    command += ["--device-cgroup-rule", "a *:* rwm", "--volume", "/var/lib/docker"]
    command += ["--env=container=docker", "--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec"]
    try:
        _run(*command, image, "sh", "-c", BOOT)
        _until_booted(machine)
        _put(machine, tree)
        yield machine
    finally:
        _run("docker", "rm", "--force", "--volumes", machine.name)


def _image() -> str:
    """Make the image if it is not there; return its name."""
    name = "pushboat-test/fresh:bookworm"
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode != 0:
        lines = [f"FROM {ensure_debian()}", f"RUN apt-get update && apt-get install -y {' '.join(HAS)}"]
        # A fresh machine's lists are empty; what starts here by itself would in a container wait for a terminal.
        lines.append("RUN rm -rf /var/lib/apt/lists/* && systemctl mask console-getty.service getty.target")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            text = "\n".join(lines).encode()
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        done = subprocess.run(
            ["docker", "build", "-t", name, "-"], input=packed.getvalue(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return name


def _put(machine: Fresh, tree: Path) -> None:
    """Give it what a person has cloned, and how this machine's pip is told to find packages."""
    _run("docker", "cp", str(tree), f"{machine.name}:{TREE}")
    machine.must("chown", "-R", "root:root", TREE, folder="/")
    if (config := Path("/etc/pip.conf")).exists():
        _run("docker", "cp", str(config), f"{machine.name}:/etc/pip.conf")


def _until_booted(machine: Fresh) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while state not in ("running", "degraded"):
        assert time.monotonic() < deadline, f"systemd is still {state or 'silent'}"
        state = machine.run("systemctl", "is-system-running", "--wait", folder="/").stdout.strip()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
