"""Ports: image registries, and who Pushboat is to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from agent.ports.world import Say

DOCKER_HUB: Final = "docker.io"
"""What stands for Docker Hub, which goes by many names."""

_HUB_NAMES: Final = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com", "registry.hub.docker.com"}
)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A user of a registry."""

    server: str
    """As `canonical` has it: ``registry.example.com:5000``."""
    user: str
    password: str

    def __repr__(self) -> str:
        """Return it without the password, wherever it is printed."""
        return f"Login(server={self.server!r}, user={self.user!r})"


Logins = Mapping[str, Login]
"""By server."""

NO_LOGINS: Final[Logins] = MappingProxyType({})
"""Nobody, to every registry."""


class Registries(Protocol):
    """The registries that the engine can reach."""

    async def check(self, login: Login) -> None:
        """Return if the registry knows the user by this password.

        Raises:
            UserError: ``registry.refused``, it does not; ``registry.unreachable``, it does not answer.
            Unavailable: the engine does not answer.
        """
        ...

    async def digest(self, reference: str, *, login: Login | None) -> str:
        """Return the digest (``sha256:…``) that the registry has for that name now; nothing of the image is fetched.

        Empty: it could not be told, because the registry has none, refuses or does not answer in time.
        """
        ...

    async def push(self, image: str, references: Sequence[str], *, login: Login | None, say: Say) -> None:
        """Push the image (``sha256:…``) under each of `references`, which are not kept as names of it here.

        Repeating is harmless, also after a call that died in the middle. Cancelling the call ends the push.

        Raises:
            UserError: ``registry.push-failed``; the registry does not take it or does not answer.
            Unavailable: the engine does not answer.
        """
        ...

    async def forget(self, references: Sequence[str]) -> None:
        """Take away what a push that died has left here: the names it was to have. Repeating is harmless."""
        ...


def canonical(server: str) -> str:
    """Return the one name of a registry that may be written in several ways; nothing is checked."""
    host = server.strip().lower().removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DOCKER_HUB if host in _HUB_NAMES else host


def registry_of(reference: str) -> str:
    """Return the registry of an image's name, by the rule of distribution/reference: ``nginx`` is Docker Hub's."""
    first, slash, _ = reference.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return canonical(first) if is_host else DOCKER_HUB


def digest_in(reference: str) -> str:
    """Return the digest that a name ends with, ``sha256:…``; empty if it has none."""
    return reference.partition("@")[2]


def name_by_digest(reference: str, names: Sequence[str]) -> str:
    """Return the one of `names` (``repository@sha256:…``) that is of the repository of `reference`; empty for none."""
    return next((name for name in names if _repository(name) == _repository(reference)), "")


def _repository(reference: str) -> str:
    """Return a name without tag and digest, as engines write it: ``nginx`` for ``docker.io/library/nginx:1``."""
    head, slash, last = reference.partition("@")[0].rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    first, _, rest = name.partition("/")
    if registry_of(name) != DOCKER_HUB:
        return name
    return (rest if "." in first else name).removeprefix("library/")


def login_for(reference: str, logins: Logins) -> Login | None:
    """Return who to be when the image of that name is got or pushed, or `None` for nobody."""
    return logins.get(registry_of(reference))
