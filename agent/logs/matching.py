"""Finding a pattern in lines, such that no pattern can hold up the agent.

Python's ``re`` keeps the interpreter's lock while it matches, so a catastrophic pattern (``(a+)+$``) would stop the
whole agent, in whatever thread it ran. Plain text is searched for here; a real pattern goes to a process of its own
(``grep_process.py``), which is ended when one batch takes longer than `BATCH_SECONDS`. It starts in some 15 ms,
without site-packages and with an empty environment, and lives as long as its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from agent import programs
from agent.errors import UserError
from agent.sanitise import plain

MAX_PATTERN = 500
"""Characters of a pattern. Enough for any that a person types; bounds the time that compiling takes."""

BATCH_LINES = 500
"""Lines matched at once: with ordinary patterns some milliseconds, even if each has `MAX_LINE` bytes."""

BATCH_SECONDS = 2.0
"""What a batch may take. An ordinary pattern needs a hundredth."""

_SPECIAL = frozenset(".^$*+?{}[]\\|()")
_PROGRAM = Path(__file__).with_name("grep_process.py")
_SIZE = 4


class Matcher(Protocol):
    """Tells which lines match."""

    async def matches(self, texts: Sequence[str]) -> Sequence[bool]:
        """Return for each text whether the pattern is found in it.

        Raises:
            UserError: ``logs.slow-pattern``.
        """
        ...


class Everything:
    """Matches every line."""

    async def matches(self, texts: Sequence[str]) -> Sequence[bool]:
        """Return true for each text."""
        return [True] * len(texts)


class Plain:
    """Matches lines that contain a text."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    async def matches(self, texts: Sequence[str]) -> Sequence[bool]:
        """Return for each text whether it contains the wanted one."""
        return [self._wanted in plain(text) for text in texts]


class Pattern:
    """Matches lines in which a regular expression is found, in another process."""

    def __init__(self, process: programs.Program, *, pattern: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout
        self._send(pattern)

    async def matches(self, texts: Sequence[str]) -> Sequence[bool]:
        """Return for each text whether the expression is found in it.

        Raises:
            UserError: ``logs.slow-pattern``; the process has been ended.
        """
        found: list[bool] = []
        for start in range(0, len(texts), BATCH_LINES):
            found += await self._ask(texts[start : start + BATCH_LINES])
        return found

    async def end(self) -> None:
        """End the process and wait for it. Repeating is harmless."""
        self._process.kill()
        self._requests.close()
        while await self._answers.read(BATCH_LINES):  # a pipe is closed at its end
            pass
        await self._process.wait()

    async def _ask(self, texts: Sequence[str]) -> list[bool]:
        try:
            async with asyncio.timeout(BATCH_SECONDS):
                self._send("\n".join(plain(text).replace("\n", " ") for text in texts))
                await self._requests.drain()
                answer = await self._answers.readexactly(len(texts))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await self.end()
            raise UserError(
                "logs.slow-pattern",
                "The pattern takes too long to match.",
                "Repetitions inside repetitions, such as (a+)+, are what makes a pattern slow.",
            ) from error
        return [byte == 1 for byte in answer]

    def _send(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self._requests.write(len(data).to_bytes(_SIZE, "big") + data)


@contextlib.asynccontextmanager
async def matcher(pattern: str | None) -> AsyncIterator[Matcher]:
    """Give a matcher of `pattern` until the block ends; `None` matches everything.

    Raises:
        UserError: ``logs.bad-pattern``, it is too long or no regular expression.
    """
    if pattern is None:
        yield Everything()
    elif not _SPECIAL & set(pattern):
        yield Plain(pattern)
    else:
        _check(pattern)
        command = (sys.executable, "-I", "-S", str(_PROGRAM))
        process = await programs.start(command, environment={}, is_fed=True, tells_errors=False, limit=BATCH_LINES)
        found = Pattern(process, pattern=pattern)
        try:
            yield found
        finally:
            await found.end()


def _check(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise UserError(
            "logs.bad-pattern", f"The pattern has {len(pattern)} characters; at most {MAX_PATTERN} are allowed."
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            "logs.bad-pattern",
            f"The pattern is not a regular expression: {error}.",
            "A backslash before a special character makes it stand for itself.",
        ) from error
