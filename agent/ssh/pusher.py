"""What somebody who pushes reads from us, around what git itself says."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from agent import sanitise
from agent.ports.session import Session
from agent.state.deploys import Deploy
from proto.names import AppName

log = structlog.get_logger(__name__)

MAX_NAMED = 5
"""How many branches that do not deploy get lines of their own."""


class Pusher:
    """The standard error of one push. Somebody who has left is no reason to stop: the push counts all the same."""

    def __init__(self, session: Session, name: AppName) -> None:
        self._session = session
        self._name = name

    async def must_wait(self) -> None:
        """Another push to the app goes first."""
        await self._say(f"-----> Waiting for another push to {self._name} to end")

    async def created(self) -> None:
        """The push made the app."""
        await self._say(f"-----> Created {self._name}")

    async def deploys_from(self, branch: str) -> None:
        """The push decided which branch deploys."""
        await self._say(f"-----> {branch} is the branch that deploys {self._name} from now on")

    async def deploys_again(self, branch: str) -> None:
        """Nothing new was pushed, and what is there did not go live."""
        await self._say(f"-----> {branch} did not go live last time; deploying it again")

    async def not_deployed(self, others: Sequence[str], *, branch: str) -> None:
        """Other branches than the one that deploys arrived, and were stored."""
        for other in others[:MAX_NAMED]:
            await self._say(
                f"-----> {other} was stored, not deployed: {branch} is the branch that deploys {self._name}",
                f"       Deploy it once: git push <remote> {other}:{branch}",
                f"       Deploy it from now on: git:set {self._name} deploy-branch {other}",
            )

    async def no_branch(self) -> None:
        """A push to an app that does not exist brought no branch, or none that git took."""
        await self._say(
            f"-----> No branch was stored, so {self._name} was not created",
            "       Push one that git takes: git push <remote> main",
        )

    async def deploying(self, deploy: Deploy) -> None:
        """The deploy is recorded and goes on whatever happens to the pusher."""
        commit = f" at {deploy.commit_id[:8]}" if deploy.commit_id else ""
        await self._say(
            f"-----> Deploying {self._name}{commit}; it goes on if you leave (Ctrl-C)",
            f"       Watch it again: deploys:output {self._name} {deploy.id}",
            f"       Cancel it: deploys:cancel {self._name} {deploy.id}",
        )

    async def _say(self, *lines: str) -> None:
        text = "".join(sanitise.clean(line) + "\n" for line in lines)
        try:
            await self._session.write_error(text.encode())
        except ConnectionError:
            log.debug("push.pusher-gone")
