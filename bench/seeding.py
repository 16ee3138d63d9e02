"""Thousands of live apps without deploying each: rows and containers as deploys would have left them.

Every row is written by the functions of ``agent.lifecycle`` that a deploy goes through, while no agent runs, and every
container is asked for with the wish that the agent would have. Only what a deploy waits for is left out: checks, the
switch of the route. Nothing is owed to anybody after: handlers are not told.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import msgspec

from agent.docker.spec import container_name, create_body
from agent.lifecycle import apps, deploys, replicas, wishes
from agent.ports.addresses import Bridges
from agent.ports.scheduler import ReplicaWish, Resources
from agent.settings import ReplicaSettings
from agent.state.database import Database, Transaction
from agent.state.plans import Plan, ProcessPlan
from agent.system import RandomIds, SystemClock
from agent.vault import Vault
from bench import fake_engine
from proto.names import WEB, AppId, AppName, DeployId
from scripts.house.engine import Engine

IDS = RandomIds()
BATCH = 100
"""Apps to a transaction."""


async def seed(folder: Path, *, engine: Engine, pool: str, port: int, numbers: range) -> None:
    """Make ``app-N`` for each of `numbers`, live with one replica each. `port`: where the image listens."""
    vault = Vault.open(folder / "key", may_create=False, token=IDS.token)
    bridges = Bridges(pool)
    made: list[AppId] = []
    async with Database.open(folder / "pushboat.db", routes={}, clock=SystemClock(), vault=vault) as database:
        instance = await database.read.server.get("instance")
        assert instance
        for first in numbers[::BATCH]:
            async with database.transaction() as tx:
                batch = [number for number in range(first, first + BATCH) if number in numbers]
                wanted = [await _live(tx, number, bridges=bridges, port=port, vault=vault) for number in batch]
            started = [await asyncio.to_thread(_start, engine, wish, instance=instance) for wish in wanted]
            async with database.transaction() as tx:
                for wish, container in zip(wanted, started, strict=True):
                    await _serve(tx, wish, container)
            made += [wish.app for wish in wanted]
    await asyncio.to_thread(_make_repositories, folder / "repos", made)


async def _live(tx: Transaction, number: int, *, bridges: Bridges, port: int, vault: Vault) -> ReplicaWish:
    """Take an app to the point where its replica is to be started; return what that should be."""
    app = await apps.create(tx, app=AppId(IDS.new("a")), name=AppName(f"app-{number}"), by="bench")
    deploy = DeployId(IDS.new("d"))
    await deploys.accept(
        tx, deploy=deploy, app=app.id, kind="image", by="bench", why="Deployed", image=fake_engine.IMAGE
    )
    await deploys.building(tx, deploy=deploy)
    plan = Plan(processes=(ProcessPlan(type=WEB, command=None),), port=port)
    await deploys.built(tx, app=app.id, deploy=deploy, image=fake_engine.IMAGE_ID, plan=plan)
    release = await deploys.create_release(tx, deploy=deploy, new_id=IDS.new)
    assert release
    [row] = await replicas.plan(tx, app=app.id, bridges=bridges, new_id=IDS.new, drain_seconds=60.0)
    defaults = ReplicaSettings()
    return wishes.replica_wish(
        app=app,
        release=release,
        config={},
        replica=row,
        resources=Resources(memory_bytes=defaults.memory_bytes, pids=defaults.pids),
        stop_seconds=defaults.stop_seconds,
        revision_variable=wishes.REVISION_VARIABLE,
        fingerprint=vault.fingerprint,
    )


def _start(engine: Engine, wish: ReplicaWish, *, instance: str) -> str:
    """Start the replica's container; return its id."""
    body = create_body(wish, instance=instance, network=f"pushboat-{instance}-{wish.bridge}")
    made = engine.call("POST", "/containers/create", msgspec.json.encode(body), name=container_name(wish))
    engine.call("POST", f"/containers/{made['Id']}/start")
    return str(made["Id"])


async def _serve(tx: Transaction, wish: ReplicaWish, container: str) -> None:
    """Take the app from there to where its release is live."""
    await replicas.started(tx, app=wish.app, containers=[(wish.replica, container)])
    [row] = await tx.replicas.of_app(wish.app)
    await replicas.ready(tx, replica=row)
    await deploys.ready_if_complete(tx, app=wish.app)
    deploy = await tx.deploys.switching(wish.app)
    assert deploy
    await deploys.live(tx, deploy=deploy, drain_seconds=60.0)


def _make_repositories(folder: Path, names: list[AppId]) -> None:
    first = folder / names[0]
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", str(first)], check=True)
    for name in names[1:]:
        shutil.copytree(first, folder / name)
