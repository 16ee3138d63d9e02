"""Pauses that grow while something keeps failing."""

from __future__ import annotations

import asyncio
from typing import Final

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 5.0
"""An engine that comes back is found within this time, which is what users were promised."""


class Backoff:
    """The pause before the next attempt: doubled by each, and short again after a success."""

    def __init__(self) -> None:
        self.seconds = FIRST_SECONDS

    def reset(self) -> None:
        """Note a success."""
        self.seconds = FIRST_SECONDS

    async def pause(self) -> None:
        """Wait, and wait longer the next time."""
        await asyncio.sleep(self.seconds)
        self.seconds = min(self.seconds * 2, LONGEST_SECONDS)
