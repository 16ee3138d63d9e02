"""One session: its line goes to the dispatcher as it is, and every way it can end is mapped to a line and a status.

There is no shell here.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from agent import sanitise
from agent.errors import UserError
from agent.log import piece_of_work
from agent.ports.session import Session
from agent.ports.world import Ids
from agent.ssh.channel import Channel
from proto.wire import Exit

log = structlog.get_logger(__name__)

MAX_COMMAND_BYTES = 256 * 1024
"""Of one command line. Longer ones hold what belongs on standard input."""

_FAREWELL = (
    " !     Pushboat is being stopped, so this session ends.",
    "       A deploy under way goes on. Watch it, once the server is back, with: deploys:output",
)


class Dispatcher(Protocol):
    """What runs commands and serves git."""

    async def run(self, line: str, session: Session) -> int:
        """Run one line; return its exit status. Expected trouble is shown, not raised."""
        ...


class Shell:
    """Answers sessions."""

    def __init__(self, dispatcher: Dispatcher, *, ids: Ids) -> None:
        self._dispatcher = dispatcher
        self._ids = ids

    async def serve(self, channel: Channel) -> None:
        """Run what the client asked for and end the session with its status. Raises nothing but cancellation."""
        with piece_of_work(user=channel.user.name):
            await self._serve(channel)

    async def _serve(self, channel: Channel) -> None:
        status: int = Exit.UNAVAILABLE
        try:
            status = await self._answer(channel)
        except asyncio.CancelledError:
            channel.say_last(_FAREWELL)
            raise
        except ConnectionError:
            status = Exit.FAILED  # nobody is there to read why
        except UserError as error:
            status = error.status
            await _tell(channel, error.message, error.hint)
        except Exception:
            status = Exit.BUG
            await self._tell_bug(channel)
        finally:
            channel.exit(status)

    async def _answer(self, channel: Channel) -> int:
        line = channel.command
        if line is None:
            return await self._dispatcher.run("help", channel)
        _check(line)
        return await self._dispatcher.run(line, channel)

    async def _tell_bug(self, channel: Channel) -> None:
        number = self._ids.new("b")
        log.exception("ssh.session-failed", bug=number)
        await _tell(
            channel,
            f"Pushboat made a mistake ({number}).",
            "What was under way may or may not be done. The agent's log tells more about that number.",
        )


def _check(line: str) -> None:
    # Bytes that are no UTF-8 arrive as lone surrogates, which nothing after this could store or show.
    try:
        size = len(line.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UserError(
            "command.not-text", "The command is not UTF-8 text.", "Send binary data on standard input."
        ) from error
    if size > MAX_COMMAND_BYTES:
        raise UserError(
            "command.too-long",
            f"The command is longer than {MAX_COMMAND_BYTES // 1024} KiB.",
            "Give long values on standard input: config:import <app> < file",
        )


async def _tell(session: Session, message: str, hint: str) -> None:
    """Say what went wrong, in Pushboat's form. Harmless if nobody is there any more."""
    lines = [f" !     {message}", *(f"       {line}" for line in hint.split("\n") if hint)]
    # Nobody turns \n into \r\n behind a pty of SSH.
    end = "\r\n" if session.is_tty else "\n"
    text = "".join(sanitise.clean(line) + end for line in lines)
    try:
        await session.write_error(text.encode("utf-8", "replace"))
    except ConnectionError:
        log.debug("ssh.reader-gone")
