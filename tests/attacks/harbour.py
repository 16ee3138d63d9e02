"""A prepared server on fakes and real SQLite, in virtual time, and what is wrong about an answer that it gave.

`prepare` makes the server once: a live app with two releases, secrets of every kind, one that was never pushed, one
that was stopped. `attack` copies it, gives it lines one after the other with the whole agent's core at work, and
returns how each was answered. Nobody waits for anything: an answer that never comes is a complaint too.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
import re
import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from agent.docker.spec import check_body, create_body
from agent.ports.images import ImageInfo
from agent.ports.scheduler import ContainerWish, OneOff
from agent.ports.session import Terminal, User
from proto.names import Fingerprint
from proto.wire import Exit
from tests.attacks.lines import CANARY, TELLING, UNTOUCHED, Line, draw
from tests.attacks.wishes import INSTANCE, NETWORK
from tests.commands.desk import DOCKERFILE, Answer, Desk
from tests.fakes.core import World, core
from tests.fakes.scheduler import FakeScheduler
from tests.fakes.session import ADA, FakeSession
from tests.simulation import promises
from tests.simulation.virtual import VirtualClock, VirtualLoop, run
from tests.support.audited import starting
from tests.support.places import in_memory

BATCH = 25
"""Lines that one server gets."""

STORED = "canary-stored-3fd08b"
"""In every secret that the server has before the first line."""

STATUSES = (Exit.OK, Exit.FAILED, Exit.NO_SUCH_APP, Exit.UNAVAILABLE)
"""What an answer may end with here. `Exit.BUG` is a bug."""

PATIENCE_SECONDS = 7_200.0
"""Virtual. Longer than any limit that a command waits out; who follows something leaves long before."""
FOLLOWING_SECONDS = 5.0
LEAVING_SECONDS = 60.0
"""Virtual, from when the client has left to the end of his command."""

ANSWER_SECONDS = 2.0
"""No answer takes longer; what a command waits for, a deploy say, is virtual and not counted. Of this process's own
processor time, with all that the core does meanwhile: how busy the machine is otherwise changes little about it."""

REST_SECONDS = 900.0
"""Virtual, until every promise must be kept."""

AT_REST = Line("(at rest)")
"""Stands for what was found when all lines were answered."""

NOBODY = User("nobody", Fingerprint(""))
"""Somebody without a key."""

MISTAKES = re.compile(r"(bug|failed|not-ended|helpless)$")
HARMLESS = ("build.failed", "upkeep.failed")

OUTCOMES = (
    "The deploy failed (",
    '"status":"failed"',
    "The deploy was cancelled.",
    "A newer deploy took the place of this one.",
)
"""How deploys end that were watched. The reason of the first says what to do."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal acts on, but tabs and line ends."""
_SHOWN = "\n       "
"""What stands before a hint."""


class StrictScheduler(FakeScheduler):
    """Makes of each wish what would be sent to an engine, which is refused where Docker's adapter refuses it."""

    async def run(self, one_off: OneOff, terminal: Terminal) -> int:
        """See ``Scheduler``."""
        check_body(create_body(one_off, instance=INSTANCE, network=NETWORK), instance=INSTANCE)
        return await super().run(one_off, terminal)

    def _create(self, wish: ContainerWish, **more: Any) -> None:
        check_body(create_body(wish, instance=INSTANCE, network=NETWORK), instance=INSTANCE)
        super()._create(wish, **more)


class Server(msgspec.Struct, frozen=True):
    """A server as every batch finds it."""

    database: bytes
    key: bytes
    world: bytes
    time: float


class Told(msgspec.Struct, frozen=True):
    """How one line was answered."""

    line: Line
    status: int
    seconds: float
    """Of processor time, the core's own work for this app included."""
    complaints: tuple[str, ...]


class _Noted(msgspec.Struct):
    """What an answer is not made of: the agent's log, and programs that were started."""

    logged: list[str]
    started: list[str]

    def wrong(self) -> list[str]:
        """Return what is wrong about all that was noted since this was asked last."""
        found = [text for text in self.logged if _is_mistake(text) or CANARY in text or STORED in text]
        found += [f"a program was started: {text}" for text in self.started]
        self.logged.clear()
        self.started.clear()
        return found


def _deaf(answer: Answer) -> None:
    """Hear nothing."""


def prepare() -> Server:
    """Return a server that has something of everything."""
    loop, world, clock = VirtualLoop(), World(), VirtualClock()
    world.scheduler = StrictScheduler()
    with in_memory() as folder, _listening([]):
        run(_prepare(folder, world, clock), loop=loop)
        world.forget_process()
        files = (folder / "state.db").read_bytes(), (folder / "key").read_bytes()
    return Server(*files, pickle.dumps(world), loop.time())


PREPARATION: Sequence[tuple[str, bytes]] = (
    ("domains:add-global example.com", b""),
    (f"config:set blog SECRET={STORED} TITLE=blog", b""),
    (f"config:set --global EVERYWHERE={STORED}", b""),
    ("builder:secrets:set blog NPM", STORED.encode()),
    (f"docker-options:add blog build '--build-arg TOKEN={STORED}'", b""),
    ("git:auth git.example.com deploy", STORED.encode()),
    ("git:generate-deploy-key blog", b""),
    ("registry:login blog ghcr.io ada", STORED.encode()),
    ("domains:add blog www.example.org", b""),
    ("ps:scale blog worker=2", b""),
    ("ps:stop shop.eu", b""),
)


async def _prepare(folder: Path, world: World, clock: VirtualClock) -> None:
    async with core(folder, world=world, clock=clock) as c:
        world.registries.known |= {("ghcr.io", "ada", STORED), ("docker.io", "ada", "hunter2")}
        world.images.registry["nginx:1.27"] = ImageInfo(id=f"sha256:{'1' * 64}", ports=(80,))
        desk = Desk(c)
        for name in ("blog", "draft", "shop.eu"):
            await c.create(name)
        async with c.bus.delivering():
            for name in ("blog", "shop.eu"):
                app = await c.database.read.apps.by_name(name)  # type: ignore[arg-type]
                assert app is not None
                await c.push(app, DOCKERFILE)
            await asyncio.sleep(300.0)
            for line, stdin in PREPARATION:
                answer = await desk.give(line, stdin)
                assert answer.status == 0, (line, answer)
            await asyncio.sleep(300.0)


def batch(seed: int) -> list[Line]:
    """Return the lines that a seed stands for."""
    chance = random.Random(seed)
    return [draw(chance) for _ in range(BATCH)]


def attack(server: Server, lines: Sequence[Line], *, hear: Callable[[Answer], None] = _deaf) -> list[Told]:
    """Give `lines` to a copy of the server, one after the other; return how each was answered. `hear` gets the answers.

    What follows after the last one was found when all had come to rest.
    """
    loop = VirtualLoop(begins_at=server.time)
    logged: list[str] = []
    with in_memory() as folder, _listening(logged), starting() as started:
        (folder / "state.db").write_bytes(server.database)
        (folder / "key").write_bytes(server.key)
        (folder / "key").chmod(0o600)
        return run(_attack(folder, server, lines, _Noted(logged, started), hear), loop=loop)


async def _attack(
    folder: Path, server: Server, lines: Sequence[Line], noted: _Noted, hear: Callable[[Answer], None]
) -> list[Told]:
    clock = VirtualClock()
    told = []
    async with core(folder, world=pickle.loads(server.world), clock=clock) as c:
        desk = Desk(c)
        async with c.bus.delivering():
            for line in lines:
                told.append(await _give(desk, line, noted, hear))
            told.append(await _last(desk, noted))
    return told


async def _give(desk: Desk, line: Line, noted: _Noted, hear: Callable[[Answer], None]) -> Told:
    environment = {"PUSHBOAT_APP": line.app} if line.app else {}
    session = FakeSession(line.stdin, user=ADA if line.has_key else NOBODY, is_tty=line.is_tty, environment=environment)
    complaints: list[str] = []
    began = time.process_time()
    given = asyncio.ensure_future(desk.dispatcher.run(line.text, session))
    is_following = bool({"-t", "--tail", "-tq"} & set(_words(line.text)))
    await asyncio.wait((given,), timeout=FOLLOWING_SECONDS if is_following else PATIENCE_SECONDS)
    if not given.done():
        if not is_following:
            complaints.append("it was never answered")
        session.left.set()
        await asyncio.wait((given,), timeout=LEAVING_SECONDS)
    if not given.done():
        complaints.append("it went on when its client had left")
        given.cancel()
        await asyncio.wait((given,))
    status = -1
    if given.cancelled():
        complaints.append("it was cancelled")
    elif error := given.exception():
        complaints.append("".join(traceback.format_exception(error)))
    else:
        status = given.result()
        answer = Answer(status, session.written.decode("utf-8", "replace"), session.complained.decode())
        hear(answer)
        complaints += wrong(line, answer, has_left=session.left.is_set())
    complaints += noted.wrong()
    seconds = time.process_time() - began
    complaints += too_slow(seconds)
    return Told(line, status, seconds, tuple(complaints))


async def _last(desk: Desk, noted: _Noted) -> Told:
    """Let everything come to rest; look whether every promise was kept, and whether secrets were put on record."""
    await asyncio.sleep(REST_SECONDS)
    broken = noted.wrong()
    try:
        await promises.check(desk.core)
    except AssertionError as error:
        broken.append(f"a promise was broken: {error}")
    texts = [event.body.decode() for event in await desk.database.read.outbox.events(limit=100_000)]
    texts += ["\n".join(lines) for lines in desk.core.transcripts.lines.values()]
    found = [text for text in texts if CANARY in text or STORED in text]
    return Told(AT_REST, 0, 0.0, (*broken, *found))


def too_slow(seconds: float) -> Iterator[str]:
    """Yield that an answer took too long, if it did. `seconds`: of processor time."""
    if seconds > ANSWER_SECONDS:
        yield f"it took {seconds:.1f} s of processor time, and {ANSWER_SECONDS:.0f} are promised"


def wrong(line: Line, answer: Answer, *, has_left: bool = False) -> Iterator[str]:
    """Yield what is wrong about an answer."""
    is_raw = not line.is_tty and any(name in line.text for name in UNTOUCHED)
    if answer.status not in STATUSES:
        yield f"status {answer.status}"
    for name, text in (("output", answer.out), ("error", answer.err)):
        bare = _COLOUR.sub("", text.replace("\r\n", "\n") if line.is_tty else text)
        if found := _ACTS.search(bare):
            if name == "error" or not is_raw:
                yield f"{name} has {found[0]!r}: {text!r}"
        if "Traceback" in text or ("agent." in text and "File " in text):
            yield f"{name} has a traceback: {text}"
        tells = any(one in line.text for one in TELLING) or (line.is_tty and "apps:destroy" in line.text)
        if (CANARY in text or STORED in text) and (name == "error" or not tells):
            yield f"{name} has a secret: {text}"
    if answer.status and not has_left and not has_way_out(line, answer.out, answer.err):
        yield f"it says no way out: {answer.out!r} {answer.err!r}"


def has_way_out(line: Line, out: str, err: str) -> bool:
    """Tell whether a refusal says what to do next, on a line of its own or as ``hint``."""
    if any(one in said for said in (out, err) for one in OUTCOMES):
        return True
    if "config:get" in _words(line.text) and out + err == "":
        return True  # Nothing is set: for scripts, as its help says.
    for text in err.split("\n"):
        if text.startswith('{"error":'):
            return bool(msgspec.json.decode(text)["error"].get("hint"))
    return _SHOWN in err.replace("\r\n", "\n")


def _words(text: str) -> list[str]:
    with contextlib.suppress(ValueError):
        return shlex.split(text)
    return text.split()


def _is_mistake(text: str) -> bool:
    event = text.partition(" ")[0]
    return event == "command.failed" or ("Traceback" in text and event not in HARMLESS and bool(MISTAKES.search(event)))


@contextlib.contextmanager
def _listening(logged: list[str]) -> Iterator[None]:
    """Collect what is logged."""

    def note(logger: object, method: str, facts: dict[str, Any]) -> str:
        text = " ".join([str(facts["event"]), *(f"{key}={value}" for key, value in facts.items() if key != "event")])
        error = facts.get("exc_info")
        if isinstance(error, BaseException):
            text += "\n" + "".join(traceback.format_exception(error))
        elif error:
            text += "\n" + traceback.format_exc()
        logged.append(text)
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    kept = list(processors)
    processors[:] = [note]
    try:
        yield
    finally:
        processors[:] = kept
