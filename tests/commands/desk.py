"""The agent's core on fakes, with the dispatcher in front of it: commands as people give them."""

from __future__ import annotations

import asyncio

import msgspec

from agent.commands.catalogue import every_command
from agent.commands.command import Doctor, ServerFacts, World
from agent.commands.dispatcher import Dispatcher
from agent.commands.services import Service, Services
from agent.lifecycle.cleaning import Cleaner
from agent.state.apps import App
from agent.state.deploys import Deploy
from tests.fakes.core import Core
from tests.fakes.session import FakeSession

FACTS = ServerFacts(version="1.2.3", host="box.example.com", ssh_port=2222, http_port=80, repositories="/srv/repos")
DOCKERFILE = {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: serve\nworker: work\n"}


REGISTRY = every_command()
"""Made once: it takes longer than most tests."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    out: str
    err: str

    def json(self) -> object:
        return msgspec.json.decode(self.out)


class Desk:
    """Where commands are given."""

    def __init__(
        self,
        core: Core,
        *,
        doctors: tuple[tuple[str, Doctor], ...] = (),
        remarkers: tuple[tuple[str, Doctor], ...] = (),
        services: tuple[Service, ...] = (),
        cleaner: Cleaner | None = None,
    ) -> None:
        self.core = core
        self.database = core.database
        self.dispatcher = Dispatcher(
            REGISTRY,
            world=World(
                database=core.database,
                scheduler=core.scheduler,
                prober=core.prober,
                proxy=core.proxy,
                images=core.images,
                workshops=core.workshops,
                registries=core.registries,
                choose=core.choose,
                source=core.repos,
                disks=core.disks,
                cleaner=cleaner or core.cleaner(),
                door=core.door,
                downloads=core.downloads,
                remotes=core.remotes,
                transcripts=core.transcripts,
                logs=core.logs,
                clock=core.clock,
                ids=core.ids,
                server=FACTS,
                doctors=doctors,
                remarkers=remarkers,
            ),
            services=Services(services, database=core.database),
        )

    async def give(self, line: str, stdin: bytes = b"", *, app: str = "", is_tty: bool = False) -> Answer:
        """Give one command line and return the answer. `app`: what the client's folder is linked to."""
        environment = {"PUSHBOAT_APP": app} if app else {}
        return await self.give_as(line, FakeSession(stdin, is_tty=is_tty, environment=environment))

    async def meanwhile(self, line: str, stdin: bytes = b"", *, app: str = "") -> Answer:
        """Give one command line while the bus is at work, for commands that wait for what follows."""
        given = asyncio.ensure_future(self.give(line, stdin, app=app))
        while not given.done():
            await self.core.settle()
            await asyncio.sleep(0)
        return await given

    async def give_as(self, line: str, session: FakeSession) -> Answer:
        """Give one command line from a session of one's own."""
        status = await self.dispatcher.run(line, session)
        return Answer(status, session.out, session.err)

    async def deployed(self, name: str = "blog", files: dict[str, str] | None = None) -> tuple[App, Deploy]:
        """Have an app with a live release."""
        app = await self.core.create(name)
        deploy = await self.core.push(app, files or DOCKERFILE)
        await self.core.settle()
        now = await self.database.read.apps.get(app.id)
        assert now is not None and now.live_release
        return now, await self.core.deploy(deploy)
