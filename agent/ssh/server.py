"""Listens for SSH: joins the door, the gates and the shell, and ends what must end.

Every session is a task of the listener, not of asyncssh, for which an exception in a session is a reason to drop the
whole connection. A removed key ends its connections in the moment its removal is committed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import asyncssh
import structlog

from agent.ports.session import LOCAL_NAME, User
from agent.settings import SshSettings
from agent.ssh.channel import Channel
from agent.ssh.door import Door, bind
from agent.ssh.gate import Gate
from agent.ssh.hostkey import ServerKeys, fingerprint_of
from agent.state.database import Database
from proto.events import Event, KeyRemoved
from proto.names import Fingerprint

log = structlog.get_logger(__name__)

CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
"""AES-GCM first: 311 MB/s here. chacha20 (124 MB/s), which many clients like best, is left out; CTR is for old ones."""

GRACE = 2.0
"""Seconds that sessions get when the server stops: enough for a command, and nobody waits long for those who watch."""

UNANSWERED = 3
"""Keep-alive questions without an answer after which a connection is dead."""

Answer = Callable[[Channel], Coroutine[object, object, None]]
"""Runs one session to its end, its exit status included. ``Shell.serve``."""


class Listener:
    """A running SSH server."""

    def __init__(
        self,
        settings: SshSettings,
        *,
        options: asyncssh.SSHServerConnectionOptions,
        local: Fingerprint,
        database: Database,
        answer: Answer,
        listening: socket.socket,
    ) -> None:
        self._settings = settings
        self._options = options
        self._local = local
        self._database = database
        self._answer = answer
        self._gates: set[Gate] = set()
        self._sessions: set[asyncio.Task[None]] = set()
        self._door = Door(
            listening,
            self._serve,
            most=settings.max_unauthenticated,
            most_per_source=settings.max_unauthenticated_per_source,
        )
        self._is_closing = False

    @property
    def port(self) -> int:
        """The TCP port, also where the system chose it."""
        return self._door.port

    @property
    def door(self) -> Door:
        """Who waits, and how many have not signed in."""
        return self._door

    def open(self) -> None:
        """Begin to accept."""
        self._database.listeners.append(self._on_events)
        self._door.open()

    async def close(self, *, grace: float = GRACE) -> None:
        """Accept no more; give sessions `grace` seconds to end, then end them and return when all is gone.

        A deploy that somebody watches goes on without the watcher. Repeating is harmless.
        """
        self._is_closing = True
        self._door.close()
        if self._on_events in self._database.listeners:
            self._database.listeners.remove(self._on_events)
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=grace)
        for session in self._sessions:
            session.cancel()
        while self._sessions:
            await asyncio.wait(self._sessions)
        for gate in list(self._gates):
            gate.close("The server is stopping")
        await self._door.wait_closed()

    # What the gates call.

    def entered(self, gate: Gate) -> None:
        """See `House.entered`."""
        log.debug("ssh.signed-in", fingerprint=gate.candidate)

    def left(self, gate: Gate) -> None:
        """See `House.left`."""
        self._gates.discard(gate)

    def started(self, channel: Channel) -> None:
        """See `House.started`."""
        session = asyncio.get_running_loop().create_task(self._answer(channel))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, connection: socket.socket, decided: asyncio.Future[bool]) -> None:
        gate = Gate(self, self._find_user, self._settings, decided)
        self._gates.add(gate)
        try:
            await asyncssh.run_server(connection, options=self._options, server_factory=lambda: gate)
            if self._is_closing:
                gate.close("The server is stopping")
            await gate.ended()
        except (asyncssh.Error, OSError) as error:
            # Normal: scanners, clients that know no key of ours, networks that go away.
            log.debug("ssh.login-failed", reason=str(error))
        finally:
            self._gates.discard(gate)

    async def _find_user(self, fingerprint: Fingerprint) -> User | None:
        if fingerprint == self._local:
            return User(LOCAL_NAME, fingerprint, is_local=True)
        key = await self._database.read.keys.get(fingerprint)
        return None if key is None else User(key.name, key.fingerprint)

    def _on_events(self, events: Sequence[tuple[int, Event]]) -> None:
        removed = {event.fingerprint for _, event in events if isinstance(event, KeyRemoved)}
        if removed:
            for gate in [gate for gate in self._gates if gate.candidate in removed]:
                gate.close("This key may no longer sign in")


@asynccontextmanager
async def listening(
    settings: SshSettings, *, keys: ServerKeys, database: Database, answer: Answer, grace: float = GRACE
) -> AsyncIterator[Listener]:
    """Run the SSH server for the length of a block; see `listen` and `Listener.close`."""
    listener = await listen(settings, keys=keys, database=database, answer=answer)
    try:
        yield listener
    finally:
        await listener.close(grace=grace)


async def listen(settings: SshSettings, *, keys: ServerKeys, database: Database, answer: Answer) -> Listener:
    """Start the SSH server and return it.

    Raises:
        Misconfigured: ``ssh.port``, the address cannot be had.
    """
    options = await asyncssh.SSHServerConnectionOptions.construct(
        server_host_keys=[keys.host],
        encryption_algs=list(CIPHERS),
        # A compressed stream before the login is a bomb waiting to be sent, and packs are compressed already.
        compression_algs=["none"],
        encoding=None,
        line_editor=False,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_scp=False,
        login_timeout=settings.login_grace,
        keepalive_interval=settings.keepalive,
        keepalive_count_max=UNANSWERED,
        server_version="Pushboat",
    )
    listener = Listener(
        settings,
        options=options,
        local=fingerprint_of(keys.local),
        database=database,
        answer=answer,
        listening=bind(settings.host, settings.port),
    )
    listener.open()
    return listener
