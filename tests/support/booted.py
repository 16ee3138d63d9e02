"""A Debian machine with systemd as its process 1, in a container: where ``scripts/install`` can do all that it does.

It has this machine's network (the agent reaches replicas by their addresses), its Docker engine and the log files of
containers, and nothing else of it. Ports and the address pool are free ones; everything that was made is removed at the
end.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from scripts.house import boat as house
from scripts.house.addresses import free_pool, free_port
from scripts.house.engine import Engine
from tests.support.debian import ensure_debian
from tests.support.docker import remove_group, token

IMAGE = "pushboat-test/booted:bookworm"
"""Shared by all test runs on the machine, and left there: it takes a minute to make."""
ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("systemd", "dbus", "python3", "python3-venv", "git", "openssh-client", "curl", "procps", "haproxy", "iptables"),
    *("ca-certificates", "acl"),
)
SOCKET = Path("/var/run/docker.sock")
CGROUPS = Path("/sys/fs/cgroup")
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW")
"""What systemd needs to give its units the mounts and users they ask for, and the firewall unit to make its rules.
Users of a unit's own are set up through /proc, where ProtectProc=invisible hides processes from who may not trace."""
BOOT_SECONDS = 60.0


@dataclass(frozen=True)
class Booted:
    """The machine."""

    name: str
    ssh_port: int
    http_port: int
    pool: IPv4Network

    def run(self, *command: str, stdin: str = "", seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a program on it as root, and return how it ended."""
        words = ["docker", "exec", "--interactive", self.name, *command]
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)

    def must(self, *command: str, stdin: str = "") -> str:
        """Run a program that has to work; return what it printed."""
        done = self.run(*command, stdin=stdin)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``scripts/install`` from the source tree on it."""
        return self.run("/root/pushboat/scripts/install", *options)

    def unit(self, name: str, property: str) -> str:
        """Return what systemd says of a unit."""
        return self.must("systemctl", "show", "--property", property, "--value", name).strip()

    def page(self, host: str) -> house.Answer | None:
        """Return what the proxy answers for `host`, or `None` where nobody does."""
        return house.Boat(Path("/"), "", self.ssh_port, self.http_port, self.pool).http(host)


@contextmanager
def booted(tree: Path) -> Iterator[Booted]:
    """Yield a machine with the source tree `tree` in /root/pushboat, and remove it afterwards."""
    _ensure_image()
    engine = Engine()
    pool = free_pool(engine, prefix=18)
    machine = Booted(f"pushboat-test-{token()}", free_port(), free_port(), pool)
    logs = f"{engine.call('GET', '/info')['DockerRootDir']}/containers"
    command = ["docker", "run", "--detach", "--name", machine.name, "--network", "host", "--cgroupns", "private"]
    command += [word for capability in CAPABILITIES for word in ("--cap-add", capability)]
    command += [
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
        "--env=container=docker",
    ]
    command += ["--volume", f"{logs}:{logs}"]
    command += ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec", "--volume", f"{SOCKET}:{SOCKET}"]
    # Its own part of the hierarchy, made writable from inside: this machine's would be this machine's systemd's.
    command += [IMAGE, "sh", "-c", f"mount -o remount,bind,rw {_systemd_cgroup()} && exec /lib/systemd/systemd"]
    try:
        _run(*command)
        _until_booted(machine)
        machine.must("groupadd", "--gid", str(SOCKET.stat().st_gid), "docker")
        _run("docker", "cp", str(tree), f"{machine.name}:/root/pushboat")
        yield machine
    finally:
        machine.run("systemctl", "stop", "pushboat.service")  # It would bring back what is removed.
        for instance in engine.instances_in(pool) | _noted(machine):
            engine.remove_all(instance)
        machine.run("/opt/pushboat/current/bin/python", "-m", "agent.docker.firewall", "remove", "--pool", str(pool))
        machine.run("setfacl", "-k", logs)
        _run("docker", "rm", "--force", "--volumes", machine.name)
        remove_group("pushboat.slice")


def _noted(machine: Booted) -> set[str]:
    done = machine.run("cat", "/var/lib/pushboat/instance")
    return {done.stdout.strip()} if done.returncode == 0 and done.stdout.strip() else set()


def _systemd_cgroup() -> Path:
    """Return the hierarchy that systemd must be able to write: its own of version 1, or the one of version 2."""
    return CGROUPS if (CGROUPS / "cgroup.controllers").exists() else CGROUPS / "systemd"


def _until_booted(machine: Booted) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while state not in ("running", "degraded"):
        assert time.monotonic() < deadline, f"systemd is still {state or 'silent'}"
        state = machine.run("systemctl", "is-system-running", "--wait").stdout.strip()


def _ensure_image() -> None:
    engine = Engine(seconds=300.0)
    if engine.has_image(IMAGE):
        return
    with tempfile.TemporaryDirectory(prefix="pb-booted-") as folder:
        (Path(folder) / "Dockerfile").write_text(
            f"FROM {ensure_debian()}\n"
            f"RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
            f"{' '.join(PACKAGES)} && rm -rf /var/lib/apt/lists/*\n"
        )
        _run("docker", "build", "--quiet", "--tag", IMAGE, folder)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def clone(target: Path) -> Path:
    """Put a clean clone of this repository, with what is not committed yet, at `target`; return it."""
    _run("git", "clone", "--quiet", str(ROOT), str(target))
    changed = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    if changed:
        subprocess.run(["git", "apply"], cwd=target, input=changed, check=True)
    shutil.rmtree(target / ".git")
    return target
