"""``help``, ``version``, ``doctor``: the server itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from agent.commands.arguments import Argument, Flag
from agent.commands.command import Command, Context, Doctor
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
    remarks: tuple[Problem, ...] = ()
    """What is as it was set and may still surprise."""

    def lines(self, *, quiet: bool) -> Iterable[str]:
        """Yield each thing that was looked at, with what is wrong about it."""
        for about in self.looked_at:
            found = [problem for problem in self.problems if problem.about == about]
            if not quiet or found:
                yield f"{HEADING}{about}: {'in order' if not found else 'not in order'}"
            yield from _told(found)
        for about in () if quiet else dict.fromkeys(remark.about for remark in self.remarks):
            yield f"{HEADING}{about}: worth knowing"
            yield from _told(remark for remark in self.remarks if remark.about == about)

    def json(self) -> Json:
        """Return the problems and the remarks."""
        return {
            "looked_at": self.looked_at,
            "problems": [msgspec.to_builtins(problem) for problem in self.problems],
            "remarks": [msgspec.to_builtins(remark) for remark in self.remarks],
        }


def _told(problems: Iterable[Problem]) -> Iterable[str]:
    for problem in problems:
        yield f"{WARNING}{problem.message}"
        yield f"{INDENT}{problem.hint}"


class DoctorCommand(Command, frozen=True, kw_only=True):
    """Look for what is wrong with this server, and say what to do.

    Looks at Docker, HAProxy, disk, clock, ports and permissions. Changes nothing. Ends with status 1 if something is
    wrong. What is worth knowing and is no fault is told as well, with status 0.
    """

    name = "doctor"
    permission = "read"
    examples = ("doctor", "doctor --format json")

    async def run(self, ctx: Context) -> Reply:
        """Ask each part about itself."""
        found = await _asked(ctx.doctors)
        return Diagnosis(
            looked_at=tuple(about for about, _ in ctx.doctors),
            problems=found,
            remarks=await _asked(ctx.remarkers),
            status=Exit.FAILED if found else Exit.OK,
        )


async def _asked(doctors: Iterable[tuple[str, Doctor]]) -> tuple[Problem, ...]:
    found = [Problem(about, message, hint) for about, doctor in doctors for message, hint in await doctor.problems()]
    return tuple(found)


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
