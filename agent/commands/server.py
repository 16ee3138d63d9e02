"""``help``, ``version``, ``doctor``: the server itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from agent.commands.arguments import Argument, Flag
from agent.commands.command import Command, Context
from agent.commands.replies import HEADING, INDENT, WARNING, Json, Raw, Reply
from proto.wire import PROTOCOL, Exit


class Version(Command, frozen=True, kw_only=True):
    """Print the version of the agent."""

    name = "version"
    permission = "read"
    examples = ("version",)

    async def run(self, ctx: Context) -> Reply:
        """Answer from what the agent was started with."""
        return Raw(
            text=f"pushboat version {ctx.server.version}\n",
            data={"version": ctx.server.version, "protocol": PROTOCOL},
        )


class Problem(msgspec.Struct, frozen=True):
    """Something that is wrong."""

    about: str
    message: str
    hint: str


class Diagnosis(Reply, frozen=True, kw_only=True):
    """What ``doctor`` found."""

    looked_at: tuple[str, ...]
    problems: tuple[Problem, ...]

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield each thing that was looked at, with what is wrong about it."""
        for about in self.looked_at:
            found = [problem for problem in self.problems if problem.about == about]
            if not quiet or found:
                yield f"{HEADING}{about}: {'in order' if not found else 'not in order'}"
            for problem in found:
                yield f"{WARNING}{problem.message}"
                yield f"{INDENT}{problem.hint}"

    def json(self) -> Json:
        """Return the problems."""
        return {"looked_at": self.looked_at, "problems": [msgspec.to_builtins(problem) for problem in self.problems]}


class DoctorCommand(Command, frozen=True, kw_only=True):
    """Look for what is wrong with this server, and say what to do.

    Looks at Docker, HAProxy, disk, clock, ports and permissions. Changes nothing. Ends with status 1 if something is
    wrong.
    """

    name = "doctor"
    permission = "read"
    examples = ("doctor", "doctor --format json")

    async def run(self, ctx: Context) -> Reply:
        """Ask each part about itself."""
        found = [
            Problem(about, message, hint) for about, doctor in ctx.doctors for message, hint in await doctor.problems()
        ]
        return Diagnosis(
            looked_at=tuple(about for about, _ in ctx.doctors),
            problems=tuple(found),
            status=Exit.FAILED if found else Exit.OK,
        )


class Help(Command, frozen=True, kw_only=True):
    """Tell what there is, or what a command does."""

    name = "help"
    permission = "read"
    examples = ("help", "help --all", "help config:set", "config:help")

    topic: Annotated[str, Argument(help="A command or a noun.")] = ""
    is_all: Annotated[bool, Flag(names=("--all",), help="List every command.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Answer from the commands' own descriptions."""
        return Raw(text="".join(f"{line}\n" for line in ctx.guide.help(self.topic, is_all=self.is_all)))


class Complete(Command, frozen=True, kw_only=True):
    """List what the last word of a command line may become, for shells."""

    name = "complete"
    permission = "read"
    is_hidden = True

    words: Annotated[tuple[str, ...], Argument(help="The words typed so far.", is_command=True)] = ()

    async def run(self, ctx: Context) -> Reply:
        """Answer with one candidate a line: commands, flags, and for the first argument the names of apps."""
        found = ctx.guide.candidates(self.words)
        if not found and len(self.words) == 2:
            found = [app.name for app in await ctx.database.read.apps.all() if app.name.startswith(self.words[-1])]
        return Raw(text="".join(f"{candidate}\n" for candidate in found), data=found)
