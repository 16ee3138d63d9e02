"""One session: to git or to the commands, and every way it can end mapped to a line and a status.

There is no shell here. A line either names one of git's two services or goes to the dispatcher as it is.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import Literal, Protocol

import msgspec
import structlog

from agent import sanitise
from agent.errors import UserError
from agent.ports.session import Session
from agent.ports.world import Ids
from agent.ssh.channel import Channel
from proto.names import AppName, app_name
from proto.wire import Exit

log = structlog.get_logger(__name__)

Service = Literal["receive-pack", "upload-pack"]

_GIT = re.compile(r"git[- ](?P<service>receive-pack|upload-pack|upload-archive|lfs-[a-z-]+)(?P<path>( .*)?)", re.DOTALL)
_FAREWELL = (
    " !     Pushboat is being stopped, so this session ends.",
    "       A deploy under way goes on. Watch it, once the server is back, with: deploys:output",
)
_URL = "ssh://HOST:PORT/APP, for example ssh://example.com:2222/blog"


class Dispatcher(Protocol):
    """What runs commands."""

    async def run(self, line: str, session: Session) -> int:
        """Run one command line; return its exit status. Expected trouble is shown, not raised."""
        ...


class GitService(Protocol):
    """What serves pushes, fetches and clones."""

    async def receive(self, name: AppName, session: Session) -> int:
        """Serve one ``git push`` to the app; return the exit status for the pusher."""
        ...

    async def upload(self, name: AppName, session: Session) -> int:
        """Serve one ``git fetch`` or ``git clone`` of the app's repository; return git's exit status."""
        ...


class GitRequest(msgspec.Struct, frozen=True):
    """What git asks for on the client's behalf."""

    service: Service
    app: AppName


class Shell:
    """Answers sessions."""

    def __init__(self, dispatcher: Dispatcher, git: GitService, *, ids: Ids) -> None:
        self._dispatcher = dispatcher
        self._git = git
        self._ids = ids

    async def serve(self, channel: Channel) -> None:
        """Run what the client asked for and end the session with its status. Raises nothing but cancellation."""
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
        with structlog.contextvars.bound_contextvars(user=channel.user.name):
            if line is None:
                return await self._dispatcher.run("help", channel)
            _check_text(line)
            request = git_request(line)
            if request is None:
                return await self._dispatcher.run(line, channel)
            serve = self._git.receive if request.service == "receive-pack" else self._git.upload
            return await serve(request.app, channel)

    async def _tell_bug(self, channel: Channel) -> None:
        number = self._ids.new("b")
        log.exception("ssh.session-failed", bug=number)
        await _tell(
            channel,
            f"Pushboat made a mistake ({number}).",
            "What was under way may or may not be done. The agent's log tells more about that number.",
        )


def git_request(line: str) -> GitRequest | None:
    """Return what git asks for by `line`, or `None` if it is a command of ours.

    Raises:
        UserError: ``git.service`` or ``git.path``, it is git's, and not for us.
    """
    match = _GIT.fullmatch(line)
    if match is None:
        return None
    service = match["service"]
    if service == "upload-archive":
        raise UserError("git.service", "Pushboat makes no archives.", "Clone the repository: git clone")
    if service.startswith("lfs-"):
        raise UserError(
            "git.service",
            "Pushboat does not store files of Git LFS.",
            "Put the files into the repository itself: git lfs migrate export",
        )
    return GitRequest("receive-pack" if service == "receive-pack" else "upload-pack", pushed_app(match["path"]))


def pushed_app(words: str) -> AppName:
    """Return the app that the one quoted word of `words` names: ``'blog'``, ``'/blog'``, ``'~/blog'``, ``'blog.git'``.

    Raises:
        UserError: ``git.path``, it is no app's name.
    """
    try:
        parts = shlex.split(words)
    except ValueError:
        parts = []
    if len(parts) != 1:
        raise UserError("git.path", "Git sent no name of an app, or more than one.", f"Use a URL like {_URL}.")
    bare = parts[0].removeprefix("~").removeprefix("/").removesuffix("/").removesuffix(".git")
    try:
        return app_name(bare)
    except ValueError as error:
        shown = sanitise.plain(parts[0][:80]).replace("\n", " ")
        raise UserError(
            "git.path",
            f"“{shown}” is not the name of an app.",
            f"An app's name has a-z, 0-9, - and . in it. Use a URL like {_URL}.",
        ) from error


def _check_text(line: str) -> None:
    # Bytes that are no UTF-8 arrive as lone surrogates, which nothing after this could store or show.
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            "command.not-text", "The command is not UTF-8 text.", "Send binary data on standard input."
        ) from error


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
