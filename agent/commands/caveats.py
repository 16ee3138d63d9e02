"""What is said beside an answer that comes from what is stored, where that may not be how it is."""

from __future__ import annotations

from agent.commands.command import Context
from agent.commands.replies import as_json
from proto.wire import Failure

SILENT = "Docker does not answer."
LISTED = "What is listed is how it was before. See: doctor"
STORED = "What you ask for is stored, and is done once Docker answers. See: doctor"


async def tell_if_docker_is_silent(ctx: Context, hint: str = LISTED) -> None:
    """Say on standard error that Docker does not answer, if so. Takes half a second at most."""
    if await ctx.scheduler.answers():
        return
    if ctx.options.as_json:
        # A line of its own, like a failure, and told apart from one by its key.
        caveat = {"warning": Failure(code="docker.unavailable", message=SILENT, hint=hint)}
        await ctx.screen.lines((as_json(caveat),), to_stderr=True)
    else:
        await ctx.screen.trouble(SILENT, hint)
