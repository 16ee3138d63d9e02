"""``git fetch`` and ``git clone``: what was pushed can be had back."""

from __future__ import annotations

from typing import ClassVar

from agent.commands.requests import Permission, Request
from agent.git.receive import upload
from agent.git.repos import GitRepos
from agent.lifecycle import apps
from agent.ports.session import Session
from agent.state.database import Database
from proto.names import AppName


class Fetches:
    """Serves ``git fetch`` and ``git clone``. A `Service`."""

    name: ClassVar[str] = "git-upload-pack"
    permission: ClassVar[Permission] = "read"

    def __init__(self, database: Database, repos: GitRepos) -> None:
        self._database = database
        self._repos = repos

    async def serve(self, name: AppName, session: Session, request: Request) -> int:
        """See ``Service.serve``; the status is git's own.

        Raises:
            UserError: ``app.not-found``.
        """
        app = await apps.find(self._database.read, name)
        request.authorise(app)
        await self._repos.create(app.id)
        protocol = session.environment.get("GIT_PROTOCOL", "")
        return await upload(self._repos.path(app.id), session, protocol=protocol)
