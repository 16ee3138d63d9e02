"""Another machine beside this one, made of a network namespace: what containers may reach, and the metadata service."""

from __future__ import annotations

import fcntl
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METADATA = "169.254.169.254"
PORT = 7000
"""Where it greets."""
_LOCK = Path(tempfile.gettempdir()) / "pushboat-test-metadata.lock"
"""This machine has one route to that address: tests that run side by side take turns."""


@contextmanager
def neighbour(name: str) -> Iterator[tuple[str, str]]:
    """Give a machine that says hello on port 7000, also as the metadata service, as in a cloud.

    Its address, and this machine's towards it. `name`: of the network namespace and the link, up to 15 characters.
    """
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _made(name) as addresses:
            yield addresses


@contextmanager
def _made(name: str) -> Iterator[tuple[str, str]]:
    link = f"10.211.{random.randrange(256)}"
    address, gateway, inside = f"{link}.2", f"{link}.1", f"/run/netns/{name}"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def ip_inside(*arguments: str) -> None:
        subprocess.run(["nsenter", f"--net={inside}", "ip", *arguments], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("address", "add", f"{gateway}/30", "dev", name)
        ip("link", "set", name, "up")
        ip_inside("address", "add", f"{address}/30", "dev", "eth0")
        ip_inside("link", "set", "eth0", "up")
        ip_inside("route", "add", "default", "via", gateway)
        ip_inside("link", "set", "lo", "up")
        ip_inside("address", "add", f"{METADATA}/32", "dev", "lo")
        ip("route", "add", METADATA, "via", address, "dev", name)
        greeting = ["busybox", "nc", "-ll", "-p", str(PORT), "-e", "busybox", "echo", "hello"]
        server = subprocess.Popen(["nsenter", f"--net={inside}", *greeting])
        try:
            yield address, gateway
        finally:
            server.kill()
            server.wait()
    finally:
        ip("netns", "delete", name)
