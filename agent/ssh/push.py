"""One ``git push``, from the first byte to the last line the pusher reads.

git shows what the server writes to standard error until the channel closes, and takes its exit status from it. So git
itself is done early, and the deploy is shown after it: no hook scripts, no second connection.

What deploys is decided by the branch's tip before and after, never by what the client says. git's own answer to the
client is held back until the deploy is recorded: what the client is told was stored, was stored; what we refuse after
all, a tree that breaks a cap, is put back and told as refused. An app that does not exist yet gets a repository first
and its row only together with the deploy: whoever dies in between leaves an empty folder, which the next start removes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import ClassVar, Protocol

import msgspec
from structlog.contextvars import bind_contextvars

from agent.commands.requests import Permission, Request
from agent.errors import UserError
from agent.git.command_list import CommandList, RefUpdate
from agent.git.receive import PushLimits, receive
from agent.git.repos import GitRepos
from agent.lifecycle import apps, deploys, properties
from agent.lifecycle.cleaning import Doorkeeper
from agent.ports.session import Session, Terminal
from agent.ports.world import Ids
from agent.ssh.arriving import Arrival
from agent.ssh.pusher import MAX_NAMED, Pusher
from agent.state.apps import App
from agent.state.database import Database, Tables
from agent.state.deploys import Deploy
from proto.names import SERVER, AppId, AppName, DeployId
from proto.wire import Exit

DEPLOY_BRANCH = "git.deploy-branch"
"""Property: the branch whose pushes deploy. The server's own value is only a wish for apps that have none yet."""

_USUAL_BRANCHES = ("main", "master")
"""Taken first where one push brings several branches to an app without a deploy branch."""


class Watcher(Protocol):
    """Shows a deploy to somebody."""

    async def watch(self, deploy: DeployId, terminal: Terminal, *, to_stderr: bool = False) -> int:
        """Show the deploy from its first line to its outcome; return 0 if it went live, else 1.

        Ends with 1 when the other end has left; the deploy goes on.
        """
        ...


class Pushes:
    """Serves ``git push``, and deploys what arrives on the deploy branch. A `Service`."""

    name: ClassVar[str] = "git-receive-pack"
    permission: ClassVar[Permission] = "change"

    def __init__(
        self,
        database: Database,
        repos: GitRepos,
        watcher: Watcher,
        *,
        ids: Ids,
        door: Doorkeeper,
        limits: PushLimits | None = None,
        creates_apps: bool = True,
    ) -> None:
        """`creates_apps`: whether a push to an app that does not exist creates it."""
        self._database = database
        self._repos = repos
        self._watcher = watcher
        self._ids = ids
        self._limits = limits or PushLimits()
        self._creates_apps = creates_apps
        self._door = door
        self._turns = repos.turns

    async def serve(self, name: AppName, session: Session, request: Request) -> int:
        """Serve one ``git push`` and show the deploy it leads to; return the exit status for the pusher.

        The deploy belongs to the bus: it goes on when the pusher leaves.

        Raises:
            UserError: the push was refused; nothing was stored.
        """
        pusher = Pusher(session, name)
        async with self._turn(name, pusher) as target:
            # Not before: the name may have gone to another app while this push waited for its turn.
            request.authorise(target.app)
            await self._door.admit_push()
            bind_contextvars(app=target.id)  # one that is created by this push, too
            push = _Push(self._database, self._repos, target, session, pusher, self._ids, request)
            deploy, status = await push.take(self._limits)
        if deploy is None:
            return status
        bind_contextvars(deploy=deploy.id)
        # `git push -q` cannot be told from a push without a terminal (CI): both ask for quiet, and CI wants to see.
        await pusher.deploying(deploy)
        return await self._watcher.watch(deploy.id, session, to_stderr=True)

    @asynccontextmanager
    async def _turn(self, name: AppName, pusher: Pusher) -> AsyncIterator[_Target]:
        """Find out where the push goes and keep all others to the same app out, until its deploy is recorded."""
        while True:
            key = await self._key(name)
            if self._turns.is_taken(key):
                await pusher.must_wait()
            async with self._turns.of(key):
                # Created, destroyed or renamed while we waited: another key's turn, then.
                if await self._key(name) == key:
                    yield await self._target(name)
                    return

    async def _key(self, name: AppName) -> str:
        app = await self._database.read.apps.by_name(name)
        return app.id if app else f"new {name}"

    async def _target(self, name: AppName) -> _Target:
        app = await self._database.read.apps.by_name(name)
        if app is not None:
            return _Target(app.id, name, app, await self._database.read.properties.get(app.id, DEPLOY_BRANCH))
        if not self._creates_apps:
            await apps.find(self._database.read, name)
        return _Target(AppId(self._ids.new("a")), name, None, None)


class _Target(msgspec.Struct, frozen=True):
    """Where one push goes."""

    id: AppId
    name: AppName
    app: App | None
    """`None`: it will be created by this push."""
    branch: str | None
    """The branch that deploys; `None` until there is one."""


class _Push:
    """One push whose turn it is."""

    def __init__(
        self,
        database: Database,
        repos: GitRepos,
        target: _Target,
        session: Session,
        pusher: Pusher,
        ids: Ids,
        request: Request,
    ) -> None:
        self._database = database
        self._repos = repos
        self._target = target
        self._session = session
        self._pusher = pusher
        self._ids = ids
        self._request = request
        self._before: str | None = None
        self._deploy: Deploy | None = None
        self._arrival = Arrival(database, repos, target.id)
        self._is_settled = False
        self._news: list[Callable[[], Awaitable[None]]] = []
        """What the pusher is to be told once nothing can go wrong any more."""

    async def take(self, limits: PushLimits) -> tuple[Deploy | None, int]:
        """Receive the push; return the deploy to be watched, or `None` and the exit status."""
        target = self._target
        await self._repos.create(target.id)
        try:
            await self._arrival.mend()
            self._before = await self._repos.tip(target.id, target.branch) if target.branch else None
            received = await receive(
                self._repos.path(target.id),
                self._session,
                protocol=self._session.environment.get("GIT_PROTOCOL", ""),
                judge=self._admit,
                settle=self._settle,
                limits=limits,
            )
            if received.commands is None or received.status != 0:
                return None, received.status or Exit.FAILED
            for tell in self._news:
                await tell()
            if self._deploy is None and received.is_refused:
                return None, Exit.FAILED
            return self._deploy, Exit.OK
        finally:
            await self._arrival.end(is_settled=self._is_settled)
            if target.app is None and self._deploy is None:
                await self._repos.remove(target.id)

    async def _admit(self, commands: CommandList) -> None:
        """Refuse what git would take and we do not, or note what may lead to a deploy before git hears of it."""
        _judge(commands, self._target)
        branches = {update.branch for update in commands.updates}
        # The repository of an app that does not exist yet goes as a whole, now or at the next start.
        if branches and self._target.app is not None and self._target.branch in (None, *branches):
            await self._arrival.begin(commands.updates)

    async def _settle(self, commands: CommandList) -> None:
        """Record what this push leads to. The last thing that can refuse it."""
        await self._lead_on(commands)
        if self._deploy is None and self._target.app is not None and commands.updates:
            # What is only stored is to outlive the machine too, before its pusher hears that it was.
            await self._repos.sync(self._target.id)
        self._is_settled = True

    async def _lead_on(self, commands: CommandList) -> None:
        """Record the deploy that this push leads to, if any."""
        await _refuse_if_changed(self._database.read, self._target)
        branch = self._target.branch or await self._first_branch(commands.updates)
        if branch is None:
            if commands.updates and self._target.app is None:
                self._news.append(self._pusher.no_branch)
            return
        tip = await self._repos.tip(self._target.id, branch)
        others = await self._stored(commands.updates, but=branch)
        self._news.append(partial(self._pusher.not_deployed, others, branch=branch))
        if tip is not None and not commands.updates:
            self._deploy = await self._accept_again(branch, tip)
        elif tip is not None and tip != self._before:
            self._deploy = await self._record(branch, tip)

    async def _accept_again(self, branch: str, tip: str) -> Deploy | None:
        """Say what "Everything up-to-date" leads to: a deploy under way, a new one, or nothing.

        A dry run sends the same four bytes, and so it does the same.
        """
        if self._target.app is None:
            return None
        outcome = await deploys.push_outcome(self._database.read, app=self._target.app, commit=tip)
        if outcome == "nothing":
            return None
        if outcome == "deploy":
            self._news.append(partial(self._pusher.deploys_again, branch))
            return await self._record(branch, tip)
        return outcome

    async def _record(self, branch: str, tip: str) -> Deploy:
        """Store the deploy, and with it the app and its deploy branch where this push makes them.

        Raises:
            UserError: ``source.*``, the tree breaks a cap; or the app is another by now. Nothing is stored.
        """
        target = self._target
        by = self._session.user.name
        await self._repos.tree(target.id, tip).entries()
        await self._repos.sync(target.id)
        if target.branch is None:
            await self._repos.set_head(target.id, branch)
        deploy = DeployId(self._ids.new("d"))
        async with self._database.transaction() as tx:
            await _refuse_if_changed(tx, target)
            if target.app is None:
                await apps.create(tx, app=target.id, name=target.name, by=by)
            if target.branch is None:
                await properties.set_property(tx, app=target.id, name=DEPLOY_BRANCH, value=branch)
            accepted = await deploys.accept(
                tx, deploy=deploy, app=target.id, kind="push", by=by, why=f"push of {branch}", commit=tip
            )
            await self._arrival.recorded(tx)
            await self._request.record(tx, app=target.id, status=Exit.OK)
        bind_contextvars(deploy=deploy)
        if target.app is None:
            self._news.append(self._pusher.created)
        if target.branch is None:
            self._news.append(partial(self._pusher.deploys_from, branch))
        return accepted

    async def _stored(self, updates: Sequence[RefUpdate], *, but: str) -> list[str]:
        """Return the branches that this push brought and git took, `but` left out. The first few of many."""
        others = [update for update in updates if update.branch not in (None, but) and not update.is_deletion]
        return [
            update.branch
            for update in others[:MAX_NAMED]
            if update.branch and await self._repos.tip(self._target.id, update.branch) == update.new
        ]

    async def _first_branch(self, updates: Sequence[RefUpdate]) -> str | None:
        """Return the branch that becomes the deploy branch of an app without one.

        That is the first that this push brought, or, where an earlier push brought it and nobody recorded it, the one
        that is there.
        """
        present = await self._repos.branches(self._target.id)
        pushed = [update.branch for update in updates if update.branch in present and not update.is_deletion]
        candidates = [branch for branch in pushed if branch] or ([] if updates else present)
        wished = await self._database.read.properties.get(SERVER, DEPLOY_BRANCH)
        usual = [branch for branch in (wished, *_USUAL_BRANCHES) if branch in candidates]
        return next(iter(usual or candidates), None)


def _judge(commands: CommandList, target: _Target) -> None:
    """Refuse what git would take and we do not.

    Raises:
        UserError: ``push.deletes-deploy-branch``.
    """
    deleted = {update.branch for update in commands.updates if update.is_deletion}
    if target.branch is not None and target.branch in deleted:
        raise UserError(
            "push.deletes-deploy-branch",
            f"{target.branch} is the branch that deploys {target.name}, so it cannot be deleted.",
            f"Choose another one first: git:set {target.name} deploy-branch BRANCH",
        )


async def _refuse_if_changed(tables: Tables, target: _Target) -> None:
    """Make sure that the app is still what it was when the push began.

    Raises:
        UserError: ``app.destroyed``, ``app.exists`` or ``push.branch-changed``.
    """
    if target.app is None:
        if await tables.apps.by_name(target.name) is not None:
            raise UserError("app.exists", f"{target.name} was created by somebody while you pushed.", "Push again.")
        return
    row = await tables.apps.get(target.id)
    if row is None or row.destroyed_at is not None:
        raise UserError(
            "app.destroyed", f"{target.name} was destroyed while you pushed.", "Push again to make it anew."
        )
    if await tables.properties.get(target.id, DEPLOY_BRANCH) != target.branch:
        message = f"Somebody chose another branch to deploy {target.name} while you pushed."
        raise UserError("push.branch-changed", message, f"See which: git:report {target.name}. Then push again.")
