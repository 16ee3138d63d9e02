"""Git's services: what ``git push``, ``git fetch`` and ``git clone`` ask for, with a permission each, as commands have.

git sends one line, ``git-receive-pack 'blog'``. It is read here, allowed or refused, handed to whoever serves it, and
put on record, refusals included. What is not among the services is refused: there is no default.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Protocol

import msgspec

from agent import sanitise
from agent.commands.requests import Permission, Request, asking, is_declared
from agent.errors import UserError
from agent.ports.session import Session
from agent.state.database import Database
from proto.names import AppName, app_name

_LINE = re.compile(
    r"git[- ](?P<service>receive-pack|upload-pack|upload-archive|lfs-[a-z-]{1,40})(?P<words>( .*)?)", re.DOTALL
)
_URL = "ssh://HOST:PORT/APP, for example ssh://example.com:2222/blog"
_MAX_WORDS = 4_096
"""Characters that are looked at: a name has 63, and shlex reads one at a time."""
_ARCHIVE = "git-upload-archive"
_LFS = "git-lfs-"


class Service(Protocol):
    """One of git's services."""

    @property
    def name(self) -> str:
        """As git calls it: ``git-receive-pack``."""
        ...

    @property
    def permission(self) -> Permission:
        """What it takes to be allowed."""
        ...

    async def serve(self, name: AppName, session: Session, request: Request) -> int:
        """Serve one client and return the exit status for it.

        `request` was authorised for the app that has the name now; ask it again where another may be meant.

        Raises:
            UserError: it was refused.
        """
        ...


class GitLine(msgspec.Struct, frozen=True):
    """What git asks for on the client's behalf."""

    service: str
    words: str
    """What stands behind the service, as it was sent."""


class _Unserved(msgspec.Struct, frozen=True):
    """A service of git's that we do not have. To ask for it is on record all the same."""

    name: str
    permission: Permission = "read"


class Services:
    """Serves git. Never changes once made."""

    def __init__(self, services: Sequence[Service], *, database: Database) -> None:
        """Raises TypeError if a service does not say who may use it: that stops the start."""
        for service in services:
            if not is_declared(service):
                raise TypeError(f"{type(service).__name__} must say its name and its permission")
        self._services = {service.name: service for service in services}
        self._database = database

    async def serve(self, line: GitLine, session: Session) -> int:
        """Serve what git asks for and return the exit status for the client.

        Raises:
            UserError: it was refused; that is on record.
        """
        service = self._services.get(line.service)
        asked = service or _Unserved(line.service)
        async with asking(self._database, user=session.user, asked=asked, is_always_kept=True) as request:
            if service is None:
                raise _unserved(line.service)
            name = named_app(line.words)
            request.authorise(await self._database.read.apps.by_name(name))
            request.status = await service.serve(name, session, request)
        return request.status


def git_line(line: str) -> GitLine | None:
    """Return what git asks for by `line`, or `None` if it is a command of ours."""
    match = _LINE.fullmatch(line)
    return None if match is None else GitLine(f"git-{match['service']}", match["words"])


def named_app(words: str) -> AppName:
    """Return the app that the one quoted word of `words` names: ``'blog'``, ``'/blog'``, ``'~/blog'``, ``'blog.git'``.

    Raises:
        UserError: ``git.path``, it is no app's name.
    """
    try:
        parts = shlex.split(words[:_MAX_WORDS])
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


def _unserved(service: str) -> UserError:
    if service == _ARCHIVE:
        return UserError("git.service", "Pushboat makes no archives.", "Clone the repository: git clone")
    if service.startswith(_LFS):
        return UserError(
            "git.service",
            "Pushboat does not store files of Git LFS.",
            "Put the files into the repository itself: git lfs migrate export",
        )
    return UserError("git.service", f"There is no {service} here.", "Ask who runs this server.")
