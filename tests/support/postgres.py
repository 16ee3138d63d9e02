"""A PostgreSQL beside the apps, as a company has one: in a container, from Debian's packages."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.debian import DEBIAN
from tests.support.docker import token
from tests.support.rig import PAUSE_SECONDS, Rig

IMAGE = "pushboat-test/postgres:bookworm"
"""Left on the machine, like the Debian that it is made of."""
DOCKERFILE = f"""FROM {DEBIAN}
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-15 \\
    && rm -rf /var/lib/apt/lists/*
USER postgres
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
CMD initdb --no-sync --encoding=UTF8 --username=site --pwfile=/password --auth=scram-sha-256 /tmp/data \\
    && echo 'host all all all scram-sha-256' >> /tmp/data/pg_hba.conf \\
    && exec postgres -D /tmp/data -p $PORT -h $HOST -k /tmp -c fsync=off
"""


@contextlib.asynccontextmanager
async def postgres(rig: Rig) -> AsyncIterator[str]:
    """Yield the URL of an empty database, which apps reach at this machine's end of Docker's own bridge."""
    password = token()
    form = "{{range .IPAM.Config}}{{.Subnet}}{{end}}"  # the gateway is there only once dockerd was started anew
    subnet = (await rig.docker("network", "inspect", "bridge", "--format", form)).out.strip()
    host = str(ipaddress.ip_network(subnet)[1])
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        folder = Path(name)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        built = await rig.run("docker", "build", "--quiet", "--tag", IMAGE, name)
        assert built.status == 0, built.err
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        folder.chmod(0o755)
        started = await rig.run(
            "docker", "run", "--detach", "--rm", "--network", "host", "--env", f"PORT={port}", "--env", f"HOST={host}",
            "--volume", f"{folder}/password:/password:ro", IMAGE,
        )  # fmt: skip
        assert started.status == 0, started.err
        container = started.out.strip()
        try:
            await _answers(rig, container, host, port)
            yield f"postgres://site:{password}@{host}:{port}/postgres"
        finally:
            await rig.run("docker", "rm", "--force", "--volumes", container)


async def _answers(rig: Rig, container: str, host: str, port: int) -> None:
    async with asyncio.timeout(60):
        while (await rig.run("docker", "exec", container, "pg_isready", "-h", host, "-p", str(port))).status != 0:
            await asyncio.sleep(PAUSE_SECONDS)
