"""What is said beside an answer that comes from what is stored, where that may not be how it is."""

from __future__ import annotations

from agent.commands.command import Context

SILENT = "Docker does not answer."
HINT = "What is listed is how it was before. See: doctor"


async def tell_if_docker_is_silent(ctx: Context) -> None:
    """Say on standard error that Docker does not answer, if so. Takes half a second at most."""
    if not await ctx.scheduler.answers():
        await ctx.screen.trouble(SILENT, HINT)
