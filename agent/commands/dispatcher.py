"""One command line: split, parsed, allowed or refused, run, answered, recorded. Git's own lines too.

Nothing that a person can type leads to a traceback in front of him: expected trouble becomes a sentence and a hint,
a bug a line with an id whose traceback is in the agent's log, a reader who has gone an exit status.
"""

from __future__ import annotations

import errno

import structlog

from agent.commands.command import Context, World
from agent.commands.helping import Guide
from agent.commands.parsing import Format, HelpWanted, Invocation, parse
from agent.commands.registry import Registry
from agent.commands.replies import Raw, Reply, as_json
from agent.commands.requests import asking
from agent.commands.screen import Screen
from agent.commands.services import Services, git_line
from agent.commands.words import split
from agent.errors import Unavailable, UserError
from agent.lifecycle.apps import find
from agent.log import piece_of_work
from agent.ports.session import Session
from proto.wire import Exit, Failure, FailureEnvelope

log = structlog.get_logger(__name__)

_BUSY_HINT = "Try again in a moment. If it lasts, raise LimitNOFILE of pushboat.service."

LINKED_APP = "PUSHBOAT_APP"
"""Variable in which the client tells the app of its folder's git remote."""


class Dispatcher:
    """Runs what people ask for. Every line of every session goes through `run`, those that git sends included."""

    def __init__(self, registry: Registry, *, world: World, services: Services) -> None:
        self._registry = registry
        self._world = world
        self._services = services
        self._guide = Guide(registry)

    async def run(self, line: str, session: Session) -> int:
        """Run one command line for a session and return the exit status. Raises nothing but cancellation."""
        format = Format()
        with piece_of_work(user=session.user.name):
            try:
                return await self._attempt(line, session, format)
            except ConnectionError:
                return Exit.FAILED
            except Exception as error:
                return await self._answer_trouble(error, session, format)

    async def _attempt(self, line: str, session: Session, format: Format) -> int:
        if asked := git_line(line):
            return await self._services.serve(asked, session)
        linked_app = session.environment.get(LINKED_APP, "")
        try:
            invocation = parse(split(line), registry=self._registry, linked_app=linked_app, format=format)
        except HelpWanted as wanted:
            await Screen(session).lines(self._guide.help(wanted.topic))
            return Exit.OK
        return await self._run(invocation, session)

    async def _run(self, invocation: Invocation, session: Session) -> int:
        database, command = self._world.database, invocation.entry.command
        async with asking(database, user=session.user, asked=command) as request:
            app = await find(database.read, invocation.app) if invocation.app is not None else None
            request.authorise(app)
            context = Context(self._world, guide=self._guide, session=session, options=invocation.options, app=app)
            reply = await invocation.command.run(context)
            await _render(reply, context)
            request.status = reply.status
        return request.status

    async def _answer_trouble(self, error: Exception, session: Session, format: Format) -> int:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            log.warning("command.no-descriptor", reason=str(error))
            error = Unavailable("agent.no-descriptor", "The server has as many files open as it may.", _BUSY_HINT)
        elif not isinstance(error, UserError):
            mark = self._world.ids.new("b")
            log.error("command.failed", id=mark, exc_info=error)
            error = UserError(
                "agent.bug",
                f"Pushboat made a mistake ({mark}); it is in the agent's log under that id.",
                "Trying again is harmless. Please report it with those lines.",
                status=Exit.BUG,
            )
        screen = Screen(session)
        try:
            if format.as_json:
                failure = Failure(code=error.code, message=error.message, hint=error.hint)
                line = as_json(FailureEnvelope(failure))
                await screen.lines((line,), to_stderr=True)
            else:
                await screen.trouble(error.message, error.hint)
        except ConnectionError:
            log.debug("command.reader-gone")
        return error.status


async def _render(reply: Reply, context: Context) -> None:
    if context.options.as_json:
        answer = reply.json()
        if answer is not None:
            await context.screen.raw(as_json(answer) + "\n")
    elif isinstance(reply, Raw):
        await context.screen.raw(reply.text)
    else:
        await context.screen.lines(reply.lines(quiet=context.options.quiet))
