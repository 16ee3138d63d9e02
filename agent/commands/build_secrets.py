"""``builder:secrets:*``: what steps of a build may read, and no image keeps."""

from __future__ import annotations

from typing import Annotated

from agent.commands.arguments import AppOrGlobal, Argument, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import INDENT, Done, Raw, Reply
from agent.commands.reports import AppOrEvery, Row, Rows, report
from agent.commands.screen import read_all
from agent.errors import UserError
from agent.lifecycle import build_secrets
from agent.lifecycle.build_secrets import MAX_SECRET_BYTES
from agent.state.apps import App as AppRow
from proto.names import SERVER


class SecretsSet(Command, frozen=True, kw_only=True):
    """Set secrets that steps of a build may read: RUN --mount=type=secret,id=KEY.

    They are in no image, no cache and no log. A KEY alone takes its value from standard input, byte for byte, where no
    process list shows it. The next build has them; one that changes repeats no step.
    """

    name = "builder:secrets:set"
    permission = "change"
    examples = ("builder:secrets:set blog NPM_TOKEN=abc", "builder:secrets:set blog npmrc < .npmrc")

    app: AppOrGlobal
    pairs: Annotated[
        tuple[str, ...], Argument(help="What to set; KEY alone: from standard input.", metavar="KEY=value")
    ]

    async def run(self, ctx: Context) -> Reply:
        """Store them, sealed."""
        values: dict[str, str] = {}
        for text in self.pairs:
            name, equals, value = text.partition("=")
            if not equals and len(self.pairs) > 1:
                raise UserError(
                    "secret.invalid-pair",
                    "Of several words after the app, each must be KEY=value.",
                    "One KEY alone takes its value from standard input.",
                )
            build_secrets.checked_name(name)
            values[name] = value if equals else await _value(ctx, name)
        async with ctx.database.transaction() as tx:
            changed = await build_secrets.set_values(tx, app=ctx.target, values=values)
        if not changed:
            return Done(said=("Nothing changed: the values are those that were set.",), facts={"changed": changed})
        said = ("Setting build secrets", *(f"{INDENT}{name}" for name in changed), f"{INDENT}The next build has them.")
        return Done(said=said, facts={"changed": changed})


class SecretsUnset(Command, frozen=True, kw_only=True):
    """Unset secrets of builds. What was built with them stays."""

    name = "builder:secrets:unset"
    permission = "change"
    examples = ("builder:secrets:unset blog NPM_TOKEN",)

    app: AppOrGlobal
    keys: Annotated[tuple[str, ...], Argument(help="What to unset.", metavar="KEY")]

    async def run(self, ctx: Context) -> Reply:
        """Forget them."""
        async with ctx.database.transaction() as tx:
            gone = await build_secrets.unset(tx, app=ctx.target, names=self.keys)
        for name in self.keys:
            if name not in gone:
                await ctx.progress(f"-----> Skipping {quoted(name)}, which is not set")
        said = ("Unsetting build secrets", *(f"{INDENT}{name}" for name in gone)) if gone else ()
        return Done(said=said, facts={"changed": gone})


class SecretsList(Command, frozen=True, kw_only=True):
    """List the names of an app's build secrets, one a line. Their values are never printed."""

    name = "builder:secrets:list"
    permission = "read"
    examples = ("builder:secrets:list blog",)

    app: AppOrGlobal

    async def run(self, ctx: Context) -> Reply:
        """Answer with the names of just the app, or of the server."""
        names = sorted(await build_secrets.of(ctx.database.read, ctx.target))
        return Raw(text="".join(f"{name}\n" for name in names), data=names)


class SecretsReport(Command, frozen=True, kw_only=True):
    """Report which build secrets are set, by name: an app's own, the server's, and what builds get."""

    name = "builder:secrets:report"
    permission = "read"
    examples = ("builder:secrets:report blog",)

    app: AppOrEvery = None
    row: Row = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""

        async def rows(app: AppRow | None) -> Rows:
            read = ctx.database.read
            found = {"builder-secrets-global-keys": " ".join(sorted(await build_secrets.of(read, SERVER)))}
            if app:
                found["builder-secrets-keys"] = " ".join(sorted(await build_secrets.of(read, app.id)))
                found["builder-secrets-computed-keys"] = " ".join(sorted(await build_secrets.merged(read, app.id)))
            return found

        return await report(ctx, self, noun="builder-secrets", asked=self.row, rows=rows)


async def _value(ctx: Context, name: str) -> str:
    """Return what is on standard input.

    Raises:
        UserError: ``secret.no-input``, ``secret.too-large``, ``secret.not-text``.
    """
    if ctx.session.is_tty:
        raise UserError(
            "secret.no-input",
            f"There is no value for {quoted(name)}, and nothing on standard input.",
            "Give a file: builder:secrets:set <app> KEY < file. Or write: KEY=value",
        )
    data = await read_all(ctx.session, limit=MAX_SECRET_BYTES)
    if data is None:
        raise UserError(
            "secret.too-large",
            f"Standard input has more than {MAX_SECRET_BYTES >> 10} KiB, which builds cannot be given.",
            "Have the build fetch it, with a token as the secret.",
        )
    if not data:
        raise UserError("secret.no-input", f"There is no value for {quoted(name)} on standard input.", "Give a file.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            "secret.not-text", f"The value of {quoted(name)} is not text in UTF-8.", "Encode it with: base64 -w0"
        ) from error
