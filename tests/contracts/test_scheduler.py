"""What every scheduler promises, asked of the fake and of the real Docker engine alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Protocol

import msgspec
import pytest

from agent.docker import firewall
from agent.errors import Unavailable, UserError
from agent.ports.scheduler import OneOff, ReplicaStatus, ReplicaWish, Scheduler, StartFailed, TaskWish
from agent.schedulers.docker import DockerScheduler
from proto.names import AppId, ReplicaId, TaskId
from tests.fakes.scheduler import FakeScheduler
from tests.fakes.terminal import FakeTerminal
from tests.support.docker import Corner, corner, token, until


class Stage(Protocol):
    """A scheduler, and what a test needs beside it."""

    scheduler: Scheduler
    app: AppId

    def wish(self, *command: str, **changes: object) -> ReplicaWish:
        """Return a wish for a replica of its own."""
        ...

    def one_off(self, *command: str) -> OneOff:
        """Return a one-off."""
        ...

    def task(self, *command: str) -> TaskWish:
        """Return a task of its own."""
        ...

    async def end(self, replica: ReplicaId) -> None:
        """Let a replica end, not to be restarted by the engine."""
        ...

    async def vanish(self, replica: ReplicaId) -> None:
        """Remove a replica's container by hand."""
        ...

    async def broken_image(self) -> str:
        """Return an image from which no container starts."""
        ...

    def protected(self) -> AbstractContextManager[None]:
        """Have the firewall rules in place meanwhile."""
        ...


class FakeStage:
    """Fulfils `Stage` without an engine."""

    def __init__(self) -> None:
        self._fake = FakeScheduler()
        self.app = AppId(token("a"))
        self._numbers = iter(range(1, 1_000))
        self.scheduler: Scheduler = self._fake

    def wish(self, *command: str, **changes: object) -> ReplicaWish:
        number = next(self._numbers)
        fields: dict[str, object] = {
            "app": self.app,
            "app_name": "blog",
            "process": "web",
            "release": 7,
            "image": "sha256:1",
            "command": command,
            "env": {},
            "replica": token("r"),
            "number": number,
            "bridge": 0,
            "address": f"10.213.0.{number + 1}",
            "fingerprint": "f1",
        }
        return msgspec.convert(fields | changes, ReplicaWish)

    def one_off(self, *command: str) -> OneOff:
        # The fake runs nothing; the commands of these tests end with the status to return.
        self._fake.run_exit = int(command[-1].rpartition(" ")[2])
        fields = msgspec.to_builtins(self.wish(*command)) | {"name": "blog.run.x", "entry": token("e")}
        return msgspec.convert(fields, OneOff)

    def task(self, *command: str) -> TaskWish:
        # The fake runs nothing: a task ends at once with the status that its command names, or sleeps until stopped.
        status = command[-1].rpartition(" ")[2]
        self._fake.are_tasks_held = command[0] == "sleep"
        self._fake.task_exits["release"] = int(status)
        fields = msgspec.to_builtins(self.wish(*command)) | {"task": token("t"), "process": "release"}
        return msgspec.convert(fields, TaskWish)

    async def end(self, replica: ReplicaId) -> None:
        self._fake.exit(replica, code=137)

    async def vanish(self, replica: ReplicaId) -> None:
        self._fake.vanish(replica)

    async def broken_image(self) -> str:
        self._fake.start_failures["sha256:broken"] = "no such user"
        return "sha256:broken"

    def protected(self) -> AbstractContextManager[None]:
        return nullcontext()


class DockerStage:
    """Fulfils `Stage` on the real engine."""

    def __init__(self, corner: Corner) -> None:
        self._corner = corner
        self.app = corner.app
        self.scheduler: Scheduler = DockerScheduler(corner.engine, bridges=corner.bridges)

    def wish(self, *command: str, **changes: object) -> ReplicaWish:
        return self._corner.wish(*command, **changes)

    def one_off(self, *command: str) -> OneOff:
        return self._corner.one_off(*command)

    def task(self, *command: str) -> TaskWish:
        return self._corner.task(*command)

    async def end(self, replica: ReplicaId) -> None:
        await self._corner.kill(replica)

    async def vanish(self, replica: ReplicaId) -> None:
        for row in await self._corner.containers.find({"com.pushboat.replica": replica}):
            await self._corner.containers.remove(row.id)

    async def broken_image(self) -> str:
        return await self._corner.import_image("USER ghost")

    @contextmanager
    def protected(self) -> Iterator[None]:
        firewall.apply(self._corner.bridges.pool)
        try:
            yield
        finally:
            firewall.remove(self._corner.bridges.pool)


@asynccontextmanager
async def staged(kind: str) -> AsyncIterator[Stage]:
    if kind == "fake":
        yield FakeStage()
        return
    async with corner() as made:
        yield DockerStage(made)


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.real)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with staged(request.param) as made:
        yield made


def say(line: str) -> None:
    """Nobody watches."""


def by_replica(statuses: list[ReplicaStatus]) -> dict[ReplicaId, ReplicaStatus]:
    return {status.replica: status for status in statuses}


async def test_each_wish_becomes_one_running_container(stage: Stage) -> None:
    wishes = [stage.wish(), stage.wish(), stage.wish()]
    lines: list[str] = []
    statuses = await stage.scheduler.converge(stage.app, wishes, lines.append)
    assert [status.replica for status in statuses] == [wish.replica for wish in wishes]
    for wish, status in zip(wishes, statuses, strict=True):
        assert (status.app, status.process, status.number, status.release) == (stage.app, "web", wish.number, 7)
        assert (status.phase, status.fingerprint, status.address) == ("running", "f1", wish.address)
        assert status.name == f"{wish.app_name}.web.{wish.number}.v7"
    assert len({status.container for status in statuses}) == 3
    assert sorted(lines) == [f"web.{wish.number} started" for wish in wishes]


async def test_repeating_changes_nothing(stage: Stage) -> None:
    wishes = [stage.wish(), stage.wish()]
    first = await stage.scheduler.converge(stage.app, wishes, say)
    again = await stage.scheduler.converge(stage.app, wishes, say)
    assert [status.container for status in again] == [status.container for status in first]
    assert len(await stage.scheduler.survey()) == 2


async def test_nothing_wished_for_starts_nothing(stage: Stage) -> None:
    assert list(await stage.scheduler.converge(stage.app, [], say)) == []
    assert list(await stage.scheduler.survey()) == []


async def test_another_fingerprint_replaces_the_container(stage: Stage) -> None:
    wish = stage.wish()
    (old,) = await stage.scheduler.converge(stage.app, [wish], say)
    changed = msgspec.structs.replace(wish, fingerprint="f2")
    (new,) = await stage.scheduler.converge(stage.app, [changed], say)
    assert new.container != old.container
    assert (new.fingerprint, new.phase, new.address) == ("f2", "running", wish.address)
    assert [status.container for status in await stage.scheduler.survey()] == [new.container]


async def test_what_has_exited_is_started_again(stage: Stage) -> None:
    wish = stage.wish()
    (first,) = await stage.scheduler.converge(stage.app, [wish], say)
    await stage.end(wish.replica)

    async def has_ended() -> bool:
        seen = await stage.scheduler.look(wish.replica)
        return seen is not None and seen.phase == "exited" and seen.exit_code == 137

    await until(has_ended)
    (second,) = await stage.scheduler.converge(stage.app, [wish], say)
    assert (second.phase, second.container, second.exit_code) == ("running", first.container, None)


async def test_what_has_vanished_is_made_anew(stage: Stage) -> None:
    wish = stage.wish()
    (first,) = await stage.scheduler.converge(stage.app, [wish], say)
    await stage.vanish(wish.replica)
    assert await stage.scheduler.look(wish.replica) is None
    (second,) = await stage.scheduler.converge(stage.app, [wish], say)
    assert second.phase == "running" and second.container != first.container


async def test_replicas_that_are_not_wished_for_are_left_alone(stage: Stage) -> None:
    old, new = stage.wish(), stage.wish()
    await stage.scheduler.converge(stage.app, [old], say)
    await stage.scheduler.converge(stage.app, [new], say)
    phases = {status.replica: status.phase for status in await stage.scheduler.survey()}
    assert phases == {old.replica: "running", new.replica: "running"}


async def test_two_generations_of_one_number_may_run_side_by_side(stage: Stage) -> None:
    old = stage.wish()
    twin = msgspec.structs.replace(stage.wish(), number=old.number)
    await stage.scheduler.converge(stage.app, [old], say)
    await stage.scheduler.converge(stage.app, [twin], say)
    assert {status.replica for status in await stage.scheduler.survey()} == {old.replica, twin.replica}


async def test_a_missing_image_is_named_and_the_others_start(stage: Stage) -> None:
    good, bad = stage.wish(), stage.wish(image="sha256:" + "0" * 64)
    if isinstance(stage.scheduler, FakeScheduler):
        stage.scheduler.missing_images.add(bad.image)
    with pytest.raises(Unavailable) as caught:
        await stage.scheduler.converge(stage.app, [bad, good], say)
    assert caught.value.code == "image.missing"
    assert [status.replica for status in await stage.scheduler.survey()] == [good.replica]


async def test_what_can_never_start_is_told_apart(stage: Stage) -> None:
    bad = stage.wish(image=await stage.broken_image())
    with pytest.raises(StartFailed):
        await stage.scheduler.converge(stage.app, [bad], say)
    await stage.scheduler.remove(bad.replica)
    assert list(await stage.scheduler.survey()) == []


async def test_a_stopped_replica_has_ended_and_stays_so(stage: Stage) -> None:
    wish = stage.wish()
    await stage.scheduler.converge(stage.app, [wish], say)
    await stage.scheduler.entrust(wish.replica)
    await stage.scheduler.stop(wish.replica, seconds=1)
    seen = await stage.scheduler.look(wish.replica)
    assert seen is not None and seen.phase == "exited" and seen.exit_code is not None
    await stage.scheduler.stop(wish.replica, seconds=1)
    await stage.scheduler.remove(wish.replica)
    assert await stage.scheduler.look(wish.replica) is None


async def test_stopping_and_removing_what_is_not_there_is_fine(stage: Stage) -> None:
    stranger = ReplicaId(token("r"))
    await stage.scheduler.entrust(stranger)
    await stage.scheduler.stop(stranger, seconds=1)
    await stage.scheduler.remove(stranger)
    await stage.scheduler.release(AppId(token("a")))
    assert await stage.scheduler.look(stranger) is None


async def test_releasing_an_app_removes_its_replicas_and_no_others(stage: Stage) -> None:
    mine, other = stage.wish(), stage.wish(app=AppId(token("a")))
    await stage.scheduler.converge(stage.app, [mine], say)
    await stage.scheduler.converge(other.app, [other], say)
    await stage.scheduler.release(stage.app)
    await stage.scheduler.release(stage.app)
    assert list(by_replica(list(await stage.scheduler.survey()))) == [other.replica]


async def test_a_one_off_gives_its_exit_status_and_leaves_nothing(stage: Stage) -> None:
    terminal = FakeTerminal()
    terminal.type(b"")
    assert await stage.scheduler.run(stage.one_off("sh", "-c", "exit 3"), terminal) == 3
    assert list(await stage.scheduler.left_over()) == [] == list(await stage.scheduler.tidy(app=stage.app))
    assert list(await stage.scheduler.survey()) == []


async def test_a_task_runs_when_it_is_begun_and_tells_how_it_ended(stage: Stage) -> None:
    wish = stage.task("sh", "-c", "exit 3")
    for _ in range(2):
        await stage.scheduler.prepare(wish)
    (made,) = await stage.scheduler.survey()
    assert (made.replica, made.app, made.process, made.release) == (wish.task, stage.app, "release", wish.release)
    assert (made.phase, made.exit_code, made.name) == ("created", None, f"{wish.app_name}.release.v{wish.release}")
    await stage.scheduler.begin(wish.task)
    await stage.scheduler.wait(wish.task)
    ended = await stage.scheduler.look(wish.task)
    assert ended is not None and (ended.phase, ended.exit_code) == ("exited", 3)
    await stage.scheduler.prepare(wish)
    again = await stage.scheduler.look(wish.task)
    assert again is not None and again.container == ended.container and again.phase == "exited"
    await stage.scheduler.remove(wish.task)
    assert await stage.scheduler.look(wish.task) is None
    await stage.scheduler.wait(wish.task)


async def test_a_task_can_be_stopped_and_is_no_replica(stage: Stage) -> None:
    wish, replica = stage.task("sleep", "1000"), stage.wish()
    await stage.scheduler.prepare(wish)
    await stage.scheduler.begin(wish.task)
    await stage.scheduler.converge(stage.app, [replica], say)
    assert len(await stage.scheduler.describe(stage.app)) >= 1
    await stage.scheduler.stop(wish.task, seconds=1)
    await stage.scheduler.wait(wish.task)
    ended = await stage.scheduler.look(wish.task)
    assert ended is not None and ended.phase == "exited" and ended.exit_code
    await stage.scheduler.release(stage.app)
    assert list(await stage.scheduler.survey()) == []


async def test_a_task_that_is_not_there_cannot_be_begun(stage: Stage) -> None:
    with pytest.raises(StartFailed):
        await stage.scheduler.begin(TaskId(ReplicaId(token("t"))))
    bad = msgspec.structs.replace(stage.task("sh", "-c", "exit 0"), image=await stage.broken_image())
    with pytest.raises(StartFailed):
        await stage.scheduler.prepare(bad)
        await stage.scheduler.begin(bad.task)


async def test_nobody_enters_what_does_not_run(stage: Stage) -> None:
    wish = stage.wish()
    await stage.scheduler.converge(stage.app, [wish], say)
    await stage.scheduler.stop(wish.replica, seconds=1)
    for replica in (wish.replica, ReplicaId(token("r"))):
        with pytest.raises(UserError) as caught:
            await stage.scheduler.enter(replica, ["sh"], FakeTerminal())
        assert caught.value.code == "replica.not-running"


async def test_changes_are_noticed_after_a_first_notice_about_everything(stage: Stage) -> None:
    notices: asyncio.Queue[AppId | None] = asyncio.Queue()
    watching = asyncio.create_task(stage.scheduler.watch(notices.put_nowait))
    try:
        async with asyncio.timeout(20):
            assert await notices.get() is None
            wish = stage.wish()
            await stage.scheduler.converge(stage.app, [wish], say)
            await stage.end(wish.replica)
            assert await notices.get() == stage.app
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_scheduler_that_is_well_has_no_problems(stage: Stage) -> None:
    with stage.protected():
        assert list(await stage.scheduler.problems()) == []


async def test_each_replica_is_described(stage: Stage) -> None:
    wish = stage.wish()
    (status,) = await stage.scheduler.converge(stage.app, [wish], say)
    (description,) = await stage.scheduler.describe(stage.app)
    assert description["Id"] == status.container
    assert "5000" not in str(description.get("Config"))
