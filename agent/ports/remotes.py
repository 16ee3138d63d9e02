"""Port: git repositories elsewhere, and the few ways to write where one is.

An address is taken apart by a strict pattern and put together again, so that nothing in it can be read as an option,
another protocol or another host. It never holds a password: those would end up in lists of processes and in logs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, Protocol

import msgspec

from agent.errors import UserError
from agent.sanitise import quoted
from proto.names import AppId

Scheme = Literal["https", "ssh"]
RefKind = Literal["branch", "tag", "commit"]
Tell = Callable[[str], Awaitable[None]]
"""Shows somebody one line. Waits for a slow reader; raises ``ConnectionError`` when it has gone."""

_PORTS: Final[Mapping[str, int]] = {"https": 443, "ssh": 22}
_EXAMPLES: Final = "https://example.com/team/app.git or git@example.com:team/app.git"
MAX_ADDRESS: Final = 2_000
"""Characters of an address."""

_HOST = r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_USER = r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
_PATH = r"[A-Za-z0-9._~%+,@=/-]+"
_HTTPS = re.compile(rf"https://{_HOST}{_PORT}/(?P<path>{_PATH})")
_SSH = re.compile(rf"ssh://{_USER}{_HOST}{_PORT}/(?P<path>{_PATH})")
_SCP = re.compile(rf"{_USER}{_HOST}:(?!//)(?P<path>(?!-){_PATH})")
_HAS_PASSWORD = re.compile(r"[A-Za-z]+://[^/]*@|[^/@]*:[^/]*@")
_PLACE = re.compile(rf"{_HOST}{_PORT}")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a repository is."""

    scheme: Scheme
    host: str
    """Lower case; an IPv6 address in brackets."""
    port: int
    path: str
    """As it was written: from the server's root, or from the user's home if `is_from_home`."""
    user: str = ""
    """Whom ssh signs in as."""
    is_from_home: bool = False
    """Whether it was written ``user@host:path``."""

    @property
    def place(self) -> str:
        """Return the host, with its port unless that is the usual one: what logins and host keys are kept by."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return it as git takes it, and as it may be shown."""
        user = f"{self.user}@" if self.user else ""
        if self.is_from_home:
            return f"{user}{self.host}:{self.path}"
        return f"{self.scheme}://{user}{self.place}/{self.path}"

    def related(self, written: str) -> Address:
        """Return the address `written` in a ``.gitmodules`` of what is here: whole, or relative as ``../other``.

        Raises:
            UserError: ``git.address``; it is neither, or leads above the server's root.
        """
        if not written.startswith(("./", "../")):
            return parse_address(written)
        parts = self.path.rstrip("/").split("/")
        rest = written.rstrip("/").split("/")
        while rest and rest[0] in (".", ".."):
            if rest.pop(0) == "..":
                if not parts:
                    raise _invalid(written)
                parts.pop()
        return parse_address(msgspec.structs.replace(self, path="/".join([*parts, *rest])).url)


class Login(msgspec.Struct, frozen=True):
    """What an https server is convinced by."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Return nothing that could end up in a log."""
        return "Login(…)"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What servers may be convinced by, and are known by. Each gets what is its own alone."""

    logins: Mapping[str, Login] = {}
    """By `Address.place`."""
    hosts: Mapping[str, tuple[str, ...]] = {}
    """The keys that ssh servers may show (type and base64), by `Address.place`."""
    key: str = ""
    """The app's private key in OpenSSH's format, or nothing."""

    def __repr__(self) -> str:
        """Return nothing that could end up in a log."""
        return "Access(…)"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be fetched."""

    address: Address
    ref: str = ""
    """A branch, a tag or a whole commit id; empty: the branch that is checked out there."""
    onto: str = ""
    """The branch of the app that is to point at it; empty: the one of the same name."""
    otherwise: str = "main"
    """That branch where `onto` is empty and `ref` is none."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched."""

    commit: str
    kind: RefKind
    name: str
    """Of the branch or tag there, or the commit's id."""
    branch: str
    """Of the app; it points at `commit` now."""
    before: str | None
    """What it pointed at."""
    is_rewritten: bool = False
    """Whether `before` is no ancestor of `commit`."""
    notes: tuple[str, ...] = ()
    """What a build will miss, in sentences."""


class HostKey(msgspec.Struct, frozen=True):
    """A key by which an ssh server is known."""

    public: str
    """Type and base64."""
    fingerprint: str


class Remotes(Protocol):
    """Repositories elsewhere."""

    async def fetch(self, app: AppId, wanted: Wanted, *, access: Access, tell: Tell) -> Fetched:
        """Bring the app's repository to what is elsewhere, submodules included; `tell` gets git's progress.

        All or nothing: the branch moves in the last step, if it is still where it was. Not on disk before
        ``SourceRepo.sync``.

        Raises:
            UserError: ``git.…``, the other end cannot be reached, does not let us in, is not who it was, or has no such
                ref; ``source.…``, what it has is not taken.
            Unavailable: ``git.slow``, ``git.missing``, ``disk.full``.
        """
        ...

    async def host_keys(self, place: str) -> list[HostKey]:
        """Return the keys that the ssh server at `place` shows, unverified.

        Raises:
            UserError: ``git.unreachable``; there is none.
        """
        ...


def parse_address(text: str) -> Address:
    """Return the address that somebody wrote.

    Raises:
        UserError: ``git.address``; ``git.address-has-password``; ``git.address-forbidden`` (link-local).
    """
    if len(text) > MAX_ADDRESS:
        raise _invalid(text)
    for scheme, pattern in (("https", _HTTPS), ("ssh", _SSH), ("ssh", _SCP)):
        if match := pattern.fullmatch(text):
            groups = match.groupdict()
            port = int(groups.get("port") or _PORTS[scheme])
            path = groups["path"]
            if not 0 < port < 65_536 or ".." in path.split("/"):
                break
            refuse_link_local(groups["host"])
            return Address(
                scheme="https" if scheme == "https" else "ssh",
                host=groups["host"].lower(),
                port=port,
                path=path,
                user=groups.get("user") or "",
                is_from_home=pattern is _SCP,
            )
    if _HAS_PASSWORD.match(text):
        raise UserError(
            "git.address-has-password",
            "The address holds a user or password, which would end up in logs.",
            "Write it without, and keep the password sealed: git:auth HOST USER < password-file",
        )
    raise _invalid(text)


def parse_place(text: str, *, scheme: Scheme) -> str:
    """Return ``host`` or ``host:port`` as `Address.place` has it.

    Raises:
        UserError: ``git.host``.
    """
    match = _PLACE.fullmatch(text)
    if len(text) > 300 or not match or not 0 < int(match["port"] or 1) < 65_536:
        raise UserError("git.host", f"{quoted(text)} is not the name of a host.", "Write it as: example.com")
    refuse_link_local(match["host"])
    return text.lower().removesuffix(f":{_PORTS[scheme]}")


def refuse_link_local(host: str) -> None:
    """Raise ``UserError`` ``git.address-forbidden`` if `host` is a link-local address: clouds tell secrets there."""
    if is_link_local(host):
        message = f"{host} is an address that only this machine's own surroundings answer at."
        raise UserError("git.address-forbidden", message, "Use another one.")


def is_link_local(host: str) -> bool:
    """Tell whether `host` is a link-local address; names are none."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local


def _invalid(text: str) -> UserError:
    shown = quoted(text.partition("?")[0])
    return UserError("git.address", f"{shown} is not the address of a repository.", f"Write it as: {_EXAMPLES}")
