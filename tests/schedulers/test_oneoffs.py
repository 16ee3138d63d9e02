"""One-offs and entering, attached to a terminal, on the real engine."""

from __future__ import annotations

import asyncio

import pytest

from agent.docker import labels
from agent.ports.scheduler import ReplicaWish
from agent.schedulers.docker import DockerScheduler
from proto.names import AppId
from tests.fakes.terminal import FakeTerminal
from tests.support.docker import Corner, until

pytestmark = pytest.mark.real


@pytest.fixture
def scheduler(docker: Corner) -> DockerScheduler:
    return DockerScheduler(docker.engine, bridges=docker.bridges)


async def programs(docker: Corner, wish: ReplicaWish) -> list[str]:
    """Return what runs in a replica beside its init process."""
    (row,) = await docker.containers.find({labels.REPLICA_ID: wish.replica})

    top = await docker.engine.json("GET", f"containers/{row.id}/top", params={"ps_args": "-eo pid,comm"})
    return [name for _, name in top["Processes"] if name != "docker-init"]


async def leftovers(docker: Corner) -> list[str]:
    return [row.id for row in await docker.containers.find({labels.KIND: labels.RUN})]


async def test_output_errors_input_and_status_are_carried(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal()
    terminal.type(b"abc")
    terminal.type(b"")
    # cat ends when its input does, and sh goes on: the input's end closed one half only.
    one_off = docker.one_off("sh", "-c", "cat; echo; echo oops >&2; exit 42")
    assert await scheduler.run(one_off, terminal) == 42
    assert (terminal.out, terminal.err) == (b"abc\n", b"oops\n")
    assert await leftovers(docker) == []


async def test_a_megabyte_passes_both_ways_unchanged(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal, data = FakeTerminal(), bytes(range(256)) * 4_096
    for start in range(0, len(data), 50_000):
        terminal.type(data[start : start + 50_000])
    terminal.type(b"")
    assert await scheduler.run(docker.one_off("cat"), terminal) == 0
    assert terminal.out == data


async def test_a_tty_has_its_size_its_name_and_follows_the_window(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal(is_tty=True, term="xterm-256color", size=(101, 33))
    running = asyncio.create_task(scheduler.run(docker.one_off("sh"), terminal))
    terminal.type(b"echo term=$TERM\n")
    await terminal.printed(b"term=xterm-256color")

    async def has_size(size: bytes) -> bool:
        terminal.type(b"stty size\n")
        return size in terminal.out

    await until(lambda: has_size(b"33 101"))
    terminal.resize(77, 22)
    await until(lambda: has_size(b"22 77"))
    terminal.type(b"exit 7\n")
    assert await running == 7


async def test_control_c_reaches_the_program_through_a_tty(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal(is_tty=True)
    one_off = docker.one_off("sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 1; done")
    running = asyncio.create_task(scheduler.run(one_off, terminal))
    await terminal.printed(b"ready")
    terminal.type(b"\x03")
    assert await running == 9
    assert b"caught" in terminal.out


async def test_a_program_that_is_not_there_gives_127(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal()
    assert await scheduler.run(docker.one_off("nope"), terminal) == 127
    assert b"nope" in terminal.err


async def test_a_person_who_leaves_ends_the_one_off(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal()
    one_off = docker.one_off("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    running = asyncio.create_task(scheduler.run(one_off, terminal))
    await terminal.printed(b"ready")
    terminal.leave()
    assert await running == 5
    assert await leftovers(docker) == []


async def test_a_cancelled_one_off_is_gone(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal()
    running = asyncio.create_task(scheduler.run(docker.one_off("sh", "-c", "echo ready; sleep 1000"), terminal))
    await terminal.printed(b"ready")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await leftovers(docker) == []


async def test_a_one_off_has_a_time_limit(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal()
    status = await scheduler.run(docker.one_off("sleep", "1000", seconds=0.5), terminal)
    assert status in (137, 143)
    assert b"Ended after" in terminal.err
    assert await leftovers(docker) == []


async def test_one_offs_take_addresses_that_are_no_replicas(docker: Corner, scheduler: DockerScheduler) -> None:
    terminal = FakeTerminal()
    terminal.type(b"")
    command = ("sh", "-c", "while read -r line; do echo $line; done < /proc/net/fib_trie")
    assert await scheduler.run(docker.one_off(*command), terminal) == 0
    first_of_rest = docker.bridges.one_offs(0).partition("/")[0].rpartition(".")[0]
    assert f"{first_of_rest}.".encode() in terminal.out


async def test_what_another_agent_left_is_tidied_and_our_own_spared(docker: Corner, scheduler: DockerScheduler) -> None:
    before = DockerScheduler(docker.engine, bridges=docker.bridges)
    terminal, their_terminal = FakeTerminal(), FakeTerminal()
    writes = docker.one_off("sh", "-c", "yes | head -c 1000000 > /own; echo ready; sleep 1000")
    theirs = asyncio.create_task(before.run(writes, their_terminal))
    await their_terminal.printed(b"ready")
    ours = asyncio.create_task(scheduler.run(docker.one_off("sh", "-c", "echo ready; cat"), terminal))
    await terminal.printed(b"ready")
    assert await scheduler.left_over(app=AppId("aother")) == [] == list(await scheduler.tidy(app=AppId("aother")))
    (left,) = await scheduler.left_over()
    assert left.name.startswith("blog-") and left.size >= 1_000_000
    assert len(await leftovers(docker)) == 2
    assert await scheduler.tidy(app=docker.app) == [left]
    assert len(await leftovers(docker)) == 1
    assert await theirs == 137
    terminal.type(b"")
    assert await ours == 0


async def test_entering_carries_streams_and_status(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], lambda _: None)
    terminal = FakeTerminal()
    terminal.type(b"in")
    terminal.type(b"")
    status = await scheduler.enter(wish.replica, ["sh", "-c", "cat; echo oops >&2; exit 6"], terminal)
    assert (status, terminal.out, terminal.err) == (6, b"in", b"oops\n")


async def test_entering_with_a_tty_has_its_size_and_name(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], lambda _: None)
    terminal = FakeTerminal(is_tty=True, term="screen", size=(99, 44))
    running = asyncio.create_task(scheduler.enter(wish.replica, ["sh"], terminal))
    terminal.type(b"echo term=$TERM\n")
    await terminal.printed(b"term=screen")

    async def has_size() -> bool:
        terminal.type(b"stty size\n")
        return b"44 99" in terminal.out

    await until(has_size)
    terminal.type(b"exit 8\n")
    assert await running == 8


async def test_a_window_that_changes_as_the_program_ends_takes_nothing_from_its_status(
    docker: Corner, scheduler: DockerScheduler
) -> None:
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], lambda _: None)
    for _ in range(10):
        terminal = FakeTerminal(is_tty=True)
        for columns in range(80, 110):
            terminal.resize(columns, 24)
        assert await scheduler.enter(wish.replica, ["sh", "-c", "exit 6"], terminal) == 6


async def test_a_program_that_is_not_there_cannot_be_entered(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], lambda _: None)
    terminal = FakeTerminal()
    terminal.type(b"")
    assert await scheduler.enter(wish.replica, ["nope"], terminal) in (126, 127)
    assert b"nope" in terminal.out + terminal.err


async def test_a_person_who_leaves_does_not_stop_the_replica(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], lambda _: None)
    terminal = FakeTerminal(is_tty=True)
    running = asyncio.create_task(scheduler.enter(wish.replica, ["sh"], terminal))
    terminal.type(b"echo ready\n")
    await terminal.printed(b"ready")
    terminal.leave()
    assert await running == 129

    async def is_alone() -> bool:
        return await programs(docker, wish) == ["sleep"]

    await until(is_alone)
    assert [status.phase for status in await scheduler.survey()] == ["running"]
