"""Keeps Python's collector of cycles from stopping everybody.

A full collection looks at every object there is: with 5,000 apps that took half a second, in which nobody was served
(``bench/scale``). What has been there for a while stays. So once the agent is at rest, what it holds is set aside
(``gc.freeze``), and collections look at what came since. Once a day all of it is looked at after all.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

FIRST_SECONDS: Final = 60.0
"""After the start: apps were looked at, and their logs are followed."""
ROUND_SECONDS: Final = 86_400.0


async def set_aside(*, first: float = FIRST_SECONDS, every: float = ROUND_SECONDS) -> None:
    """Do so after `first` seconds, and then every so many, until cancelled."""
    await asyncio.sleep(first)
    while True:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        await asyncio.sleep(every)
