"""Whether somebody may, and the record that he did: for commands and for git's services alike."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from agent.commands.command import Context
from agent.commands.replies import Reply
from agent.commands.requests import Permission, Request, asking, authorise
from agent.commands.server import Version
from agent.commands.services import Service, Services, git_line
from agent.errors import UserError
from agent.ports.session import Session, User
from proto.names import AppName, Fingerprint
from proto.wire import Exit
from tests.commands.desk import Desk
from tests.fakes.session import ADA, FakeSession

NOBODY = User("", Fingerprint(""))


class Fetching:
    """A service that notes whom it served."""

    name: ClassVar[str] = "git-upload-pack"
    permission: ClassVar[Permission] = "read"

    def __init__(self, *, status: int = 0, error: Exception | None = None) -> None:
        self.served: list[str] = []
        self._status = status
        self._error = error

    async def serve(self, name: AppName, session: Session, request: Request) -> int:
        self.served.append(name)
        if self._error is not None:
            raise self._error
        return self._status


class Undeclared:
    """A service that does not say who may use it."""

    name = "git-receive-pack"

    async def serve(self, name: AppName, session: Session, request: Request) -> int:
        raise AssertionError("nobody may")


async def records(desk: Desk) -> list[tuple[str, str, str | None, int]]:
    rows = await desk.database.read.invocations.newest(100)
    return [(row.user, row.command, row.app, row.status) for row in rows]


async def serve(desk: Desk, line: str, *services: Service, user: User = ADA) -> int:
    asked = git_line(line)
    assert asked is not None
    return await Services(services, database=desk.database).serve(asked, FakeSession(user=user))


def test_whoever_has_no_key_may_do_nothing() -> None:
    authorise(User("root", Fingerprint(""), is_local=True), Version, None)
    with pytest.raises(UserError, match="may not use version"):
        authorise(NOBODY, Version, None)
    with pytest.raises(UserError, match="may not use git-upload-pack"):
        authorise(NOBODY, Fetching(), None)


async def test_what_does_not_say_who_may_use_it_is_for_nobody(desk: Desk) -> None:
    with pytest.raises(UserError, match="may not use git-receive-pack"):
        authorise(User("root", Fingerprint("SHA256:x"), is_local=True), Undeclared(), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Undeclared must say"):
        Services((Undeclared(),), database=desk.database)  # type: ignore[arg-type]


async def test_a_service_is_asked_only_for_those_who_may_and_refusals_are_on_record(desk: Desk) -> None:
    app = await desk.core.create("blog")
    fetching = Fetching(status=3)
    with pytest.raises(UserError, match="may not use"):
        await serve(desk, "git-upload-pack 'blog'", fetching, user=NOBODY)
    assert fetching.served == []
    assert await serve(desk, "git-upload-pack 'blog'", fetching) == 3
    assert fetching.served == ["blog"]
    assert await records(desk) == [
        ("ada", "git-upload-pack", app.id, 3),
        ("", "git-upload-pack", app.id, Exit.FAILED),
    ]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("git-receive-pack 'blog'", "git-receive-pack"),
        ("git-upload-archive 'blog'", "git-upload-archive"),
        ("git-lfs-authenticate blog upload", "git-lfs-authenticate"),
        ("git-upload-pack '../../etc/passwd'", "git-upload-pack"),
        ("git upload-pack --help", "git-upload-pack"),
        ("git-upload-pack 'blog' 's3cret'", "git-upload-pack"),
    ],
)
async def test_what_is_no_service_or_no_app_is_refused_and_on_record_by_its_name_alone(
    desk: Desk, line: str, command: str
) -> None:
    fetching = Fetching()
    answer = await desk.give(line)
    assert answer.status == 1 and answer.err.startswith(" !     ")
    with pytest.raises(UserError):
        await serve(desk, line, fetching)
    assert fetching.served == []
    assert await records(desk) == [("ada", command, None, 1)] * 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("x.y", "No.", status=Exit.NO_SUCH_APP), Exit.NO_SUCH_APP),
        (ConnectionResetError(), Exit.FAILED),
        (asyncio.CancelledError(), Exit.UNAVAILABLE),
        (ZeroDivisionError(), Exit.BUG),
    ],
)
async def test_however_a_request_ends_that_is_on_record(desk: Desk, error: BaseException, status: Exit) -> None:
    with pytest.raises(type(error)):
        async with asking(desk.database, user=ADA, asked=Fetching(), is_always_kept=True):
            raise error
    assert await records(desk) == [("ada", "git-upload-pack", None, status)]


async def test_what_is_stored_together_with_its_record_is_recorded_once(desk: Desk) -> None:
    app = await desk.core.create("blog")
    async with asking(desk.database, user=ADA, asked=Fetching(), is_always_kept=True) as request:
        async with desk.database.transaction() as tx:
            await request.record(tx, app=app.id, status=0)
        request.status = 1
    assert await records(desk) == [("ada", "git-upload-pack", app.id, 0)]


async def test_refused_commands_are_on_record_and_looking_is_only_logged(desk: Desk) -> None:
    await desk.give("apps:create blog")
    await desk.give("apps:list")
    await desk.give("config:set nope TOKEN=s3cret")
    await desk.give_as("apps:list", FakeSession(user=NOBODY))
    assert [(user, command, status) for user, command, _, status in await records(desk)] == [
        ("", "apps:list", 1),
        ("ada", "config:set", Exit.NO_SUCH_APP),
        ("ada", "apps:create", 0),
    ]


async def test_a_bug_is_on_record_as_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Version, ctx: Context) -> Reply:
        raise ZeroDivisionError

    monkeypatch.setattr(Version, "run", broken)
    monkeypatch.setattr(Version, "permission", "change")
    assert (await desk.give("version")).status == Exit.BUG
    assert await records(desk) == [("ada", "version", None, Exit.BUG)]
