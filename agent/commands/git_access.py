"""``git:*``: how git servers elsewhere let Pushboat in, and how they are recognised."""

from __future__ import annotations

from typing import Annotated

from agent.commands.arguments import App, Argument, Flag, Option, quoted
from agent.commands.command import Command, Context
from agent.commands.keys import read_public_key
from agent.commands.replies import INDENT, WARNING, Done, Raw, Reply
from agent.commands.screen import read_all
from agent.errors import UserError
from agent.lifecycle import remotes
from agent.ports.remotes import HostKey, Login, parse_place

MAX_PASSWORD = 4_096
"""Bytes. Tokens are some hundred at most."""


class GitAuth(Command, frozen=True, kw_only=True):
    """Keep a name and a token for a git server that is spoken to over https.

    It is used by git:sync of every app, for that server alone, and stored sealed. The token is read from standard input
    if it is left out: what is typed as a word is in the process list of the machine where you type. Without a name,
    what was kept for the server is forgotten.
    """

    name = "git:auth"
    permission = "admin"
    examples = ("git:auth git.example.com deploy < token", "git:auth git.example.com")

    host: Annotated[str, Argument(help="The server, with its port unless that is 443.")]
    user: Annotated[str, Argument(help="The name to sign in with.")] = ""
    password: Annotated[
        tuple[str, ...], Argument(help="The token or password; standard input if left out.", metavar="password")
    ] = ()

    async def run(self, ctx: Context) -> Reply:
        """Store it, or forget it."""
        if len(self.password) > 1:
            # None is shown: what looks like one too many may be the rest of a password with a blank in it.
            raise UserError(
                "git.two-passwords",
                "More than one password is given.",
                "Leave out all but one; one with blanks needs quotes that reach the server, or standard input.",
            )
        host = parse_place(self.host, scheme="https")
        if not self.user:
            async with ctx.database.transaction() as tx:
                was_there = await remotes.remove_login(tx, host=host)
            said = f"Forgot the login of {host}" if was_there else f"{WARNING}There was no login for {host}"
            return Done(said=(said,), facts={"host": host, "user": None})
        if ":" in self.user or not self.user.isprintable() or len(self.user) > 200:
            raise UserError("git.login", f"{quoted(self.user)} cannot be a name.", "Write it without colons.")
        password = self.password[0] if self.password else await _password(ctx, host=host)
        if len(password.encode()) > MAX_PASSWORD:
            raise _too_long()
        if not password.isprintable():
            raise UserError("git.login", "That is no token: it has line ends or other controls.", "Give it alone.")
        async with ctx.database.transaction() as tx:
            await remotes.set_login(tx, host=host, login=Login(self.user, password))
        return Done(said=(f"Signing in at {host} as {self.user} from now on",), facts={"host": host, "user": self.user})


class GitAllowHost(Command, frozen=True, kw_only=True):
    """Let an ssh server be spoken to, recognised by its keys from now on.

    They are fetched from the server and their fingerprints shown: compare them with what its owners publish. With --key
    nothing is fetched. A server that shows another key later is not spoken to, until that is allowed by --replace.
    """

    name = "git:allow-host"
    permission = "admin"
    examples = ("git:allow-host git.example.com", "git:allow-host git.example.com:2222 --replace")

    host: Annotated[str, Argument(help="The server, with its port unless that is 22.")]
    key: Annotated[
        str, Option(names=("--key",), help="Its key, as its owners publish it: type and base64.", metavar="key")
    ] = ""
    replace: Annotated[bool, Flag(names=("--replace",), help="Forget the keys it was known by.")] = False
    remove: Annotated[bool, Flag(names=("--remove",), help="Speak to it no more.")] = False

    async def run(self, ctx: Context) -> Reply:
        """Store the keys."""
        host = parse_place(self.host, scheme="ssh")
        if self.remove:
            async with ctx.database.transaction() as tx:
                was_known = await remotes.forget_host(tx, host=host)
            gone = f"{host} is not spoken to any more" if was_known else f"{WARNING}{host} was not known"
            return Done(said=(gone,), facts={"host": host, "fingerprints": []})
        if self.key:
            found = [HostKey(*read_public_key(self.key))]
        else:
            found = await ctx.remotes.host_keys(host)
        async with ctx.database.transaction() as tx:
            keys = [key.public for key in found]
            is_new = await remotes.allow_host(
                tx, host=host, keys=keys, is_vouched=bool(self.key), may_replace=self.replace
            )
        said = [f"{host} is recognised by these keys from now on" if is_new else f"{host} is known by these keys"]
        said += [f"{INDENT}{key.fingerprint} ({key.public.partition(' ')[0]})" for key in found]
        if is_new and not self.key:
            said.append(f"{WARNING}Compare them with those that its owners publish; nothing else vouches for them.")
        return Done(said=tuple(said), facts={"host": host, "fingerprints": [key.fingerprint for key in found]})


class GitGenerateDeployKey(Command, frozen=True, kw_only=True):
    """Make an app an ssh key of its own, for repositories elsewhere.

    Its private half is stored sealed and never leaves the agent. A key that is there already is replaced only with
    --force.
    """

    name = "git:generate-deploy-key"
    permission = "change"
    examples = ("git:generate-deploy-key blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Make it and show what servers have to know."""
        async with ctx.database.transaction() as tx:
            key = await remotes.create_key(
                tx, app=ctx.app, seed=ctx.ids.token(remotes.SEED_BYTES), may_replace=ctx.options.force
            )
        fingerprint = remotes.fingerprint(key.public)
        said = (
            f"Made a deploy key for {ctx.app.name}: {fingerprint}",
            f"{INDENT}Add it to the repository, to read it: git:public-key {ctx.app.name}",
        )
        return Done(said=said, facts={"app": ctx.app.name, "public": key.public, "fingerprint": fingerprint})


class GitPublicKey(Command, frozen=True, kw_only=True):
    """Print the public half of an app's deploy key, to be added to repositories elsewhere."""

    name = "git:public-key"
    permission = "read"
    examples = ("git:public-key blog",)

    app: App

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        key = await ctx.database.read.deploy_keys.get(ctx.app.id)
        if key is None:
            hint = f"Make one: git:generate-deploy-key {ctx.app.name}"
            raise UserError("deploy-key.none", f"{ctx.app.name} has no deploy key.", hint)
        if ctx.options.as_json:
            facts = {"public": key.public, "fingerprint": remotes.fingerprint(key.public)}
            return Done(said=(), facts={"app": ctx.app.name, **facts})
        return Raw(text=f"{key.public} {ctx.app.name}@pushboat\n")


async def _password(ctx: Context, *, host: str) -> str:
    # Who gave the token for a user must not find it in his logs.
    hint = f"Give it: git:auth {host} <user> < token-file"
    data = b"" if ctx.session.is_tty else await read_all(ctx.session, limit=MAX_PASSWORD + len("\r\n"))
    if data is None:
        raise _too_long()
    if not data.strip():
        raise UserError("git.login", "There is no token on standard input.", hint)
    return data.decode("utf-8", "replace").strip("\r\n")


def _too_long() -> UserError:
    return UserError("git.login", f"That is no token: it has more than {MAX_PASSWORD:,} bytes.", "Give it alone.")
