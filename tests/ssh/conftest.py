"""A whole front door in this process: real database, real repositories, real SSH; commands and watchers are fakes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import msgspec
import pytest

from agent.commands.services import Services, git_line
from agent.git.receive import PushLimits
from agent.git.repos import GitRepos
from agent.git.tree import Caps
from agent.lifecycle import deploys, keys
from agent.lifecycle.cleaning import Doorkeeper
from agent.ports.session import Session, Terminal
from agent.settings import SshSettings
from agent.ssh.fetch import Fetches
from agent.ssh.hostkey import ServerKeys, fingerprint_of, open_keys
from agent.ssh.push import Pushes
from agent.ssh.server import Listener, listen
from agent.ssh.shell import Shell
from agent.state.apps import App
from agent.state.database import Database
from agent.state.deploys import Deploy
from agent.vault import Vault
from proto.names import DeployId, Fingerprint
from tests.fakes.disks import FakeDisks
from tests.fakes.world import FakeClock, SeededIds

SECONDS = 20.0
"""Patience of a test with real processes."""


@dataclass
class FakeDispatcher:
    """Runs what the test gave it for the first word of a line; answers with the line otherwise. Git is served."""

    services: Services
    seen: list[str] = field(default_factory=list)
    commands: dict[str, Callable[[str, Session], object]] = field(default_factory=dict)

    async def run(self, line: str, session: Session) -> int:
        if asked := git_line(line):
            return await self.services.serve(asked, session)
        self.seen.append(line)
        command = self.commands.get(line.partition(" ")[0])
        if command is None:
            await session.write(f"{session.user.name}: {line}".encode())
            return 0
        return await command(line, session)  # type: ignore[misc]


class FakeWatcher:
    """Shows one line and ends each deploy as the test wants, or waits until the test does."""

    def __init__(self, database: Database) -> None:
        self.outcome: str | None = "live"
        self.watched: list[DeployId] = []
        self.left = asyncio.Event()
        self._database = database

    async def watch(self, deploy: DeployId, terminal: Terminal, *, to_stderr: bool = False) -> int:
        assert to_stderr, "git shows standard error"
        self.watched.append(deploy)
        # Before anything is waited for: a test that sees it watched may go on to what the next one comes to.
        is_held = self.outcome is None
        row = await self._database.read.deploys.get(deploy)
        assert row is not None
        if is_held:
            await terminal.gone()
            self.left.set()
            return 1
        if not row.is_over:
            await self.end(row)
        await terminal.write_error(f"outcome of {deploy}: {self.outcome}\n".encode())
        return 0 if self.outcome == "live" else 1

    async def end(self, deploy: Deploy) -> None:
        async with self._database.transaction() as tx:
            if self.outcome == "failed":
                await deploys.fail(tx, deploy=deploy, stage="build", reason="it broke")
            elif self.outcome == "cancelled":
                await deploys.cancel(tx, deploy=deploy, by="Ann")
            else:
                await tx.deploys.move(deploy.id, old=("accepted",), new="live", at=tx.now)


@dataclass
class House:
    """The front door and what is behind it."""

    folder: Path
    database: Database
    repos: GitRepos
    dispatcher: FakeDispatcher
    watcher: FakeWatcher
    keys: ServerKeys
    ids: SeededIds
    listener: Listener
    pushes: Pushes
    disks: FakeDisks
    ann: Path
    """Private key file of a user."""

    @property
    def port(self) -> int:
        return self.listener.port

    async def add_key(self, name: str, key: asyncssh.SSHKey) -> Fingerprint:
        public = " ".join(key.export_public_key("openssh").decode().split()[:2])
        async with self.database.transaction() as tx:
            await keys.add(tx, name=name, public=public, fingerprint=fingerprint_of(key))
        return fingerprint_of(key)

    async def remove_key(self, fingerprint: Fingerprint) -> None:
        async with self.database.transaction() as tx:
            key = await tx.keys.get(fingerprint)
            assert key is not None
            await keys.remove(tx, key=key)

    async def app(self, name: str) -> App:
        app = await self.database.read.apps.by_name(name)
        assert app is not None, f"there is no app {name}"
        return app

    async def deploys(self, name: str) -> list[Deploy]:
        return await self.database.read.deploys.of_app((await self.app(name)).id)

    async def records(self) -> list[tuple[str, str, str | None, int]]:
        """Return what was asked for: by whom, what, of which app, and how it ended. The oldest first."""
        newest = await self.database.read.invocations.newest(1_000)
        return [(row.user, row.command, row.app, row.status) for row in reversed(newest)]

    def repo(self, app: App) -> Path:
        return self.repos.path(app.id)

    def connect(
        self, key: Path | asyncssh.SSHKey | None = None, **options: object
    ) -> asyncssh.misc._ACMWrapper[object]:
        """Return asyncssh's context manager of a connection as Ann (or another key)."""
        chosen = {"client_keys": [key or str(self.ann)], "agent_path": None, "config": None, "username": "anybody"}
        known = ([self.keys.host.convert_to_public()], [], [])
        where = {"host": "127.0.0.1", "port": self.port, "known_hosts": known}
        return asyncssh.connect(**{**where, **chosen, **options})

    def ssh_options(self, key: Path | None = None) -> list[str]:
        known = self.folder / "known_hosts"
        public = self.keys.host.export_public_key("openssh").decode().strip()
        known.write_text(f"[127.0.0.1]:{self.port} {public}\n")
        return [
            *("-F", "none", "-p", str(self.port), "-i", str(key or self.ann), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={known}", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
        ]

    async def ssh(
        self, *words: str, key: Path | None = None, stdin: bytes = b"", options: Sequence[str] = ()
    ) -> Finished:
        """Run the OpenSSH client."""
        return await run("ssh", *self.ssh_options(key), *options, "127.0.0.1", *words, stdin=stdin)

    def git_environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            # Much of what is pushed is noise, and to compress it would take most of the time.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.compression",
            "GIT_CONFIG_VALUE_0": "0",
            "GIT_SSH_COMMAND": "ssh " + " ".join(self.ssh_options()),
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.com",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.com",
            **more,
        }

    def url(self, path: str = "blog") -> str:
        return f"ssh://anybody@127.0.0.1:{self.port}/{path}"

    def clone(self, name: str = "work") -> Clone:
        """Return a new work tree with one commit on main."""
        clone = Clone(self, self.folder / name)
        clone.folder.mkdir()
        clone.run("init", "-q", "--initial-branch=main")
        clone.commit("Dockerfile", "FROM scratch\n")
        return clone


class Finished(msgspec.Struct):
    """How a program ended."""

    status: int
    out: bytes
    err: str


@dataclass
class Clone:
    """Somebody's work tree."""

    house: House
    folder: Path

    def run(self, *arguments: str) -> str:
        """Run git on this machine alone."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=self.house.git_environment(), capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(self, path: str, content: str | bytes, *, message: str = "A change") -> str:
        (self.folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
        self.run("add", "--all")
        self.run("commit", "-q", "--allow-empty", "-m", message)
        return self.run("rev-parse", "HEAD")

    async def git(self, *arguments: str, **environment: str) -> Finished:
        """Run git against the server."""
        return await run("git", *arguments, cwd=self.folder, env=self.house.git_environment(**environment))

    async def push(self, *arguments: str, path: str = "blog", **environment: str) -> Finished:
        return await self.git("push", self.house.url(path), *(arguments or ("main",)), **environment)


async def run(
    *command: str, stdin: bytes = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            # The whole session: git leaves an ssh behind that holds the pipes.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Finished(process.returncode or 0, out, err.decode("utf-8", "replace"))


async def eventually(is_so: Callable[[], bool], *, what: str, seconds: float = SECONDS) -> None:
    """Return once `is_so`; real sockets and processes have nothing to wait on."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not is_so():
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


class Builder:
    """Opens front doors for a test, each closed at its end."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack

    async def __call__(
        self,
        *,
        limits: PushLimits | None = None,
        caps: Caps | None = None,
        creates_apps: bool = True,
        **settings: object,
    ) -> House:
        vault = Vault.open(self._folder / "vault.key", may_create=True, token=SeededIds(seed=1).token)
        database = await self._stack.enter_async_context(
            Database.open(self._folder / "pushboat.db", routes={}, clock=FakeClock(), vault=vault)
        )
        own = await asyncio.to_thread(open_keys, self._folder)
        ann = self._folder / "ann"
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(ann))
        ann.chmod(0o600)
        ids = SeededIds()
        repos = GitRepos(self._folder / "repos", caps=caps)
        watcher = FakeWatcher(database)
        disks = FakeDisks()
        door = Doorkeeper(disks, build_bytes=1, push_bytes=1)
        pushes = Pushes(database, repos, watcher, ids=ids, door=door, limits=limits, creates_apps=creates_apps)
        dispatcher = FakeDispatcher(Services((pushes, Fetches(database, repos)), database=database))
        listener = await listen(
            SshSettings(**{"host": "127.0.0.1", "port": 0, **settings}),  # type: ignore[arg-type]
            keys=own,
            database=database,
            answer=Shell(dispatcher, ids=ids).serve,
        )
        self._stack.push_async_callback(listener.close, grace=0.0)
        house = House(self._folder, database, repos, dispatcher, watcher, own, ids, listener, pushes, disks, ann)
        await house.add_key("ann", key)
        return house


@pytest.fixture
async def open_house(tmp_path: Path) -> AsyncIterator[Builder]:
    async with AsyncExitStack() as stack:
        yield Builder(tmp_path, stack)


@pytest.fixture
async def house(open_house: Builder) -> House:
    return await open_house()
