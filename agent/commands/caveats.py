"""What is said beside an answer that comes from what is stored, where that may not be how it is."""

from __future__ import annotations

from agent.commands.command import Context

SILENT = "Docker does not answer."
LISTED = "What is listed is how it was before. See: doctor"
STORED = "What you ask for is stored, and is done once Docker answers. See: doctor"


async def tell_if_docker_is_silent(ctx: Context, hint: str = LISTED) -> None:
    """Say on standard error that Docker does not answer, if so. Takes half a second at most."""
    if not await ctx.scheduler.answers():
        await ctx.screen.trouble(SILENT, hint)
