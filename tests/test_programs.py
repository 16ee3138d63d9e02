"""Programs that are started beside a running loop: what they say, how they end, and that none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
import uvloop

from agent.programs import Program, start


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """The agent runs on uvloop, most tests on asyncio's own loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as opened:
        yield opened


async def shell(script: str, *, is_fed: bool = False, tells_errors: bool = True) -> Program:
    environment = {"PATH": os.environ["PATH"]}
    command = ("sh", "-c", script)
    return await start(command, environment=environment, is_fed=is_fed, tells_errors=tells_errors, limit=65_536)


def test_a_program_is_fed_read_and_waited_for(runner: asyncio.Runner) -> None:
    async def talk() -> tuple[bytes, bytes, int]:
        program = await shell("cat; echo wrong >&2; exit 3", is_fed=True)
        assert program.stdin and program.stdout and program.stderr
        assert program.returncode is None
        program.stdin.write(b"x" * 1_000_000)
        draining = asyncio.create_task(program.stdin.drain())
        first = await program.stdout.readexactly(1_000_000)
        await draining
        program.stdin.close()
        rest, errors = await asyncio.gather(program.stdout.read(), program.stderr.read())
        assert await program.wait() == program.returncode
        return first + rest, errors, await program.wait()

    assert runner.run(talk()) == (b"x" * 1_000_000, b"wrong\n", 3)


def test_one_without_input_and_errors_has_no_pipes_for_them(runner: asyncio.Runner) -> None:
    async def listen() -> tuple[bytes, int]:
        program = await shell("cat; echo wrong >&2; echo ended", tells_errors=False)
        assert program.stdin is None and program.stderr is None and program.stdout
        return await program.stdout.read(), await program.wait()

    assert runner.run(listen()) == (b"ended\n", 0)


def test_one_that_is_killed_says_by_which_signal(runner: asyncio.Runner) -> None:
    async def kill() -> int:
        program = await shell("exec sleep 1000")
        program.kill()
        status = await program.wait()
        program.kill()  # harmless
        return status

    assert runner.run(kill()) == -signal.SIGKILL


def test_one_that_is_not_there_is_said_so(runner: asyncio.Runner) -> None:
    with pytest.raises(FileNotFoundError):
        runner.run(start(("no-such-program",), environment={}, is_fed=False, limit=1))


def test_a_start_that_is_cancelled_leaves_no_process_and_no_pipe(runner: asyncio.Runner) -> None:
    async def cancel() -> None:
        first = await shell("exit")
        assert first.stdout and first.stderr
        await asyncio.gather(first.stdout.read(), first.stderr.read(), first.wait())
        before = descriptors()
        starting = asyncio.create_task(shell("exec sleep 1000", is_fed=True))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        async with asyncio.timeout(10):
            while children() or descriptors() > before:
                await asyncio.sleep(0)

    runner.run(cancel())


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def test_what_has_ended_leaves_no_pipe_open(runner: asyncio.Runner) -> None:
    async def use() -> None:
        program = await shell("cat; echo wrong >&2", is_fed=True)
        assert program.stdin and program.stdout and program.stderr
        program.stdin.close()
        await asyncio.gather(program.stdout.read(), program.stderr.read(), program.wait())

    async def use_twice() -> None:
        await use()
        before = descriptors()
        await use()
        async with asyncio.timeout(10):
            while descriptors() > before:
                await asyncio.sleep(0)

    runner.run(use_twice())


@pytest.mark.slow
def test_the_end_of_a_program_closes_nothing_of_another_thread() -> None:
    """uvloop closes a pipe twice, and a file that a thread opened in between with it."""
    stopped = threading.Event()

    def keep_opening() -> int:
        count = 0
        while not stopped.is_set():
            os.close(os.open("/proc/self/stat", os.O_RDONLY))
            count += 1
        return count

    async def once() -> None:
        program = await start(["cat"], environment={"PATH": "/usr/bin:/bin"}, is_fed=True, limit=65_536)
        assert program.stdin and program.stdout and program.stderr
        program.stdin.write(b"x" * 1_000)
        program.stdin.close()
        assert await program.stdout.read() == b"x" * 1_000 and await program.stderr.read() == b""
        assert await program.wait() == 0

    async def main() -> None:
        opening = [asyncio.create_task(asyncio.to_thread(keep_opening)) for _ in range(4)]
        try:
            for _ in range(40):
                await asyncio.gather(*(once() for _ in range(5)))
        finally:
            stopped.set()
        assert all(await asyncio.gather(*opening))

    uvloop.run(main())
