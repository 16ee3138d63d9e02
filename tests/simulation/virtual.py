"""An event loop whose time passes only while everybody waits, and then at once.

One callback runs at a time, and each is counted: a *step* is what lies between two awaits of one task. Nothing in it
depends on the machine: no file descriptor is watched, no thread runs, and tasks are told apart by numbers instead of
addresses, so that sets of them come in the same order in every run.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from agent import programs
from tests.simulation.programs import Program, Started, start

T = TypeVar("T")

BEGINNING = 1_700_000_000.0
"""Unix seconds at the loop's time 0."""

LIVES_PER_COLLECTION = 50


class Death(BaseException):
    """The process is gone. Nobody may catch this."""


class Deadlock(AssertionError):
    """Everybody waits, and nothing will ever happen."""


class _Task(asyncio.Task[Any]):
    """A task with a number of its own as its hash."""

    _numbers = itertools.count()

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*arguments, **more)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs everything that is due, then moves the time forward to what comes next."""

    _ready: Any
    _scheduled: Any

    def __init__(self, *, begins_at: float = 0.0, dies_at: int | None = None) -> None:
        """`dies_at`: the step, from 1, instead of which `Death` is raised."""
        super().__init__()
        self.steps = 0
        self.dies_at = dies_at
        self.before_step: Callable[[], None] = _nothing
        """Called before each step."""
        self.complaints: list[str] = []
        """Exceptions of tasks that nobody asked for."""
        self.program: Program | None = None
        """What every program is that is started here."""
        self._passed = begins_at
        self.set_task_factory(_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._passed

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        """Do what the base does, but ask nothing: that would be half of it."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what nobody caught while the loop ran."""
        if self.is_running():
            self.complaints.append(f"{context['message']}: {context.get('exception')!r}")

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> Any:
        """Do at once what others do in a thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def subprocess_exec(
        self, protocol_factory: Callable[[], Any], *command: Any, stdin: Any = None, **more: Any
    ) -> Any:
        """Start a program, which is one of ours."""
        assert self.program is not None, f"nothing can be started here: {command}"
        protocol = protocol_factory()
        return Started(protocol, command, self.program, is_fed=stdin == asyncio.subprocess.PIPE), protocol

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._passed or not ready):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._passed = max(self._passed, handle._when)
                ready.append(handle)
        if not ready:
            raise Deadlock("everybody waits for ever")
        handle = ready.popleft()
        if not handle._cancelled:
            self.steps += 1
            if self.steps == self.dies_at:
                raise Death
            self.before_step()
            handle._run()

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _process_events(self, event_list: object) -> None:
        """There are none."""


def _nothing() -> None:
    return None


def _task(loop: VirtualLoop, coro: Coroutine[Any, Any, Any], **more: Any) -> _Task:
    return _Task(coro, loop=loop, **more)


class VirtualClock:
    """Fulfils ``Clock`` by the running loop. The wall clock may be set, as by an administrator."""

    def __init__(self) -> None:
        self.jumped = 0.0
        """Seconds by which the wall clock was set forward in all."""

    def now(self) -> float:
        return BEGINNING + asyncio.get_running_loop().time() + self.jumped

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(
    main: Coroutine[object, object, T], *, loop: VirtualLoop | None = None, on_end: Callable[[], None] = _nothing
) -> T:
    """Run `main` on a loop, in virtual time. What is left when it returns, raises or dies is thrown away unrun.

    `on_end` is called before that: from then on what is thrown away should have no effect.
    """
    loop = loop or VirtualLoop()
    try:
        with patch.object(programs, "start", start):
            return loop.run_until_complete(main)
    finally:
        on_end()
        _bury(loop)
        loop.close()


def _every_task() -> list[asyncio.Task[Any]]:
    """Return the tasks of this process that are in memory, of all loops, ended ones too."""
    name = (
        "_all_tasks" if hasattr(asyncio.tasks, "_all_tasks") else "_scheduled_tasks"
    )  # As Python calls it since 3.12.
    return list(getattr(asyncio.tasks, name))


def _bury(loop: VirtualLoop) -> None:
    """End what a loop leaves behind."""
    with _unheard():
        ours = [task for task in _every_task() if task.get_loop() is loop]
        for task in ours:
            # What has ended stays there until garbage is collected, and would be looked through at each death.
            asyncio.tasks._unregister_task(task)  # type: ignore[attr-defined]
        for task in sorted((task for task in ours if not task.done()), key=hash):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            # One that awaits while it is being closed has to be closed again.
            while coroutine.cr_frame is not None:
                try:
                    coroutine.close()
                except BaseException:
                    continue
        loop._ready.clear()
        loop._scheduled.clear()


@contextmanager
def _unheard() -> Iterator[None]:
    """Ignore what the dead complain about while they are thrown away."""
    complain, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = complain


@contextmanager
def without_pauses() -> Iterator[Callable[[], None]]:
    """Collect garbage only when the given function is called, every so many calls: it costs more than a life.

    It also makes things repeatable: asynchronous generators are closed when they are collected.
    """
    calls = itertools.count(1)

    def collect() -> None:
        if next(calls) % LIVES_PER_COLLECTION == 0:
            gc.collect()

    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with _unheard():
            yield collect
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
