"""Work whose callers share its runs: each wants one that began after it asked, and none wants its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Rounds(Generic[T]):
    """Runs `work` one run at a time. However many ask during one run, the next run serves them all, failures included.

    The work is done in the task of one of its callers, so there is no task without an owner. If that caller is
    cancelled, the next one begins anew.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._asked = 0
        self._done = 0
        self._result: T | Exception = RuntimeError("nothing was asked for")

    async def next(self) -> T:
        """Return the result of a run that began after this call, or raise its exception."""
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._done < mine:
                asked = self._asked
                self._result = await self._outcome()
                self._done = asked
            if isinstance(self._result, Exception):
                raise self._result
            return self._result

    async def _outcome(self) -> T | Exception:
        try:
            return await self._work()
        except Exception as error:
            # Not swallowed: raised to everyone who waits for this run.
            return error
