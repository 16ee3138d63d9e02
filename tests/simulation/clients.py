"""People who push and give commands, and note in the ledger what they were told.

Each has one app at a time. What he asks for goes through the real dispatcher, and so do his pushes, in git's protocol.
He may leave before the answer comes, and the server may die while he waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.commands.dispatcher import Dispatcher
from agent.errors import UserError
from agent.state.apps import App
from agent.state.database import Database
from proto.names import AppId, AppName, ProcessType
from proto.wire import Exit
from tests.fakes.git import REF, GitClient
from tests.fakes.session import FakeSession
from tests.simulation.ledger import AppLedger, Ledger, Value

STATUSES = {int(Exit.OK), int(Exit.FAILED), int(Exit.NO_SUCH_APP), int(Exit.UNAVAILABLE)}
"""What a command may answer in a simulation. Anything else is our mistake."""

PAUSE_SECONDS = 6.0
"""Mean, between a person's commands."""

PROCFILE = "web: ./serve\nworker: ./work\n"
WITH_TASK = f"{PROCFILE}release: ./migrate\n"
BROKEN_BUILD = "RUN false\n"
CRASHES = "CMD crash\n"
"""In a Dockerfile: its containers end at once."""


class Door(NamedTuple):
    """The agent as people reach it, in one of its lives."""

    database: Database
    dispatcher: Dispatcher


class Order(NamedTuple):
    """Something asked for, and not answered yet."""

    session: FakeSession
    words: str
    """Printed when what was asked for is stored; empty: status 0 says so."""
    take: Callable[[], None]
    """Notes that it was acknowledged."""

    def judge(self, status: int | None) -> None:
        """Note an acknowledgement. `status`: `None` if the server died."""
        if (self.words in self.session.out + self.session.err) if self.words else status == Exit.OK:
            self.take()


class Client:
    """One person and his app."""

    def __init__(
        self,
        number: int,
        *,
        dice: random.Random,
        ledger: Ledger,
        tell: Callable[[str], None],
        give_up: Callable[[AppId], None],
    ) -> None:
        """`give_up` is told of apps whose replicas of now may be ended because somebody asked for it."""
        self.complaints: list[str] = []
        self._number = number
        self._dice = dice
        self._ledger = ledger
        self._tell = tell
        self._give_up = give_up
        self._names = [AppName(f"app-{number}-{letter}") for letter in "abc"]
        self._app: AppId | None = None
        self._wished: AppName | None = None
        """The name of an app whose creation was not acknowledged."""
        self._open: list[Order] = []
        self._commits = 0
        self._unheard: tuple[str, dict[str, str]] | None = None
        """The last commit that was pushed and its files, if nobody said that it was stored."""
        self._first: set[str] = set()
        """Commits that were acknowledged for an app that they made, and which was not looked at since."""
        self._is_patient = False

    async def live(self, door: Door) -> None:
        """Ask for this and that until cancelled."""
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / PAUSE_SECONDS))
            with contextlib.suppress(UserError):
                await self._do_something(door)

    def server_died(self) -> None:
        """Take stock of what was acknowledged before the connection broke."""
        for order in self._open:
            order.judge(None)
        self._open.clear()

    @property
    def app(self) -> AppId:
        """The app that he has."""
        return self._app or AppId("none")

    async def push_now(self, door: Door) -> int | None:
        """Push something that is well; return the exit status, or `None` if there is no app."""
        found = await self._look(door)
        if found is None:
            return None
        self._is_patient = True
        return await self._push(door, *found, extra="")

    # What is done.

    async def _do_something(self, door: Door) -> None:
        found = await self._look(door)
        if found is None:
            await self._create(door)
            return
        acts: list[tuple[int, Callable[[Door, App, AppLedger], Awaitable[object]]]] = [
            (6, self._push_something),
            (5, self._set_config),
            (2, self._unset_config),
            (5, self._scale),
            (2, self._stop),
            (3, self._start),
            (3, self._roll_back),
            (2, self._restart),
            (2, self._restart_type),
            (2, self._choose_strategy),
            (2, self._rename),
            (1, self._destroy),
            (3, self._change_domain),
            (2, self._change_registry),
            (1, self._cancel),
            (3, self._read),
        ]
        act = self._dice.choices([act for _, act in acts], [weight for weight, _ in acts])[0]
        await act(door, *found)

    async def _look(self, door: Door) -> tuple[App, AppLedger] | None:
        """Return the person's app as it is now, if he has one."""
        read = door.database.read
        if self._app is None and self._wished is not None:
            row = await read.apps.by_name(self._wished)
            if row is not None:
                self._adopt(row)
            elif self._first:
                self.complaints.append(f"a push that made {self._wished} was acknowledged, and it is not there")
        if self._app is None:
            return None
        row, ledger = await read.apps.get(self._app), self._ledger.apps[self._app]
        if row is None or row.destroyed_at is not None:
            if ledger.may_be_gone:
                ledger.exists.acknowledged(False)
            self._app = None
            return None
        return row, ledger

    def _adopt(self, row: App) -> None:
        self._app, self._wished = row.id, None
        self._ledger.apps[row.id] = AppLedger(row.name)
        self._ledger.apps[row.id].commits |= self._first
        self._first.clear()

    async def _create(self, door: Door) -> None:
        name = self._dice.choice(self._names)
        self._wished = name
        self._ledger.unsure.add(name)
        if self._dice.random() < 0.3:
            await self._push_to(door, name, extra="", take=self._first.add)
            status = Exit.OK if self._first else Exit.FAILED
        else:
            status = await self._give(door, f"apps:create {name}")
        row = await door.database.read.apps.by_name(name)
        if row is not None:
            self._adopt(row)
        elif status == Exit.OK:
            self.complaints.append(f"{name} was created and is not there")

    async def _push_something(self, door: Door, app: App, ledger: AppLedger) -> None:
        extra = self._dice.choices(["", BROKEN_BUILD, CRASHES], [6, 1, 1])[0]
        await self._push(door, app, ledger, extra=extra)

    async def _push(self, door: Door, app: App, ledger: AppLedger, *, extra: str) -> int:
        ledger.will_start()
        return await self._push_to(door, app.name, extra=extra, take=ledger.commits.add)

    async def _push_to(self, door: Door, name: str, *, extra: str, take: Callable[[str], None]) -> int:
        """Push a new commit, or again the last one if nobody said that it was stored. `take` notes that it was."""
        if self._unheard is None or self._is_patient or self._dice.random() < 0.5:
            self._commits += 1
            procfile = PROCFILE if self._commits % 3 else WITH_TASK
            files = {"Dockerfile": f"FROM scratch\nEXPOSE {5000 + self._commits}\n{extra}", "Procfile": procfile}
            self._unheard = f"{self._number:02x}{self._commits:038x}", files
        commit, files = self._unheard
        breaks_off_at = self._dice.random() if not self._is_patient and self._dice.random() < 0.15 else None
        session = GitClient(commit, files, breaks_off_at=breaks_off_at)
        self._may_leave(session)

        def taken() -> None:
            self._unheard = None
            take(commit)

        self._tell(f"push {name} {commit[-6:]} {extra!r}")
        order = Order(session, f"ok {REF}\n", taken)
        self._open.append(order)
        status = await door.dispatcher.run(f"git-receive-pack '{name}'", session)
        self._open.remove(order)
        order.judge(status)
        self._tell(f"pushed {name} {commit[-6:]} -> {status}")
        if status not in STATUSES:
            self.complaints.append(f"the push of {commit} answered {status}: {session.err}")
        return status

    async def _set_config(self, door: Door, app: App, ledger: AppLedger) -> None:
        value = f"canary-{self._dice.randrange(1 << 40):010x}"
        self._ledger.secrets.add(value)
        await self._config(door, ledger, key=self._key(), value=value, line=f"config:set{{}} {app.name} {{}}={value}")

    async def _unset_config(self, door: Door, app: App, ledger: AppLedger) -> None:
        await self._config(door, ledger, key=self._key(), value=None, line=f"config:unset{{}} {app.name} {{}}")

    async def _config(self, door: Door, ledger: AppLedger, *, key: str, value: Value, line: str) -> None:
        flag = self._dice.choice(["", "", " --no-restart"])
        thing = ledger.config[key]
        thing.asked(value)
        if not flag:
            ledger.will_start()
        await self._give(door, line.format(flag, key), "config vars", lambda: thing.acknowledged(value))

    async def _scale(self, door: Door, app: App, ledger: AppLedger) -> None:
        wanted = {
            ProcessType("web"): self._dice.choice([1, 1, 2, 3, 4, 0]),
            ProcessType("worker"): self._dice.randrange(3),
        }
        for process, count in wanted.items():
            ledger.scale[process].asked(count)

        if not wanted[ProcessType("web")]:
            self._give_up(app.id)

        def take() -> None:
            for process, count in wanted.items():
                ledger.scale[process].acknowledged(count)
            if not wanted[ProcessType("web")]:
                self._give_up(app.id)

        words = " ".join(f"{process}={count}" for process, count in wanted.items())
        await self._give(door, f"ps:scale {app.name} {words}", "Scaling", take)

    async def _stop(self, door: Door, app: App, ledger: AppLedger) -> None:
        is_quiet = not await door.database.read.deploys.under_way(app.id)
        ledger.is_stopped.asked(True)
        self._give_up(app.id)

        def take() -> None:
            self._give_up(app.id)
            ledger.is_stopped.acknowledged(True)
            if not is_quiet:
                ledger.will_start()

        await self._give(door, f"ps:stop {app.name}", "Stopping", take)

    async def _start(self, door: Door, app: App, ledger: AppLedger) -> None:
        ledger.will_start()
        if app.live_release is None:
            await self._give(door, f"ps:start {app.name}")
        else:
            await self._give(door, f"ps:start {app.name}", "Starting", lambda: ledger.is_stopped.acknowledged(False))

    async def _roll_back(self, door: Door, app: App, ledger: AppLedger) -> None:
        flag = self._dice.choice(["", " --code-only"])
        if not flag:
            for thing in ledger.config.values():
                thing.anything()
        ledger.will_start()
        await self._give(door, f"releases:rollback {app.name}{flag}")

    async def _restart(self, door: Door, app: App, ledger: AppLedger) -> None:
        ledger.will_start()
        await self._give(door, f"{self._dice.choice(['ps:restart', 'ps:rebuild'])} {app.name}")

    async def _restart_type(self, door: Door, app: App, ledger: AppLedger) -> None:
        await self._give(door, f"ps:restart {app.name} {self._dice.choice(['web', 'worker'])}")

    async def _choose_strategy(self, door: Door, app: App, ledger: AppLedger) -> None:
        words = ["strategy rolling", "strategy all-at-once", "strategy.worker rolling", "strategy.worker stop-first"]
        await self._give(door, f"ps:set {app.name} {self._dice.choice(words)}")

    async def _rename(self, door: Door, app: App, ledger: AppLedger) -> None:
        name = self._dice.choice(self._names)
        ledger.name.asked(name)
        await self._give(door, f"apps:rename {app.name} {name}", "", lambda: ledger.name.acknowledged(name))

    async def _destroy(self, door: Door, app: App, ledger: AppLedger) -> None:
        ledger.exists.asked(False)
        self._give_up(app.id)
        await self._give(door, f"apps:destroy {app.name} --force", "", lambda: ledger.exists.acknowledged(False))

    async def _change_registry(self, door: Door, app: App, ledger: AppLedger) -> None:
        # Without a server each release that is to be pushed fails, as it should.
        if await self._give(door, f"registry:set {app.name} server registry.example.com") == Exit.OK:
            await self._give(door, f"registry:set {app.name} push-on-release {self._dice.choice(('true', 'false'))}")

    async def _change_domain(self, door: Door, app: App, ledger: AppLedger) -> None:
        domain = f"d{self._dice.randrange(3)}.{self._number}.example.org"
        verb = self._dice.choice(["add", "add", "remove"])
        thing, value = ledger.domains[domain], verb == "add"
        thing.asked(value)
        await self._give(door, f"domains:{verb} {app.name} {domain}", "", lambda: thing.acknowledged(value))

    async def _cancel(self, door: Door, app: App, ledger: AppLedger) -> None:
        await self._give(door, f"deploys:cancel {app.name}")

    async def _read(self, door: Door, app: App, ledger: AppLedger) -> None:
        command = self._dice.choice(["apps:report", "ps:report", "deploys", "releases", "domains:report", "events"])
        await self._give(door, f"{command} {app.name}")

    # How it is done.

    def _key(self) -> str:
        return f"KEY{self._dice.randrange(3)}"

    def _session(self) -> FakeSession:
        """Return a session that may be left before its answer."""
        session = FakeSession()
        self._may_leave(session)
        return session

    def _may_leave(self, session: FakeSession) -> None:
        if not self._is_patient and self._dice.random() < 0.3:
            asyncio.get_running_loop().call_later(self._dice.expovariate(1 / 5), session.left.set)

    async def _give(self, door: Door, line: str, words: str = "", take: Callable[[], None] = lambda: None) -> int:
        """Give a command; note an acknowledgement, and complain about an answer that must not be."""
        self._tell(f"? {line.partition('=canary')[0]}")
        order = Order(self._session(), words, take)
        self._open.append(order)
        status = await door.dispatcher.run(line, order.session)
        self._open.remove(order)
        order.judge(status)
        self._tell(f"= {line.partition('=canary')[0]} -> {status}")
        if status not in STATUSES:
            self.complaints.append(f"{line} answered {status}: {order.session.err}")
        return status
