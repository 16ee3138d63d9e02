"""A real database on a temporary disk, under both executors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.state.database import Database
from agent.state.sql import InlineSql, Opener, ThreadSql
from agent.vault import Vault
from proto.events import AppCreated, DomainsChanged
from proto.names import AppId
from tests.fakes.world import FakeClock

BLOG, SHOP = AppId("ablog"), AppId("ashop")

ROUTES = {AppCreated: ["greeter.greet", "builder.prepare"], DomainsChanged: ["proxy.route"]}

Open = Callable[..., contextlib.AbstractAsyncContextManager[Database]]


def created(name: str, *, app: AppId = BLOG) -> AppCreated:
    return AppCreated(app=app, name=name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(params=[ThreadSql.open, InlineSql.open], ids=["thread", "inline"])
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def open_database(path: Path, clock: FakeClock, vault: Vault, opener: Opener) -> Open:
    """Open the database as a new process would; keyword arguments go to ``Database.open``."""

    def open_it(**changes: object) -> contextlib.AbstractAsyncContextManager[Database]:
        arguments: dict[str, object] = {
            "routes": ROUTES,
            "clock": clock,
            "vault": vault,
            "opener": opener,
            **changes,
        }
        return Database.open(path, **arguments)  # type: ignore[arg-type]

    return open_it


@pytest.fixture
async def database(open_database: Open) -> AsyncIterator[Database]:
    async with open_database() as opened:
        yield opened
