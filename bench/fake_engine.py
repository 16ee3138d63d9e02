"""A Docker engine without containers: it keeps books of what it was told, and one listener answers for every replica.

It speaks as much of the Engine API (1.41) over a unix socket as the agent asks for while apps are deployed from an
image, run and are looked after. Replicas get addresses of a pool inside 127.0.0.0/8, all of which are this machine, so
that checks and visitors reach a real port at the address that the agent handed out; one process listens there for all.
Nothing takes time here but JSON: what is measured against it is the agent.

::

    python -m bench.fake_engine SOCKET PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import uvloop
from aiohttp import web

from bench.measured import say

IMAGE = "scale/app:1"
IMAGE_ID = f"sha256:{'5ca1e' * 12}0000"
API = "/v1.41"
CALLS = "/bench/calls"
"""Not Docker's: tells how often each kind of call was made since it was last asked."""
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Container:
    """One container in the books."""

    def __init__(self, name: str, body: dict[str, Any]) -> None:
        self.id = secrets.token_hex(32)
        self.name = name
        self.labels: dict[str, str] = body.get("Labels") or {}
        self.network = body["HostConfig"]["NetworkMode"]
        endpoint = body["NetworkingConfig"]["EndpointsConfig"][self.network]
        self.address = (endpoint.get("IPAMConfig") or {}).get("IPv4Address", "")
        self.env = body.get("Env") or []
        self.state = "created"
        self.exit_code = 0
        self.started_at = 0.0
        self.ended = asyncio.Event()
        self._row = b""

    def turn(self, state: str, *, exit_code: int = 0) -> None:
        """Be in another state from now on."""
        self.state, self.exit_code, self._row = state, exit_code, b""
        if state == "running":
            self.started_at = time.time()
            self.ended.clear()
        else:
            self.ended.set()

    @property
    def row(self) -> bytes:
        """One line of ``GET /containers/json``, as long as Docker's own."""
        self._row = self._row or json.dumps(self._facts()).encode()
        return self._row

    def _facts(self) -> dict[str, Any]:
        networks = {self.network: self._endpoint()}
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Image": IMAGE_ID,
            "ImageID": IMAGE_ID,
            "Command": "httpd -f -p 5000 -h /www",
            "Created": int(self.started_at),
            "Ports": [{"PrivatePort": 5000, "Type": "tcp"}],
            "Labels": self.labels,
            "State": self.state,
            "Status": "Up 2 minutes" if self.state == "running" else f"Exited ({self.exit_code}) 3 seconds ago",
            "HostConfig": {"NetworkMode": self.network},
            "NetworkSettings": {"Networks": networks},
            "Mounts": [],
        }

    def _endpoint(self) -> dict[str, Any]:
        return {
            "IPAMConfig": {"IPv4Address": self.address},
            "NetworkID": "0" * 64,
            "EndpointID": "0" * 64,
            "IPAddress": self.address if self.state == "running" else "",
            "IPPrefixLen": 20,
            "MacAddress": "02:42:0a:00:00:01",
        }

    @property
    def detail(self) -> dict[str, Any]:
        """``GET /containers/ID/json``."""
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "RestartCount": 0,
            "State": {
                "Status": self.state,
                "OOMKilled": False,
                "Pid": 1 if self.state == "running" else 0,
                "ExitCode": self.exit_code,
                "StartedAt": _stamp(self.started_at),
            },
            "Config": {"Labels": self.labels, "Tty": False, "Env": self.env},
            "NetworkSettings": {"Networks": {self.network: self._endpoint()}},
        }


class FakeEngine:
    """The books."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.tags = {IMAGE}
        self.networks: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self._names: set[str] = set()
        self._by_label: dict[str, dict[str, Container]] = {}
        self._listeners: set[asyncio.Queue[bytes]] = set()

    def application(self) -> web.Application:
        """Return what answers at the socket."""
        app = web.Application(middlewares=[self._counted], client_max_size=1 << 24)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/containers/json", self._list),
            ("POST", "/containers/create", self._create),
            ("GET", "/containers/{id}/json", self._inspect),
            ("POST", "/containers/{id}/start", self._start),
            ("POST", "/containers/{id}/stop", self._stop),
            ("POST", "/containers/{id}/update", self._nothing),
            ("DELETE", "/containers/{id}", self._remove),
            ("GET", "/containers/{id}/logs", self._logs),
            ("GET", "/events", self._events),
            ("GET", "/images/json", self._images),
            ("GET", "/images/{name:.+}/json", self._image),
            ("POST", "/images/{name:.+}/tag", self._tag),
            ("DELETE", "/images/{name:.+}", self._untag),
            ("GET", "/networks", self._list_networks),
            ("POST", "/networks/create", self._create_network),
            ("GET", "/volumes", _answer({"Volumes": []})),
            ("GET", "/info", _answer({"DockerRootDir": "/", "Warnings": None, "CgroupDriver": "cgroupfs"})),
            ("GET", "/version", _answer({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})),
            ("GET", "/_ping", _answer({})),
            ("GET", "/system/df", _answer({"Images": [], "BuildCache": []})),
            ("GET", CALLS, self._tell_calls),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, f"{API}{path}", handler)
        return app

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        route = request.match_info.route.resource
        self.calls[f"{request.method} {route.canonical.removeprefix(API) if route else request.path}"] += 1
        return await handler(request)

    async def _tell_calls(self, _: web.Request) -> web.Response:
        told, self.calls = self.calls, Counter()
        return web.json_response(told)

    # Containers.

    def _found(self, name: str) -> Container:
        found = self.containers.get(name) or next((c for c in self.containers.values() if c.name == name), None)
        if found is None:
            raise web.HTTPNotFound(text='{"message": "No such container"}', content_type="application/json")
        return found

    async def _list(self, request: web.Request) -> web.Response:
        wanted = json.loads(request.query.get("filters") or "{}").get("label") or []
        groups = sorted((self._by_label.get(label, {}) for label in wanted), key=len)
        fewest = groups[0] if groups else self.containers
        found = [c.row for c in fewest.values() if all(c.id in group for group in groups[1:])]
        return web.Response(body=b"[" + b",".join(found) + b"]", content_type="application/json")

    async def _create(self, request: web.Request) -> web.Response:
        name = request.query["name"]
        if name in self._names:
            return web.json_response({"message": "Conflict. The name is in use"}, status=409)
        container = Container(name, await request.json())
        self.containers[container.id] = container
        self._names.add(name)
        for label in container.labels.items():
            self._by_label.setdefault("=".join(label), {})[container.id] = container
        return web.json_response({"Id": container.id, "Warnings": []}, status=201)

    async def _inspect(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request.match_info["id"]).detail)

    async def _start(self, request: web.Request) -> web.Response:
        container = self._found(request.match_info["id"])
        if container.state != "running":
            container.turn("running")
            self._tell("start", container)
        return web.Response(status=204)

    async def _stop(self, request: web.Request) -> web.Response:
        container = self._found(request.match_info["id"])
        if container.state != "running":
            return web.Response(status=304)
        container.turn("exited", exit_code=143)
        self._tell("die", container)
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        container = self._found(request.match_info["id"])
        del self.containers[container.id]
        self._names.discard(container.name)
        for label in container.labels.items():
            self._by_label["=".join(label)].pop(container.id)
        container.turn("dead")
        self._tell("destroy", container)
        return web.Response(status=204)

    async def _nothing(self, _: web.Request) -> web.Response:
        return web.json_response({"Warnings": []})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """Send the one line that each start writes, and nothing more until the container ends."""
        container = self._found(request.match_info["id"])
        answer = web.StreamResponse(headers={"Content-Type": "application/vnd.docker.raw-stream"})
        await answer.prepare(request)
        if container.started_at and float(request.query.get("since") or 0) <= container.started_at:
            line = f"{_stamp(container.started_at)} {container.name} listens\n".encode()
            await answer.write(b"\x01\0\0\0" + len(line).to_bytes(4, "big") + line)
        if request.query.get("follow") in ("1", "true") and container.state == "running":
            await container.ended.wait()
        return answer

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while True:
                await answer.write(await queue.get())
        except ConnectionError:
            return answer
        finally:
            self._listeners.discard(queue)

    def _tell(self, action: str, container: Container) -> None:
        message = {"Type": "container", "Action": action, "Actor": {"ID": container.id, "Attributes": container.labels}}
        for queue in self._listeners:
            queue.put_nowait(json.dumps(message).encode() + b"\n")

    # Images and networks.

    async def _images(self, request: web.Request) -> web.Response:
        wanted = json.loads(request.query.get("filters") or "{}").get("reference") or ["*"]
        tags = [tag for tag in sorted(self.tags) if any(tag.startswith(name.rstrip("*")) for name in wanted)]
        row = {"Id": IMAGE_ID, "RepoTags": tags, "Size": 2_000_000, "Created": 0, "Labels": None}
        return web.json_response([row] if tags else [])

    async def _image(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in {*self.tags, IMAGE_ID}:
            return web.json_response({"message": "No such image"}, status=404)
        config = {"Cmd": ["httpd"], "ExposedPorts": {f"{sys.argv[2]}/tcp": {}}, "Env": ["PATH=/bin"]}
        return web.json_response({"Id": IMAGE_ID, "RepoTags": [IMAGE], "Size": 2_000_000, "Config": config})

    async def _tag(self, request: web.Request) -> web.Response:
        self.tags.add(f"{request.query['repo']}:{request.query['tag']}")
        return web.Response(status=201)

    async def _untag(self, request: web.Request) -> web.Response:
        self.tags.discard(request.match_info["name"])
        return web.json_response([])

    async def _list_networks(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.networks.values()))

    async def _create_network(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.networks[body["Name"]] = {"Id": secrets.token_hex(32), **body}
        return web.json_response({"Id": self.networks[body["Name"]]["Id"]}, status=201)


class Page(asyncio.Protocol):
    """Answers each request on a connection as every replica would."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``. Requests without a body alone."""
        self._transport.write(PAGE * data.count(b"\r\n\r\n"))


def _answer(value: object) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(value)

    return answer


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


async def serve(socket: str, port: int) -> None:
    """Answer until this process is ended."""
    runner = web.AppRunner(FakeEngine().application(), access_log=None)
    await runner.setup()
    await web.UnixSite(runner, socket, backlog=1024).start()
    server = await asyncio.get_running_loop().create_server(Page, "0.0.0.0", port, backlog=4096)
    say(f"The fake engine listens at {socket}, its replicas at port {port}.")
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
