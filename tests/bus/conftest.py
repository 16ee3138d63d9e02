"""A real database, handlers whose behaviour each test chooses, and a clock that stands still."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from agent.bus.durable import Bus
from agent.bus.subscriptions import on, reconciles, routes_for, surveys
from agent.ports.world import Stop
from agent.state.database import Database
from agent.state.sql import InlineSql, Opener, ThreadSql
from agent.vault import Vault
from proto.events import (
    AppCreated,
    AppDestroyed,
    DeployAccepted,
    DeployCancelled,
    DeploySuperseded,
    Event,
    HandlerGaveUp,
    ImageBuilt,
    ScaleChanged,
)
from proto.names import AppId, DeployId
from tests.fakes.world import FakeClock

BLOG, SHOP = AppId("ablog"), AppId("ashop")


class Greeter:
    """Does something once for each new app."""

    def __init__(self, does: Callable[[AppCreated], Awaitable[None]] | None = None) -> None:
        self.does = does
        self.seen: list[tuple[AppId, str]] = []
        self.begun = asyncio.Event()
        self.inside = 0
        self.peak = 0

    @on(AppCreated, name="greeter.greet", limit=2, tries=3)
    async def greet(self, event: AppCreated) -> None:
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        self.seen.append((event.app, event.name))
        self.begun.set()
        try:
            if self.does is not None:
                await self.does(event)
        finally:
            self.inside -= 1


class Builder:
    """Does long work for each deploy, unless that is no longer wanted."""

    def __init__(self, does: Callable[[DeployAccepted, Stop], Awaitable[None]] | None = None) -> None:
        self.does = does
        self.seen: list[tuple[DeployId, bool]] = []

    @on(DeployAccepted, name="builder.build", stop_on=(DeployCancelled, DeploySuperseded, AppDestroyed))
    async def build(self, event: DeployAccepted, stop: Stop) -> None:
        self.seen.append((event.deploy, stop.is_set))
        if self.does is not None:
            await self.does(event, stop)


class Scaler:
    """Compares and corrects."""

    def __init__(self, does: Callable[[AppId], Awaitable[float | None]] | None = None) -> None:
        self.does = does
        self.seen: list[AppId] = []
        self.surveys = 0
        self.different: Iterable[AppId] = ()

    @reconciles(ScaleChanged, ImageBuilt, name="scaler.converge", limit=8)
    async def converge(self, app: AppId) -> float | None:
        self.seen.append(app)
        return await self.does(app) if self.does is not None else None

    @surveys
    async def survey(self) -> Iterable[AppId]:
        self.surveys += 1
        return self.different


class Checker:
    """Compares, and can be told that it compares with the wrong thing."""

    def __init__(self, does: Callable[[AppId, Stop], Awaitable[float | None]]) -> None:
        self.does = does

    @reconciles(ScaleChanged, name="checker.check", is_interruptible=True)
    async def check(self, app: AppId, stop: Stop) -> float | None:
        return await self.does(app, stop)


class Mourner:
    """Hears of what was given up."""

    def __init__(self) -> None:
        self.seen: list[HandlerGaveUp] = []

    @on(HandlerGaveUp, name="mourner.mourn", tries=2)
    async def mourn(self, event: HandlerGaveUp) -> None:
        self.seen.append(event)


ALL = (Greeter, Builder, Scaler, Checker, Mourner)


def created(app: AppId, number: int) -> AppCreated:
    return AppCreated(app=app, name=str(number))


def accepted(app: AppId, deploy: str) -> DeployAccepted:
    return DeployAccepted(app=app, deploy=DeployId(deploy), kind="push")


def scaled(app: AppId, number: int = 1) -> ScaleChanged:
    return ScaleChanged(app=app, quantities={"web": number})


async def emit(database: Database, *events: Event) -> list[int]:
    async with database.transaction() as tx:
        return [await tx.emit(event) for event in events]


@pytest.fixture(params=[ThreadSql.open, InlineSql.open], ids=["thread", "inline"])
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


Reopen = Callable[[], contextlib.AbstractAsyncContextManager[Database]]


@pytest.fixture
def reopen(path: Path, clock: FakeClock, vault: Vault, opener: Opener) -> Reopen:
    """Open the database as each new process would."""
    return lambda: Database.open(path, routes=routes_for(*ALL), clock=clock, vault=vault, opener=opener)


@pytest.fixture
async def database(reopen: Reopen) -> AsyncIterator[Database]:
    async with reopen() as opened:
        yield opened


Start = Callable[..., Bus]


@pytest.fixture
def start(database: Database, clock: FakeClock) -> Start:
    """Make a bus that runs the given handlers, and does nothing for the others of `ALL`."""

    def make(*handlers: object) -> Bus:
        return Bus(database, handlers, clock=clock)

    return make
