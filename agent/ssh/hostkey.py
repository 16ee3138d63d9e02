"""The agent's own private keys: one that proves who the server is, one by which root on this machine signs in.

Each is made once and kept: a host key that changes looks like an attack to every client. A key file appears whole or
not at all, readable by its owner alone, and is on disk before it is used.
"""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh
import msgspec

from agent.errors import Misconfigured
from proto.names import Fingerprint

HOST_KEY = "ssh_host_key"
LOCAL_KEY = "local_key"
"""File names in the data folder. ``.pub`` beside each is the public half."""


class ServerKeys(msgspec.Struct, frozen=True):
    """The keys of one data folder."""

    host: asyncssh.SSHKey
    local: asyncssh.SSHKey

    @property
    def fingerprint(self) -> Fingerprint:
        """What people compare at their first connection."""
        return fingerprint_of(self.host)


def open_keys(folder: Path) -> ServerKeys:
    """Return the keys kept in `folder`, made where they are missing. Blocks for some milliseconds.

    Raises:
        Misconfigured: ``key.exposed`` or ``key.unreadable``, a key file cannot be trusted or read.
    """
    return ServerKeys(
        host=_open(folder / HOST_KEY, comment="pushboat host key"),
        local=_open(folder / LOCAL_KEY, comment="pushboat local key"),
    )


def fingerprint_of(key: asyncssh.SSHKey) -> Fingerprint:
    """Return ``SHA256:…`` of the public half, as ``ssh-keygen -l`` prints it."""
    return Fingerprint(key.get_fingerprint("sha256"))


def _open(path: Path, *, comment: str) -> asyncssh.SSHKey:
    try:
        if not path.exists():
            _make(path, comment=comment)
        mode = path.stat().st_mode
        if mode & 0o077:
            raise Misconfigured(
                "key.exposed",
                f"Others than the agent may read {path} (mode {mode & 0o777:04o}).",
                f"If nobody has: chmod 600 {path}. Otherwise delete it; a new key is made at the next start.",
            )
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise Misconfigured(
            "key.unreadable",
            f"The key {path} cannot be read: {error}",
            "Put its backup back, or delete it: a new key is made at the next start.",
        ) from error


def _make(path: Path, *, comment: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    _write(path.with_name(path.name + ".pub"), key.export_public_key("openssh"), mode=0o644)
    _write(path, key.export_private_key("openssh"), mode=0o600)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
