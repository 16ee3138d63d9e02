"""The few calls of the Docker Engine API that making and cleaning up needs, over its socket. No docker binary.

Everything that is removed here is chosen by a label that one agent alone gives (``com.pushboat.instance``), or by the
address pool that was picked for it because nobody else used it.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

SOCKET = "/var/run/docker.sock"
INSTANCE = "com.pushboat.instance"
KIND = "com.pushboat.kind"
KEPT_BY_BUILDS = "build-kept"
"""The kind of volumes that hold nothing but what builds would make again."""
BUSYBOX = Path("/bin/busybox")


class EngineError(Exception):
    """The engine refused a call, or did not answer."""


class Engine:
    """A Docker engine on this machine."""

    def __init__(self, path: str = SOCKET, *, seconds: float = 60.0) -> None:
        self.path = path
        """Its socket."""
        self._seconds = seconds

    def call(self, method: str, path: str, body: bytes = b"", **query: object) -> Any:
        """Return the decoded answer of one call, or `None` where what it is about is not there (404).

        Raises:
            EngineError: anything but success.
        """
        connection = _UnixConnection(self.path, self._seconds)
        words = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in query.items()}
        try:
            connection.request(
                method, f"{path}?{urlencode(words, doseq=True)}", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        if answer.status == http.HTTPStatus.NOT_FOUND:
            return None
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise EngineError(f"{method} {path}: {answer.status} {text.decode(errors='replace').strip()}")
        return _decoded(text)

    def subnets(self) -> Iterator[IPv4Network]:
        """Yield the IPv4 networks that the engine's bridges use."""
        for network in self.call("GET", "/networks"):
            for part in network["IPAM"]["Config"] or ():
                subnet = ip_network(part["Subnet"]) if part.get("Subnet") else None
                if isinstance(subnet, IPv4Network):
                    yield subnet

    def instances_in(self, pool: IPv4Network) -> set[str]:
        """Return the agents' instance ids that have bridges inside `pool`."""
        return {
            network["Labels"][INSTANCE]
            for network in self.call("GET", "/networks")
            for part in network["IPAM"]["Config"] or ()
            if INSTANCE in (network["Labels"] or {}) and _first_address(part["Subnet"]) in pool
        }

    def containers(self, instance: str) -> list[str]:
        """Return the ids of an agent's containers, running or not."""
        found = self.call("GET", "/containers/json", all=1, filters={"label": [f"{INSTANCE}={instance}"]})
        return [container["Id"] for container in found]

    def remove_all(self, instance: str, *, with_images: bool = True) -> int:
        """Remove what carries an agent's label: containers, networks, what builds kept, images. Return how many."""
        mine = {"label": [f"{INSTANCE}={instance}"]}
        containers = self.containers(instance)
        for container in containers:
            self.call("DELETE", f"/containers/{container}", force=1, v=1)
        networks = [network["Id"] for network in self.call("GET", "/networks", filters=mine)]
        for network in networks:
            self.call("DELETE", f"/networks/{network}")
        volumes = self._kept_by_builds(instance)
        for volume in volumes:
            self.call("DELETE", f"/volumes/{volume}")
        images = self._images(instance) if with_images else set()
        for image in images:
            self.call("DELETE", f"/images/{image}", force=1)
        return len(containers) + len(networks) + len(volumes) + len(images)

    def _kept_by_builds(self, instance: str) -> list[str]:
        mine = {"label": [f"{INSTANCE}={instance}", f"{KIND}={KEPT_BY_BUILDS}"]}
        return [volume["Name"] for volume in self.call("GET", "/volumes", filters=mine)["Volumes"] or ()]

    def _images(self, instance: str) -> set[str]:
        """Return the ids of what an agent built, by label and by the names that it alone gives."""
        own = ({"label": [f"{INSTANCE}={instance}"]}, {"reference": [f"pushboat-{instance}/*"]})
        return {image["Id"] for words in own for image in self.call("GET", "/images/json", filters=words)}

    def has_image(self, tag: str) -> bool:
        """Tell whether the engine holds an image of that name."""
        return self.call("GET", f"/images/{quote(tag)}/json") is not None

    def make_base(self, tag: str, *, labels: Sequence[str] = ()) -> None:
        """Make a base image of Debian's busybox-static: a shell, a web server and 2 MB, without any registry."""
        repository, _, version = tag.rpartition(":")
        changes = ['CMD ["/bin/sh"]', "ENV PATH=/bin", *(f"LABEL {label}" for label in labels)]
        root = busybox_root()
        self.call("POST", "/images/create", root, fromSrc="-", repo=repository, tag=version, changes=changes)


def busybox_root() -> bytes:
    """Return a root file system as a tar: busybox, a link for each of its programs, and what programs expect."""
    programs = subprocess.run([str(BUSYBOX), "--list"], capture_output=True, check=True, text=True).stdout.split()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("var", 0o755), ("proc", 0o755)):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, mode
            archive.addfile(member)
        _add_file(archive, "bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
        _add_file(archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", mode=0o644)
        _add_file(archive, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", mode=0o644)
        for program in set(programs) - {"busybox"}:
            member = tarfile.TarInfo(f"bin/{program}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
    return output.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("engine", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _first_address(subnet: str) -> IPv4Address | IPv6Address:
    return ip_network(subnet).network_address


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return text.decode(errors="replace")  # several documents, one a line: progress
