"""Looks at the disk by the clock, and has it cleaned when the budget is passed.

A look asks the file system how much is free, and costs next to nothing. Only where all that is ours has a limit too
must it be added up, and is so less often.
"""

from __future__ import annotations

import asyncio

import structlog

from agent.errors import Unavailable
from agent.lifecycle.cleaning import Cleaner, told

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
ADD_UP_SECONDS = 900.0
"""Between two looks where `Budget.max_bytes` is set, and after a round that could not keep the budget."""


class DiskBudget:
    """Keeps the disk within its budget."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    async def run(self) -> None:
        """Look until cancelled. A round that fails is logged, and done again later."""
        while True:
            await asyncio.sleep(ADD_UP_SECONDS if self._cleaner.budget.max_bytes else LOOK_SECONDS)
            if not await self.look():
                await asyncio.sleep(ADD_UP_SECONDS)

    async def look(self) -> bool:
        """Clean if the budget is passed. Return whether it is kept."""
        try:
            if not await self._cleaner.excess():
                return True
            await self._cleaner.clean()
            excess = await self._cleaner.excess()
        except (Unavailable, OSError) as error:
            log.warning("disk.not-cleaned", reason=str(error))
            return False
        if excess:
            log.warning("disk.over-budget", by=told(excess), see="disk:report")
        return not excess
