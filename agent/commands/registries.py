"""``registry:*``: where images come from and go to, and who Pushboat is there."""

from __future__ import annotations

from typing import Annotated

from agent.commands import settings
from agent.commands.arguments import AppOrGlobal, Argument, Flag, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import Done, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.screen import read_all
from agent.commands.settings import property_rows
from agent.errors import UserError
from agent.lifecycle import registries
from agent.lifecycle.properties import checked
from agent.ports.registries import Login, canonical
from agent.state.apps import App as AppRow
from proto.names import SERVER

MAX_PASSWORD_BYTES = 65_536
"""Some registries have a key file in JSON for a password."""

Server = Annotated[str, Argument(help="The registry, such as ghcr.io; Docker Hub is docker.io.")]


class RegistryLogin(Command, frozen=True, kw_only=True):
    """Log in to a registry, for an app or for all of them (--global).

    Private images can be deployed and built on from then on, and releases pushed there. The registry is asked whether
    it knows the user; then the password is kept, sealed. Give it on standard input, where no process list shows it.
    """

    name = "registry:login"
    permission = "change"
    examples = (
        "registry:login blog ghcr.io ada --password-stdin < token",
        "registry:login --global registry.example.com:5000 ada secret",
    )

    app: AppOrGlobal
    server: Server
    user: Annotated[str, Argument(help="Who to be there.")]
    password: Annotated[
        tuple[str, ...], Argument(help="The password, or a token; on standard input if left out.", metavar="password")
    ] = ()
    is_on_stdin: Annotated[bool, Flag(names=("--password-stdin",), help="Read the password from standard input.")] = (
        False
    )

    async def run(self, ctx: Context) -> Reply:
        """Ask the registry, then keep the login."""
        if len(self.password) + self.is_on_stdin > 1:
            # None is shown: what looks like one too many may be the rest of a password with a blank in it.
            raise UserError(
                "registry.two-passwords",
                "More than one password is given.",
                "Leave out all but one; one with blanks needs quotes that reach the server, or standard input.",
            )
        server = checked("registry.server", self.server)
        password = self.password[0] if self.password else await _password(ctx)
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            raise _too_long()
        login = Login(server=server, user=self.user, password=password)
        await ctx.registries.check(login)
        async with ctx.database.transaction() as tx:
            await registries.log_in(tx, app=ctx.target, login=login)
        return Done(said=(f"Logged in to {server} as {self.user}",), facts={"server": server, "user": self.user})


class RegistryLogout(Command, frozen=True, kw_only=True):
    """Forget the login at a registry. What was fetched from there stays."""

    name = "registry:logout"
    permission = "change"
    examples = ("registry:logout blog ghcr.io",)

    app: AppOrGlobal
    server: Server

    async def run(self, ctx: Context) -> Reply:
        """Forget it."""
        server = canonical(self.server)
        async with ctx.database.transaction() as tx:
            is_gone = await registries.log_out(tx, app=ctx.target, server=server)
        if not is_gone:
            about = ctx.maybe_app.name if ctx.maybe_app else "--global"
            raise UserError(
                "registry.no-login",
                f"There is no login of {about} at {quoted(server)}.",
                f"See which there are: registry:report {about}",
            )
        return Done(said=(f"Logged out of {server}",), facts={"server": server})


class RegistrySet(settings.SetCommand, frozen=True, kw_only=True):
    """Set whether releases are pushed to a registry, and what they are called there. The next release follows it."""

    name = "registry:set"
    noun = "registry"
    examples = (
        "registry:set --global server ghcr.io",
        "registry:set blog push-on-release true",
        "registry:set blog image-repo shop/blog",
    )


class RegistryReport(Command, frozen=True, kw_only=True):
    """Report where images go, who Pushboat is at registries, and how the last push ended."""

    name = "registry:report"
    permission = "read"
    examples = ("registry:report blog", "registry:report blog --registry-tag-version")

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone. Passwords are in no answer."""

        async def rows(app: AppRow | None) -> Rows:
            found = await property_rows(ctx, app, noun="registry")
            found["registry-global-logins"] = _told(await registries.logins_of(ctx.database.read, SERVER))
            return {**found, **(await _rows(ctx, app) if app else {})}

        return await report(ctx, self, noun="registry", asked=self.row, rows=rows)


async def _rows(ctx: Context, app: AppRow) -> Rows:
    read = ctx.database.read
    push = await read.pushes.newest(app.id)
    return {
        "registry-computed-image-repo": await registries.repository(read, app),
        "registry-logins": _told(await registries.logins_of(read, app.id)),
        "registry-computed-logins": _told(await registries.logins(read, app.id)),
        "registry-tag-version": str(push.release) if push else "",
        "registry-pushed-images": " ".join(push.names) if push and push.status == "pushed" else "",
        "registry-push-status": push.status if push else "",
        "registry-push-failure": (push.reason or "") if push else "",
    }


def _told(logins: dict[str, Login]) -> str:
    return " ".join(f"{login.user}@{server}" for server, login in sorted(logins.items()))


async def _password(ctx: Context) -> str:
    """Return what is on standard input, without the end of its line.

    Raises:
        UserError: ``registry.no-password``, ``registry.long-password``.
    """
    data = b"" if ctx.session.is_tty else await read_all(ctx.session, limit=MAX_PASSWORD_BYTES + len("\r\n"))
    if data is None:
        raise _too_long()
    try:
        password = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise UserError(
            "registry.no-password",
            "There is no password on standard input.",
            "Give it: registry:login <app> <server> <user> --password-stdin < file",
        )
    return password


def _too_long() -> UserError:
    message = f"That is no password: it has more than {MAX_PASSWORD_BYTES >> 10} KiB."
    return UserError("registry.long-password", message, "Give it alone, from a file: --password-stdin < file")
