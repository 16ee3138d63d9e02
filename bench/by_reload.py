"""The reference of ``bench/switch``: the same apps behind the distribution's nginx, switched the usual way.

Start the new containers, ask each until it answers, write the upstream anew, ``nginx -s reload``, leave the old ones
ten seconds to finish, ``docker stop`` them. That is the kind half of the scripts that people write: the other half
stops the old container at once. Keep-alive to the upstreams and websockets are set up as nginx's own pages advise.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import islice
from pathlib import Path

from scripts.house import processes
from scripts.house.addresses import LOOPBACK, free_port
from scripts.house.engine import Engine

PROGRAM = "/usr/sbin/nginx"
PORT = 5000
NAME = "pushboat-bench-by-reload"
SUBNET = "198.18.0.0/16"
"""Which is for benchmarks (RFC 2544)."""
GRACE_SECONDS = 10.0
"""Between the reload and the end of the old containers."""
START_SECONDS = 60.0
PAUSE_SECONDS = 0.02
HEAD = """daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes auto;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  proxy_http_version 1.1;
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  proxy_read_timeout 3600s;
"""


@dataclass(frozen=True)
class Container:
    """One replica."""

    id: str
    address: str


class ByReload:
    """nginx and the containers behind it."""

    def __init__(self, folder: Path, image: str, group: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "nginx.conf"
        self._image = image
        self._group = group
        self._engine = Engine()
        self._apps: dict[str, list[Container]] = {}
        self._nginx: processes.Process | None = None
        self._addresses = map(str, islice(ip_network(SUBNET).hosts(), 1, None))
        self._retiring: set[asyncio.Task[None]] = set()

    async def open(self, apps: Mapping[str, int], settings: Mapping[str, Sequence[str]]) -> None:
        """Start so many replicas of each app, and nginx before them. `settings`: environment variables by app."""
        self._settings = settings
        pool = {"Driver": "default", "Config": [{"Subnet": SUBNET}]}
        self._engine.call("POST", "/networks/create", json.dumps({"Name": NAME, "IPAM": pool}).encode())
        for app, replicas in apps.items():
            self._apps[app] = await self._start(app, replicas)
        self._write()
        command = [PROGRAM, "-c", str(self._config)]
        log = self._folder / "nginx.log"
        self._nginx = processes.spawn(command, log=log, environment=dict(os.environ), folder=self._folder)
        async with asyncio.timeout(START_SECONDS):
            while not processes.listens(self._nginx, self.port):
                if not self._nginx.is_alive:
                    raise RuntimeError(log.read_text())
                await asyncio.sleep(PAUSE_SECONDS)

    async def switch(self, app: str, replicas: int) -> None:
        """Replace all replicas of an app."""
        old = self._apps[app]
        self._apps[app] = await self._start(app, replicas)
        self._write()
        await asyncio.to_thread(self._reload)
        retiring = asyncio.create_task(self._retire(old))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    def pids(self) -> list[int]:
        """Return the ids of nginx's processes."""
        assert self._nginx
        master = self._nginx.pid
        return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]

    async def close(self) -> None:
        """Remove all that was made."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._nginx:
            await asyncio.to_thread(processes.end, self._nginx)
        await asyncio.to_thread(self._remove_containers)

    async def _start(self, app: str, replicas: int) -> list[Container]:
        return list(await asyncio.gather(*(asyncio.to_thread(self._start_one, app) for _ in range(replicas))))

    def _start_one(self, app: str) -> Container:
        # An address of its own for life: the engine gives one that restarts another, nginx would go on with the first,
        # and whoever has that then gets another app's visitors.
        address = next(self._addresses)
        body = {
            "Image": self._image,
            "Env": [f"PORT={PORT}", *self._settings.get(app, ())],
            "Labels": {NAME: "1"},
            "HostConfig": {
                "Init": True,
                "RestartPolicy": {"Name": "always"},
                "NetworkMode": NAME,
                "CgroupParent": self._group,
            },
            "NetworkingConfig": {"EndpointsConfig": {NAME: {"IPAMConfig": {"IPv4Address": address}}}},
        }
        made = self._engine.call("POST", "/containers/create", json.dumps(body).encode())
        self._engine.call("POST", f"/containers/{made['Id']}/start")
        container = Container(made["Id"], address)
        _await_answer(container.address)
        return container

    async def _retire(self, containers: Sequence[Container]) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        await asyncio.gather(*(asyncio.to_thread(self._stop, container) for container in containers))

    def _stop(self, container: Container) -> None:
        self._engine.call("POST", f"/containers/{container.id}/stop", t=10)
        self._engine.call("DELETE", f"/containers/{container.id}", force=1, v=1)

    def _write(self) -> None:
        text = HEAD.format(folder=self._folder)
        for app, containers in self._apps.items():
            servers = "".join(f" server {container.address}:{PORT};" for container in containers)
            text += f"  upstream {app} {{{servers} keepalive 32; }}\n"
            where = f"listen {LOOPBACK}:{self.port}; server_name {app}.localhost;"
            text += f"  server {{ {where} location / {{ proxy_pass http://{app}; }} }}\n"
        self._config.write_text(text + "}\n")

    def _reload(self) -> None:
        subprocess.run([PROGRAM, "-c", str(self._config), "-s", "reload"], check=True, capture_output=True)

    def _remove_containers(self) -> None:
        for found in self._engine.call("GET", "/containers/json", all=1, filters={"label": [NAME]}):
            self._engine.call("DELETE", f"/containers/{found['Id']}", force=1, v=1)
        for network in self._engine.call("GET", "/networks", filters={"name": [NAME]}):
            self._engine.call("DELETE", f"/networks/{network['Id']}")


def nginx_folder(parent: Path) -> Path:
    """Make and return the folder of an nginx of one's own."""
    folder = parent / "nginx"
    folder.mkdir(mode=0o755)
    return folder


@asynccontextmanager
async def by_reload(
    folder: Path, image: str, apps: Mapping[str, int], settings: Mapping[str, Sequence[str]], *, group: str
) -> AsyncIterator[ByReload]:
    """Run the apps behind an nginx of this run's own. `group`: the control group of the containers, empty for none."""
    reference = ByReload(folder, image, group)
    try:
        await reference.open(apps, settings)
        yield reference
    finally:
        await reference.close()


def _await_answer(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(PAUSE_SECONDS)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"the container at {address} does not answer")
