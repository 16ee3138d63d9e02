"""How a replica's container is found: where it was seen, else by its label."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from yarl import URL

from agent.docker import labels
from agent.docker.containers import Containers
from agent.ports.addresses import Bridges
from agent.schedulers.docker import DockerScheduler
from proto.names import ReplicaId
from tests.support.scripted_engine import http, scripted

R1, R2 = ReplicaId("r1"), ReplicaId("r2")


class Books:
    """Containers by id, with the replica that each is of."""

    def __init__(self, **containers: str) -> None:
        self.containers = containers

    async def answer(self, request: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = URL(request.split()[1])
        if url.name == "json" and url.parts[-2] != "containers":
            replica = self.containers.get(url.parts[-2])
            detail = {"Id": url.parts[-2], "Config": {"Labels": {labels.REPLICA_ID: replica}}}
            writer.write(http(200, msgspec.json.encode(detail)) if replica else http(404, b'{"message": "none"}'))
            return
        wanted = msgspec.json.decode(url.query["filters"])["label"]
        rows = [
            {"Id": id_, "Labels": {labels.REPLICA_ID: replica}, "State": "running"}
            for id_, replica in self.containers.items()
            if len(wanted) == 1 or f"{labels.REPLICA_ID}={replica}" in wanted
        ]
        writer.write(http(200, msgspec.json.encode(rows)))


@asynccontextmanager
async def containers(books: Books, folder: Path) -> AsyncIterator[tuple[Containers, list[str]]]:
    async with scripted(folder, books.answer) as (engine, seen):
        yield Containers(engine), seen


def lists(seen: list[str]) -> int:
    """Return how often the engine had to go through all containers."""
    return sum("/containers/json?" in request for request in seen)


async def test_after_a_survey_no_replica_is_looked_for_among_all_containers(tmp_path: Path) -> None:
    async with scripted(tmp_path, Books(c1="r1", c2="r2").answer) as (engine, seen):
        scheduler = DockerScheduler(engine, bridges=Bridges())
        await scheduler.survey()
        for replica in (R1, R2, R1):
            await scheduler.look(replica)

        assert lists(seen) == 1


async def test_a_replica_that_was_found_once_is_asked_for_by_its_id(tmp_path: Path) -> None:
    async with containers(Books(c1="r1"), tmp_path) as (docker, seen):
        for _ in range(3):
            detail = await docker.of_replica(R1)
            assert detail is not None
            assert detail.id == "c1"
        assert lists(seen) == 1


async def test_a_container_that_took_the_place_of_one_seen_before_is_found(tmp_path: Path) -> None:
    books = Books(c1="r1")
    async with containers(books, tmp_path) as (docker, _):
        await docker.of_replica(R1)
        books.containers = {"c2": "r1"}

        detail = await docker.of_replica(R1)

        assert detail is not None
        assert detail.id == "c2"


async def test_what_is_gone_is_told_to_be_gone(tmp_path: Path) -> None:
    books = Books(c1="r1")
    async with containers(books, tmp_path) as (docker, _):
        await docker.of_replica(R1)
        books.containers = {}

        assert await docker.of_replica(R1) is None
        assert await docker.of_replica(R2) is None


async def test_a_survey_forgets_where_replicas_were_that_it_does_not_see(tmp_path: Path) -> None:
    books = Books(c1="r1", c2="r2")
    async with scripted(tmp_path, books.answer) as (engine, _):
        docker = Containers(engine)
        await docker.find({})
        books.containers = {"c2": "r2"}
        await docker.find({})

        assert engine.whereabouts == {R2: "c2"}
