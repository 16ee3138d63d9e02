"""An app with a release task, and what is waited for with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.handlers import tasks as handler
from agent.state.apps import App
from agent.state.deploys import Deploy
from proto.names import TaskId
from tests.fakes.core import Core, core

MIGRATING = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: ./serve\nrelease: ./migrate --all\n"}
AGAIN = {**MIGRATING, "Dockerfile": "FROM scratch\nEXPOSE 8081\n"}


@asynccontextmanager
async def hasty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    """Open a core whose tasks are not waited for longer than need be."""
    monkeypatch.setattr(handler, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(handler, "TURN_SECONDS", 0.0)
    async with core(folder) as c:
        await c.global_domain()
        yield c


async def until_running(c: Core) -> TaskId:
    """Return the task that runs, once one does; the bus delivers meanwhile."""
    while True:
        for task in c.scheduler.task_starts:
            if task in c.scheduler.containers and c.scheduler.containers[task].phase == "running":
                return task
        await c.database.read.apps.all()


async def settled(c: Core, app: App, deploy: Deploy) -> Deploy:
    await c.settle()
    assert await c.database.read.tasks.started(app.id) == []
    return await c.deploy(deploy)
