from __future__ import annotations

import asyncio
import gc

from agent.bootstrap.garbage import set_aside


async def test_what_is_there_for_long_is_looked_at_no_more() -> None:
    before = gc.get_freeze_count()
    task = asyncio.create_task(set_aside(first=0.0, every=0.01))
    try:
        while gc.get_freeze_count() <= before:
            await asyncio.sleep(0.001)
        assert gc.get_freeze_count() > len(gc.get_objects(generation=2)), "all that was old"
    finally:
        task.cancel()
        await asyncio.wait((task,))
        gc.unfreeze()
