"""What a command is: its arguments, its behaviour, its answer and its help, in one class.

    class AppsRename(Command, frozen=True, kw_only=True):
        '''Give an app another name.

        What it runs is not touched …
        '''

        name = "apps:rename"
        permission = "change"

        app: App
        new_name: Annotated[AppName, Argument(help="Its new name.")]

        async def run(self, ctx: Context) -> Reply: …

Parser, help, documentation and completion are derived from it. Modules that define commands are listed in
``agent.commands.registry``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from agent.commands.replies import Reply
from agent.commands.requests import Permission
from agent.commands.screen import Screen, read_line
from agent.errors import UserError
from agent.lifecycle.cleaning import Cleaner, Doorkeeper
from agent.ports.disk import Disks
from agent.ports.images import Choose, Images, Workshops
from agent.ports.logs import LogReader, Transcripts
from agent.ports.proxy import Proxy
from agent.ports.registries import Registries
from agent.ports.remotes import Remotes
from agent.ports.scheduler import Prober, Resources, Scheduler
from agent.ports.session import Session, User
from agent.ports.source import Downloads, SourceRepo
from agent.ports.world import Clock, Ids
from agent.state import apps
from agent.state.database import Database
from proto.names import SERVER, AppId


class Doctor(Protocol):
    """Anything that can tell what is wrong with itself."""

    async def problems(self) -> Sequence[tuple[str, str]]:
        """Return what is wrong, each with what to do. Empty: all is well. Never raises."""
        ...


class Guide(Protocol):
    """Knows the commands, for those who ask about them."""

    def help(self, topic: str, *, is_all: bool = False) -> list[str]:
        """Return the help on a command or a noun; on everything if `topic` is empty.

        Raises:
            UserError: ``command.unknown``.
        """
        ...

    def candidates(self, words: Sequence[str]) -> list[str]:
        """Return what the last of `words` may become."""
        ...


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What answers tell of the server."""

    version: str
    host: str
    """The name or address that people reach it by, for URLs of git remotes; empty if nobody said."""
    ssh_port: int
    http_port: int
    """The port that URLs name; 80 is left out of them."""
    stop_seconds: float = 30.0
    """Default of ``ps:set stop-timeout-seconds``."""
    drain_seconds: float = 60.0
    """Default of ``checks:set wait-to-retire``."""
    repositories: str = ""
    """The folder that holds each app's repository under the app's id."""
    creates_apps: bool = True
    """Whether a push to an app that does not exist creates it."""
    task_seconds: float = 1800.0
    """Default of ``ps:set task-timeout-seconds``."""
    archive_bytes: int = 1 << 30
    """That an archive may have as it is sent."""
    archive_files: int = 100_000
    """That an archive may hold."""
    build_seconds: float = 1800.0
    """Default of ``builder:set timeout-seconds``."""
    resources: Resources = Resources()
    """Default limits of containers."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What commands may use of the agent. One for all."""

    database: Database
    scheduler: Scheduler
    prober: Prober
    proxy: Proxy
    images: Images
    workshops: Workshops
    registries: Registries
    choose: Choose
    source: SourceRepo
    disks: Disks
    cleaner: Cleaner
    door: Doorkeeper
    downloads: Downloads
    remotes: Remotes
    transcripts: Transcripts
    logs: LogReader
    clock: Clock
    ids: Ids
    server: ServerFacts
    doctors: Sequence[tuple[str, Doctor]] = ()
    """Who is asked by ``doctor``, each with what is looked at."""
    remarkers: Sequence[tuple[str, Doctor]] = ()
    """Who is asked by ``doctor`` for what is worth knowing and is no fault."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said with any command."""

    quiet: bool = False
    force: bool = False
    as_json: bool = False


class Context:
    """One command's view of the world: who asks, from where, about which app, and how."""

    def __init__(self, world: World, *, guide: Guide, session: Session, options: Options, app: apps.App | None) -> None:
        self.guide = guide
        self.database = world.database
        self.scheduler = world.scheduler
        self.prober = world.prober
        self.proxy = world.proxy
        self.images = world.images
        self.workshops = world.workshops
        self.registries = world.registries
        self.choose = world.choose
        self.source = world.source
        self.disks = world.disks
        self.cleaner = world.cleaner
        self.door = world.door
        self.downloads = world.downloads
        self.remotes = world.remotes
        self.transcripts = world.transcripts
        self.logs = world.logs
        self.clock = world.clock
        self.ids = world.ids
        self.server = world.server
        self.doctors = world.doctors
        self.remarkers = world.remarkers
        self.session = session
        self.options = options
        self.screen = Screen(session)
        self._app = app

    @property
    def user(self) -> User:
        """Who asks."""
        return self.session.user

    @property
    def app(self) -> apps.App:
        """The app that the command names; the dispatcher has looked it up."""
        assert self._app is not None, "the command takes no app, or was given none"
        return self._app

    @property
    def maybe_app(self) -> apps.App | None:
        """The app that the command names, if it names one."""
        return self._app

    @property
    def target(self) -> AppId:
        """The app's id, or ``SERVER`` where ``--global`` stands in its place."""
        return self._app.id if self._app else SERVER

    async def progress(self, line: str) -> None:
        """Tell people what happens while a command works; scripts and quiet ones are spared."""
        if not self.options.quiet and not self.options.as_json:
            await self.screen.line(line)

    async def confirm(self, what: str, *, name: str) -> None:
        """Make sure that somebody means it: by ``--force``, or by typing the name. Scripts are not talked to.

        Raises:
            UserError: ``command.not-confirmed``.
        """
        if self.options.force:
            return
        if not self.options.as_json:
            await self.screen.trouble(
                f"This destroys the {what} {name}, and it cannot be undone.", f'To go on, type "{name}".'
            )
            await self.screen.prompt("> ")
        if (await read_line(self.session)).strip() != name:
            raise UserError(
                "command.not-confirmed",
                f"That is not {name}. Nothing was changed.",
                "In scripts, confirm with: --force",
            )


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to ask for. Fields are the arguments in order, the docstring is the help."""

    name: ClassVar[str]
    """What users type."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that are understood, and not listed."""
    permission: ClassVar[Permission]
    """Who may: see `Permission`. A command without one stops the start."""
    destroys: ClassVar[bool] = False
    """Whether it asks for a typed confirmation unless ``--force`` is given (`Context.confirm`)."""
    is_interactive: ClassVar[bool] = False
    """Whether the client should ask for a pty: what it runs reads from and draws on the terminal."""
    is_hidden: ClassVar[bool] = False
    """Whether help and documentation leave it out."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Command lines that show it at work."""

    @classmethod
    def further(cls) -> Sequence[tuple[str, str]]:
        """Return what else the help should list, each with what it means."""
        return ()

    async def run(self, ctx: Context) -> Reply:
        """Do it.

        Raises:
            UserError: it cannot be done, and the user can do something about it.
        """
        raise NotImplementedError
