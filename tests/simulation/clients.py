"""People who push and give commands, and note in the ledger what they were told.

Each has one app at a time. What he asks for goes through the real dispatcher, and so do his pushes, in git's protocol.
He may leave before the answer comes, and the server may die while he waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from agent.commands.dispatcher import Dispatcher
from agent.errors import UserError
from agent.state.apps import App
from agent.state.database import Database, Tables
from proto.names import AppId, AppName, ProcessType
from proto.wire import Exit
from tests.fakes.git import REF, GitClient
from tests.fakes.session import FakeSession
from tests.simulation.ledger import CANARY, AppLedger, Ledger, Value

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
    ledger: AppLedger
    """Of the app that it is about."""

    def judge(self, status: int | None) -> None:
        """Note what was acknowledged. `status`: `None` if the server died."""
        text = self.session.out + self.session.err
        if self.words in text if self.words else status == Exit.OK:
            self.take()
        self.ledger.heard(text, status=status)


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
        self._commits, self._commit = 0, ""
        """How many there are, and the last that was pushed."""
        self._unheard: tuple[str, dict[str, str]] | None = None
        """The last commit that was pushed and its files, if nobody said that it was stored."""
        self._first: AppLedger | None = None
        """What was told of an app whose creation was asked for and which was not looked at since."""
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
            self._judge(order, None)
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

    async def is_served_what_was_pushed(self, read: Tables) -> bool:
        """Tell whether the live release is of the commit that he pushed last."""
        app = await read.apps.get(self.app)
        release = await read.releases.get(app.id, app.live_release or 0) if app else None
        return release is not None and release.commit_id == self._commit

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
            elif self._first is not None and self._first.commits:
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
        self._ledger.apps[row.id] = self._first or AppLedger(row.name)
        self._app, self._wished, self._first = row.id, None, None

    async def _create(self, door: Door) -> None:
        name = self._dice.choice(self._names)
        self._wished = name
        self._ledger.unsure.add(name)
        self._first = AppLedger(name)
        if self._dice.random() < 0.3:
            await self._push_to(door, name, self._first, extra="")
            status = Exit.OK if self._first.commits else Exit.FAILED
        else:
            status = await self._give(door, f"apps:create {name}", self._first)
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
        return await self._push_to(door, app.name, ledger, extra=extra)

    async def _push_to(self, door: Door, name: str, ledger: AppLedger, *, extra: str) -> int:
        """Push a new commit, or again the last one if nobody said that it was stored."""
        if self._unheard is None or self._is_patient or self._dice.random() < 0.5:
            self._commits += 1
            procfile = PROCFILE if self._commits % 3 else WITH_TASK
            files = {"Dockerfile": f"FROM scratch\nEXPOSE {5000 + self._commits}\n{extra}", "Procfile": procfile}
            self._unheard = f"{self._number:02x}{self._commits:038x}", files
        commit, files = self._unheard
        self._commit = commit
        breaks_off_at = self._dice.random() if not self._is_patient and self._dice.random() < 0.15 else None
        session = GitClient(commit, files, breaks_off_at=breaks_off_at)
        self._may_leave(session)

        def taken() -> None:
            self._unheard = None
            ledger.commits.add(commit)

        ledger.asked["push"] += 1
        self._tell(f"push {name} {commit[-6:]} {extra!r}")
        order = Order(session, f"ok {REF}\n", taken, ledger)
        self._open.append(order)
        status = await door.dispatcher.run(f"git-receive-pack '{name}'", session)
        self._open.remove(order)
        self._judge(order, status)
        self._tell(f"pushed {name} {commit[-6:]} -> {status}")
        if status not in STATUSES:
            self.complaints.append(f"the push of {commit} answered {status}: {session.err}")
        return status

    async def _set_config(self, door: Door, app: App, ledger: AppLedger) -> None:
        value = f"{CANARY}{self._dice.randrange(1 << 40):010x}"
        await self._config(door, ledger, key=self._key(), value=value, line=f"config:set{{}} {app.name} {{}}={value}")

    async def _unset_config(self, door: Door, app: App, ledger: AppLedger) -> None:
        await self._config(door, ledger, key=self._key(), value=None, line=f"config:unset{{}} {app.name} {{}}")

    async def _config(self, door: Door, ledger: AppLedger, *, key: str, value: Value, line: str) -> None:
        flag = self._dice.choice(["", "", " --no-restart"])
        thing = ledger.config[key]
        thing.asked(value)
        if not flag:
            ledger.will_start()
        await self._give(door, line.format(flag, key), ledger, "config vars", lambda: thing.acknowledged(value))

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
        await self._give(door, f"ps:scale {app.name} {words}", ledger, "Scaling", take)

    async def _stop(self, door: Door, app: App, ledger: AppLedger) -> None:
        is_quiet = not await door.database.read.deploys.under_way(app.id)
        ledger.is_stopped.asked(True)
        self._give_up(app.id)

        def take() -> None:
            self._give_up(app.id)
            ledger.is_stopped.acknowledged(True)
            if not is_quiet:
                ledger.will_start()

        await self._give(door, f"ps:stop {app.name}", ledger, "Stopping", take)

    async def _start(self, door: Door, app: App, ledger: AppLedger) -> None:
        ledger.will_start()
        if app.live_release is None:
            await self._give(door, f"ps:start {app.name}", ledger)
        else:
            take = partial(ledger.is_stopped.acknowledged, False)
            await self._give(door, f"ps:start {app.name}", ledger, "Starting", take)

    async def _roll_back(self, door: Door, app: App, ledger: AppLedger) -> None:
        flag = self._dice.choice(["", " --code-only"])
        if not flag:
            for thing in ledger.config.values():
                thing.anything()
        ledger.will_start()
        ledger.asked["rollback"] += 1
        await self._give(door, f"releases:rollback {app.name}{flag}", ledger)

    async def _restart(self, door: Door, app: App, ledger: AppLedger) -> None:
        ledger.will_start()
        command = self._dice.choice(["ps:restart", "ps:rebuild"])
        ledger.asked["restart"] += command == "ps:restart"
        await self._give(door, f"{command} {app.name}", ledger)

    async def _restart_type(self, door: Door, app: App, ledger: AppLedger) -> None:
        process = self._dice.choice(["web", "worker"])
        rows = await door.database.read.replicas.of_app(app.id)
        # Those of the live release: what else there is goes anyhow, or is to take the place of these.
        old = {row.id for row in rows if (row.process, row.release) == (process, app.live_release)}
        take = partial(ledger.replaced.update, old)
        await self._give(door, f"ps:restart {app.name} {process}", ledger, f"Restarting {process} of", take)

    async def _choose_strategy(self, door: Door, app: App, ledger: AppLedger) -> None:
        words = ["strategy rolling", "strategy all-at-once", "strategy.worker rolling", "strategy.worker stop-first"]
        await self._set(door, app, ledger, self._dice.choice([f"ps {one}" for one in (*words, "strategy")]))

    async def _rename(self, door: Door, app: App, ledger: AppLedger) -> None:
        name = self._dice.choice(self._names)
        ledger.name.asked(name)
        await self._give(door, f"apps:rename {app.name} {name}", ledger, "", lambda: ledger.name.acknowledged(name))

    async def _destroy(self, door: Door, app: App, ledger: AppLedger) -> None:
        ledger.exists.asked(False)
        self._give_up(app.id)
        take = partial(ledger.exists.acknowledged, False)
        await self._give(door, f"apps:destroy {app.name} --force", ledger, "", take)

    async def _change_registry(self, door: Door, app: App, ledger: AppLedger) -> None:
        # Without a server each release that is to be pushed fails, as it should.
        if await self._set(door, app, ledger, "registry server registry.example.com") == Exit.OK:
            await self._set(door, app, ledger, f"registry push-on-release {self._dice.choice(('true', 'false'))}")

    async def _set(self, door: Door, app: App, ledger: AppLedger, words: str) -> int:
        """Set a property, or unset it: noun, key and value."""
        noun, key, *values = words.split()
        thing, value = ledger.properties[f"{noun}.{key}"], values[0] if values else None
        thing.asked(value)
        line = " ".join([f"{noun}:set", app.name, key, *values])
        return await self._give(door, line, ledger, "", lambda: thing.acknowledged(value))

    async def _change_domain(self, door: Door, app: App, ledger: AppLedger) -> None:
        domain = f"d{self._dice.randrange(3)}.{self._number}.example.org"
        verb = self._dice.choice(["add", "add", "remove"])
        thing, value = ledger.domains[domain], verb == "add"
        thing.asked(value)
        await self._give(door, f"domains:{verb} {app.name} {domain}", ledger, "", lambda: thing.acknowledged(value))

    async def _cancel(self, door: Door, app: App, ledger: AppLedger) -> None:
        await self._give(door, f"deploys:cancel {app.name}", ledger)

    async def _read(self, door: Door, app: App, ledger: AppLedger) -> None:
        command = self._dice.choice(["apps:report", "ps:report", "deploys", "releases", "domains:report", "events"])
        await self._give(door, f"{command} {app.name}", ledger)

    # How it is done.

    def _judge(self, order: Order, status: int | None) -> None:
        order.judge(status)
        if CANARY in order.session.out + order.session.err:
            self.complaints.append(f"a secret was answered: {order.session.out}{order.session.err}")

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

    async def _give(
        self, door: Door, line: str, ledger: AppLedger, words: str = "", take: Callable[[], None] = lambda: None
    ) -> int:
        """Give a command; note an acknowledgement, and complain about an answer that must not be."""
        self._tell(f"? {line.partition(f'={CANARY}')[0]}")
        order = Order(self._session(), words, take, ledger)
        self._open.append(order)
        status = await door.dispatcher.run(line, order.session)
        self._open.remove(order)
        self._judge(order, status)
        self._tell(f"= {line.partition(f'={CANARY}')[0]} -> {status}")
        if status not in STATUSES:
            self.complaints.append(f"{line} answered {status}: {order.session.err}")
        return status
