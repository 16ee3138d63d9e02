"""Images on their way from or to a registry: what the engine says meanwhile, line by line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from agent.docker.engine import Faulted
from agent.errors import UserError
from agent.ports.world import Say

SILENCE_SECONDS: Final = 120.0
"""A transfer that says nothing for so long has lost its registry. The engine tries again by itself meanwhile."""
REPORT_SECONDS: Final = 5.0
"""Between two lines about a transfer under way."""
BUSY_PAUSES: Final = (2.0, 5.0, 15.0)
"""Seconds before a registry that was too busy is asked again, and once more; then it is told. Registries that count
pulls count by the hour: longer would help only those that are started anew."""
_BUSY: Final = re.compile(
    r"toomanyrequests|429 Too Many|\bHTTP (?:status: )?(?:429|5\d\d)\b"
    r"|\b(?:500 Internal|502 Bad|503 Service|504 Gateway)\b",
    re.IGNORECASE,
)
"""How engine and BuildKit pass on that a registry answered 429 or 5xx (distribution, registry/client/errors.go;
containerd, remotes/docker)."""


class _Amount(msgspec.Struct, frozen=True):
    current: int = 0
    total: int = 0


class _Progress(msgspec.Struct, frozen=True):
    status: str = ""
    id: str = ""
    error: str = ""
    amount: _Amount | None = msgspec.field(name="progressDetail", default=None)


def is_busy(reason: str) -> bool:
    """Tell whether a registry answered that it is not able to just now: what it has is not known by that."""
    return bool(_BUSY.search(reason))


async def patient(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield `chunks` until they end.

    Raises:
        Faulted: none came for `SILENCE_SECONDS`.
    """
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Faulted(504, "the registry does not answer") from error
        yield chunk


async def follow(
    chunks: AsyncIterator[bytes],
    *,
    failed: Callable[[str], UserError],
    say: Say = lambda line: None,
    what: str = "",
    moving: str = "Downloading",
) -> None:
    """Read what the engine says to its end; now and then say how far it is.

    `what`: how a line about that begins. `moving`: the engine's word for a layer that is under way.

    Raises:
        UserError: what `failed` makes of the engine's reason.
    """
    loop = asyncio.get_running_loop()
    layers: dict[str, tuple[int, int]] = {}
    rest, next_report = b"", loop.time() + REPORT_SECONDS
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(bytes.strip, lines):
            step = msgspec.json.decode(line, type=_Progress)
            if step.error:
                raise failed(step.error)
            if step.amount and step.amount.total and step.status == moving:
                # A layer that is compressed on its way is counted past its size.
                layers[step.id] = (min(step.amount.current, step.amount.total), step.amount.total)
        if layers and loop.time() >= next_report:
            next_report = loop.time() + REPORT_SECONDS
            done, total = (sum(column) / 1e6 for column in zip(*layers.values(), strict=True))
            say(f"{what}: {done:.0f} of {total:.0f} MB")
