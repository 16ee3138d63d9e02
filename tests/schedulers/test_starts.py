"""How many containers are started side by side, asked of an engine that lets each start wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from yarl import URL

from agent.docker import labels
from agent.ports.addresses import Bridges
from agent.ports.scheduler import ReplicaWish
from agent.schedulers.docker import STARTS_AT_ONCE, DockerScheduler
from proto.names import WEB, AppId, ReplicaId
from tests.support.scripted_engine import http, scripted

BLOG, SHOP = AppId("ablog"), AppId("ashop")
PATIENCE_SECONDS = 20.0
"""How long starts that should come side by side are waited for."""


class SlowEngine:
    """Answers what a start asks for; no container starts before `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.are_all_in = asyncio.Event()
        """Set once so many wait at the gate as are to be started at once."""
        self.inside = self.most = 0
        """Calls of ``start`` that are under way, and how many there were at the same time."""
        self._made: dict[str, dict[str, str]] = {}
        """Labels of each container."""

    async def answer(self, request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = request.split()
        url = URL(target)
        if url.name == "networks":
            network = {"Id": "n", "Name": "pushboat-i23456789abc-0", "Labels": {labels.INSTANCE: "i23456789abc"}}
            network["IPAM"] = {"Config": [{"Subnet": Bridges().subnet(0)}]}
            writer.write(http(200, msgspec.json.encode([network])))
        elif url.name == "create":
            name = url.query["name"]
            app, process, number, version = name.split(".")
            self._made[name] = {
                labels.KIND: labels.REPLICA,
                labels.APP_ID: f"a{app}",
                labels.REPLICA_ID: f"r{app}{number}",
                labels.PROCESS_TYPE: process,
                labels.NUMBER: number,
                labels.RELEASE: version[1:],
            }
            writer.write(http(201, msgspec.json.encode({"Id": name})))
        elif url.name == "start":
            await self._start()
            writer.write(http(204, b""))
        else:
            assert (method, url.name) == ("GET", "json"), request
            wanted = msgspec.json.decode(url.query["filters"])["label"]
            rows = [
                {"Id": name, "Names": [f"/{name}"], "Labels": of, "State": "running"}
                for name, of in self._made.items()
                if f"{labels.APP_ID}={of[labels.APP_ID]}" in wanted
            ]
            writer.write(http(200, msgspec.json.encode(rows)))

    async def _start(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == STARTS_AT_ONCE:
            self.are_all_in.set()
        await self.gate.wait()
        self.inside -= 1


def wishes(app: AppId, count: int) -> list[ReplicaWish]:
    """Return wishes for the first replicas of an app."""
    return [
        ReplicaWish(
            app=app,
            app_name=app[1:],
            process=WEB,
            release=1,
            image="sha256:" + "1" * 64,
            command=None,
            env={},
            replica=ReplicaId(f"r{app[1:]}{number}"),
            number=number,
            bridge=0,
            address=f"10.213.0.{number + 1}",
            fingerprint="f1",
        )
        for number in range(1, count + 1)
    ]


async def test_four_containers_are_started_side_by_side_of_all_apps_and_never_more(tmp_path: Path) -> None:
    slow, said = SlowEngine(), list[str]()
    async with scripted(tmp_path, slow.answer) as (engine, _), asyncio.TaskGroup() as group:
        scheduler = DockerScheduler(engine, bridges=Bridges())
        blog = group.create_task(scheduler.converge(BLOG, wishes(BLOG, 5), said.append))
        shop = group.create_task(scheduler.converge(SHOP, wishes(SHOP, 3), said.append))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await slow.are_all_in.wait()
        # A few calls that overtake those: time enough for a fifth start, were there one.
        for _ in range(5):
            await scheduler.look(ReplicaId("rnobody"))
        assert slow.inside == STARTS_AT_ONCE == 4 and said == []
        slow.gate.set()
        assert len(await blog) == 5 and len(await shop) == 3
    assert slow.most == STARTS_AT_ONCE and len(said) == 8
