"""Seals what must not be readable in a copied database, with a key that is not in it.

The key file holds 32 random bytes, mode 0600, beside the database and never inside it. Two keys are derived from it
(HKDF, RFC 5869), so that no value ever has two uses: one seals (AES-256-GCM, NIST SP 800-38D), one makes
fingerprints (HMAC-SHA256). A sealed value is bound to where it belongs: moved to another row, it does not open.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.errors import Misconfigured

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random for each value: with one key, safe for 2**32 values (SP 800-38D, 8.3)."""

Token = Callable[[int], bytes]
"""Returns that many bytes which nobody can guess and which never come again: ``Ids.token``."""


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: bytes, *, token: Token) -> None:
        """`token`: where nonces come from. Two equal ones under one key would give both values away."""
        self._sealing = AESGCM(_derived(key, purpose=b"pushboat seal v1"))
        self._marking = _derived(key, purpose=b"pushboat fingerprint v1")
        self._token = token

    @classmethod
    def open(cls, path: Path, *, may_create: bool, token: Token) -> Vault:
        """Return the vault whose key is in the file `path`.

        `may_create`: make the file if it is missing. False once anything was sealed: a new key would open none of it.

        Raises:
            Misconfigured: the file is missing (``key.missing``), readable by others (``key.exposed``) or not a key
                of ours (``key.wrong-size``).
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not may_create:
                raise Misconfigured(
                    "key.missing",
                    f"The database has secrets in it, but the key file {path} that opens them is missing.",
                    "Put the key file back from where you keep a copy of it.",
                ) from None
            return cls(_create(path, key=token(KEY_BYTES)), token=token)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode & 0o777
            key = file.read(KEY_BYTES + 1)
        if mode & 0o077:
            raise Misconfigured(
                "key.exposed", f"Others than its owner may use the key file {path}.", f"Type: chmod 600 {path}"
            )
        if len(key) != KEY_BYTES:
            raise Misconfigured(
                "key.wrong-size",
                f"The key file {path} does not hold the {KEY_BYTES} bytes of a key.",
                "Put the right file back from where you keep a copy of it.",
            )
        return cls(key, token=token)

    def seal(self, data: bytes, *, context: str) -> bytes:
        """Return `data` unreadable. `context` says where it belongs, such as ``app:a…/release:3``; it is not stored."""
        nonce = self._token(NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, data, context.encode())

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed for `context`.

        Raises:
            Misconfigured: ``key.wrong``, it was sealed with another key or for another place, or was changed since.
        """
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._sealing.decrypt(nonce, ciphertext, context.encode())
        except (InvalidTag, ValueError) as error:
            raise Misconfigured(
                "key.wrong",
                f"What is stored for {context} does not open with the agent's key.",
                "Put the key file that belongs to this database back.",
            ) from error

    def unopened(self, stored: Iterable[tuple[str, bytes]]) -> list[str]:
        """Return the contexts of those (context, sealed value) that do not open."""
        closed = []
        for context, sealed in stored:
            try:
                self.unseal(sealed, context=context)
            except Misconfigured:
                closed.append(context)
        return closed

    def fingerprint(self, data: bytes) -> str:
        """Return 64 hex digits that are equal for equal `data`, and tell nothing about it without the key."""
        return hmac.new(self._marking, data, hashlib.sha256).hexdigest()


def _derived(key: bytes, *, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def _create(path: Path, *, key: bytes) -> bytes:
    """Store a new key and return it. A crash leaves a whole file or none, and a power cut does not lose it."""
    fresh = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    # A link, not a rename: it never replaces a key that somebody else put there meanwhile.
    os.link(fresh, path)
    fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key
