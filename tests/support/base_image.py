"""A base image that no registry is needed for: busybox with its programs, imported once."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from agent.docker.engine import Engine

BASE_IMAGE = "pushboat-test/base:1"
"""Shared by all test runs on the machine, and left there: it is 2 MB and takes a second to make."""

_BUSYBOX = Path("/bin/busybox")
"""Debian: ``apt install busybox-static``."""


async def ensure_base_image(engine: Engine) -> str:
    """Import the base image if it is not there; return its name. Repeating is harmless."""
    if await engine.get(f"images/{BASE_IMAGE}/json", into=dict[str, object]) is None:
        repo, _, tag = BASE_IMAGE.rpartition(":")
        root = await asyncio.to_thread(_root_folder)
        params = {"fromSrc": "-", "repo": repo, "tag": tag}
        async with engine.stream("POST", "images/create", params=params, body=_once(root)) as chunks:
            async for _ in chunks:
                pass
    return BASE_IMAGE


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _root_folder() -> bytes:
    programs = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        for name, content in {
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        }.items():
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(content), 0o644
            archive.addfile(file, io.BytesIO(content))
        archive.add(_BUSYBOX, "bin/busybox")
        for program in programs:
            if program != "busybox":
                link = tarfile.TarInfo(f"bin/{program}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
    return buffer.getvalue()
