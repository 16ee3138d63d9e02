"""The moves of what git servers elsewhere are convinced by and known by: logins, host keys, deploy keys."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.errors import UserError
from agent.ports.remotes import Access, Login
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from agent.state.remotes import DeployKey
from proto.events import DeployKeyCreated, HostKeysChanged, LoginChanged
from proto.names import AppId, Fingerprint

SEED_BYTES = 32
"""Of an ed25519 key (RFC 8032): the key is nothing else."""


async def access(tables: Tables, *, app: AppId) -> Access:
    """Return what a fetch for `app` may use."""
    return Access(
        logins=await tables.logins.all(),
        hosts=await tables.host_keys.all(),
        key=await tables.deploy_keys.private(app),
    )


async def create_key(tx: Transaction, *, app: App, seed: bytes, may_replace: bool) -> DeployKey:
    """Give the app a key, made of `seed`: `SEED_BYTES` that nobody can guess.

    Raises:
        UserError: ``deploy-key.exists``.
    """
    if await tx.deploy_keys.get(app.id) is not None and not may_replace:
        raise UserError(
            "deploy-key.exists",
            f"{app.name} has a deploy key already, which servers may know.",
            f"Show it: git:public-key {app.name}. For another in its place: git:generate-deploy-key {app.name} --force",
        )
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    key = DeployKey(app=app.id, public=public, created_at=tx.now)
    await tx.deploy_keys.set(
        key, private=private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    )
    await tx.emit(DeployKeyCreated(app=app.id, fingerprint=fingerprint(public)))
    return key


async def set_login(tx: Transaction, *, host: str, login: Login) -> None:
    """Sign in at `host` so from now on."""
    await tx.logins.set(host, login)
    await tx.emit(LoginChanged(host=host, user=login.user))


async def remove_login(tx: Transaction, *, host: str) -> bool:
    """Sign in at `host` no more. Return false if nobody did."""
    if not await tx.logins.remove(host):
        return False
    await tx.emit(LoginChanged(host=host, user=""))
    return True


async def allow_host(tx: Transaction, *, host: str, keys: Sequence[str], is_vouched: bool, may_replace: bool) -> bool:
    """Know an ssh server by `keys`. Return false if it was known by them already.

    `is_vouched`: somebody has them from its owners, so that they may come beside those of other types. What a server
    merely shows may not: whoever is in between can show a key that is known, and one of his own with it.

    Raises:
        UserError: ``git.host-changed``, it is known by others.
    """
    known = (await tx.host_keys.all()).get(host, ())
    if set(keys) == set(known) or (set(keys) < set(known) and not may_replace):
        return False
    kinds = {_kind(key) for key in known} & {_kind(key) for key in keys if key not in known}
    if known and not may_replace and (kinds or not is_vouched):
        raise UserError(
            "git.host-changed",
            f"{host} is known by other keys than these: {', '.join(sorted(map(fingerprint, known)))}.",
            f"If its owners say that it has changed: git:allow-host {host} --replace",
        )
    stored = sorted({*keys, *(() if may_replace else known)})
    await tx.host_keys.replace(host, stored)
    await tx.emit(HostKeysChanged(host=host, fingerprints=tuple(map(fingerprint, stored))))
    return True


async def forget_host(tx: Transaction, *, host: str) -> bool:
    """Speak to an ssh server no more. Return false if it was not known."""
    if host not in await tx.host_keys.all():
        return False
    await tx.host_keys.replace(host, ())
    await tx.emit(HostKeysChanged(host=host, fingerprints=()))
    return True


def fingerprint(public: str) -> Fingerprint:
    """Return the fingerprint of a public key (type and base64), as ``ssh-keygen -l`` shows it."""
    blob = base64.b64decode(public.split(" ")[1])
    return Fingerprint("SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("="))


def _kind(public: str) -> str:
    return public.partition(" ")[0]
