"""``ssh-keys:*``: who may sign in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Annotated

from agent.commands.arguments import Argument, Option, quoted
from agent.commands.command import Command, Context
from agent.commands.replies import Done, Reply, Table
from agent.commands.screen import read_all
from agent.commands.times import ago
from agent.errors import UserError
from agent.lifecycle import keys
from agent.state.keys import Key
from proto.names import Fingerprint

KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
"""What OpenSSH offers today. DSA is gone from it, and RSA keys sign with SHA-2."""

MIN_RSA_BITS = 2_048
"""OpenSSH's own ``RequiredRSASize`` is 1024; NIST SP 800-57 asks for 2048."""

MAX_KEY_BYTES = 16_384
"""An RSA key of 16,384 bits has 2,800 characters."""


class KeysAdd(Command, frozen=True, kw_only=True):
    """Let a public key sign in, under a name.

    The key is given on standard input or as an argument: one line, as in a .pub file.
    """

    name = "ssh-keys:add"
    permission = "admin"
    examples = ("ssh-keys:add ada < ~/.ssh/id_ed25519.pub",)

    key_name: Annotated[str, Argument(help="Whose it is.", metavar="name")]
    words: Annotated[tuple[str, ...], Argument(help="The key, if not on standard input.", metavar="key")] = ()

    async def run(self, ctx: Context) -> Reply:
        """Read, check and store it."""
        keys.check_name(self.key_name)  # before a key is waited for
        text = " ".join(self.words) if self.words and self.words != ("-",) else await _input(ctx)
        public, fingerprint = read_public_key(text)
        async with ctx.database.transaction() as tx:
            await keys.add(tx, name=self.key_name, public=public, fingerprint=fingerprint)
        return Done(
            said=(f"Added the key {self.key_name}: {fingerprint}",),
            facts={"name": self.key_name, "fingerprint": fingerprint},
        )


class KeysList(Command, frozen=True, kw_only=True):
    """List the keys that may sign in."""

    name = "ssh-keys:list"
    permission = "read"
    examples = ("ssh-keys:list", "ssh-keys:list ada")

    key_name: Annotated[str, Argument(help="One of them.", metavar="name")] = ""

    async def run(self, ctx: Context) -> Reply:
        """Answer from the database alone."""
        found = [key for key in await ctx.database.read.keys.all() if self.key_name in ("", key.name)]
        if self.key_name and not found:
            raise _not_found(self.key_name)
        now = ctx.clock.now()
        return Table(
            title="Keys that may sign in",
            columns=("NAME", "FINGERPRINT", "TYPE", "ADDED"),
            rows=tuple(
                (key.name, key.fingerprint, key.public.split(" ")[0], ago(key.added_at, now=now)) for key in found
            ),
            data=[
                {"name": key.name, "fingerprint": key.fingerprint, "public": key.public, "added_at": key.added_at}
                for key in found
            ],
            empty="None. Root on the server can add one: pushboat ssh-keys:add <name> < key.pub",
        )


class KeysRemove(Command, frozen=True, kw_only=True):
    """Let a key sign in no more. Its sessions end at once."""

    name = "ssh-keys:remove"
    permission = "admin"
    examples = ("ssh-keys:remove ada", "ssh-keys:remove --fingerprint SHA256:…")

    key_name: Annotated[str, Argument(help="Whose it is.", metavar="name")] = ""
    fingerprint: Annotated[
        str, Option(names=("--fingerprint",), help="Its fingerprint, in place of the name.", metavar="SHA256:…")
    ] = ""

    async def run(self, ctx: Context) -> Reply:
        """Remove it."""
        if bool(self.key_name) == bool(self.fingerprint):
            raise UserError(
                "argument.missing", "ssh-keys:remove needs a name or a --fingerprint.", "List keys with: ssh-keys:list"
            )
        async with ctx.database.transaction() as tx:
            key: Key | None = (
                await tx.keys.by_name(self.key_name) if self.key_name else await tx.keys.get(self.fingerprint)
            )
            if key is None:
                raise _not_found(self.key_name or self.fingerprint)
            await keys.remove(tx, key=key)
        return Done(
            said=(f"Removed the key {key.name}: {key.fingerprint}",),
            facts={"name": key.name, "fingerprint": key.fingerprint},
        )


def read_public_key(text: str) -> tuple[str, Fingerprint]:
    """Return type and base64 of a public key in OpenSSH's format (RFC 4253, 6.6), and its fingerprint.

    Raises:
        UserError: ``key.empty``, ``key.several``, ``key.private``, ``key.invalid``, ``key.weak``.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise UserError("key.empty", "No key was given.", "Give one: ssh-keys:add <name> < ~/.ssh/id_ed25519.pub")
    if "PRIVATE KEY" in lines[0]:
        raise UserError(
            "key.private", "That is a private key. Keep it to yourself.", "Give the public one, whose file ends in .pub"
        )
    if len(lines) > 1:
        raise UserError("key.several", "Several keys were given.", "Add one at a time, each under its own name.")
    kind, _, rest = lines[0].partition(" ")
    if kind not in KEY_TYPES:
        raise UserError(
            "key.invalid", "That is not a public key of a known type.", f"Known types: {', '.join(KEY_TYPES)}"
        )
    encoded = rest.split(" ")[0]
    blob = _blob(encoded)
    parts = _parts(blob)
    if not parts or parts[0] != kind.encode() or len(parts) < 2:
        raise UserError("key.invalid", "That key is damaged: it does not hold what it says.", "Copy it once more.")
    if kind == "ssh-rsa" and int.from_bytes(parts[-1], "big").bit_length() < MIN_RSA_BITS:
        raise UserError(
            "key.weak", f"RSA keys need at least {MIN_RSA_BITS} bits.", "Make another: ssh-keygen -t ed25519"
        )
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"{kind} {base64.b64encode(blob).decode()}", Fingerprint(f"SHA256:{digest}")


async def _input(ctx: Context) -> str:
    if ctx.session.is_tty:
        raise UserError(
            "key.empty", "There is no key on standard input.", "Give one: ssh-keys:add <name> < ~/.ssh/id_ed25519.pub"
        )
    data = await read_all(ctx.session, limit=MAX_KEY_BYTES)
    if data is None:
        raise UserError("key.invalid", "That is too long for a public key.", "Give the content of one .pub file.")
    return data.decode("utf-8", "replace")


def _blob(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("key.invalid", "That key is damaged: it is not base64.", "Copy it once more.") from error


def _parts(blob: bytes) -> list[bytes]:
    """Return the strings of a key (RFC 4251, 5); nothing if their lengths do not add up."""
    parts = []
    position = 0
    while position + 4 <= len(blob):
        (size,) = struct.unpack_from(">I", blob, position)
        position += 4
        parts.append(blob[position : position + size])
        position += size
    return parts if position == len(blob) else []


def _not_found(name: str) -> UserError:
    return UserError("key.not-found", f"There is no key {quoted(name)}.", "List keys with: ssh-keys:list")
