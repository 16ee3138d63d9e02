"""What a git that talks to somebody else's server gets to convince it by, and how it knows that server.

Nothing of it is in an argument vector. A password goes into git's environment, which the kernel shows to the agent's
own user and root alone, as a header for that one host; an ssh key does not even go that far: ssh asks an agent in this
process to sign. Redirects are not followed, only the address's own protocol is spoken, and an ssh server shows a key
that is known or is not spoken to.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import UserError
from agent.git.environment import environment
from agent.git.ssh_agent import Signer, listening
from agent.ports.remotes import Access, Address, Login, refuse_link_local

CONNECT_SECONDS: Final = 15
STALL_SECONDS: Final = 60
"""With less than `_SLOWEST` bytes a second."""
_SLOWEST: Final = 100
_PROGRAM: Final = "ssh"

_SSH = f"""\
Host *
  BatchMode yes
  StrictHostKeyChecking yes
  GlobalKnownHostsFile none
  UpdateHostKeys no
  VerifyHostKeyDNS no
  CheckHostIP no
  IdentityFile none
  PreferredAuthentications publickey
  PubkeyAuthentication yes
  GSSAPIAuthentication no
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings yes
  ControlMaster no
  ControlPath none
  ProxyCommand none
  PermitLocalCommand no
  CanonicalizeHostname no
  RequestTTY no
  ConnectTimeout {CONNECT_SECONDS}
  ServerAliveInterval {STALL_SECONDS // 4}
  ServerAliveCountMax 3
  LogLevel ERROR
"""


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """How git is to be run to reach one address."""

    options: tuple[str, ...]
    """For its argument vector."""
    environment: Mapping[str, str]


@asynccontextmanager
async def opened(address: Address, *, access: Access, aside: Path, ca_file: str = "") -> AsyncIterator[Door]:
    """Have what git needs to reach `address` for the length of a block.

    `aside`: the path of a folder that does not exist, where programs may be run, as they may not in every ``/tmp``.

    Raises:
        UserError: ``git.unknown-host``, no key is known of that ssh server; ``git.address-forbidden``,
            ``git.unreachable``.
    """
    await _look_up(address)
    if address.scheme == "https":
        yield Door(
            options=https_options(ca_file=ca_file),
            environment=https_environment(address, login=access.logins.get(address.place)),
        )
        return
    keys = access.hosts.get(address.place)
    if not keys:
        raise UserError(
            "git.unknown-host",
            f"It is not known by which key {address.place} is to be recognised.",
            f"Have a look at it, and allow it: git:allow-host {address.place}",
        )
    # Not the data folder: the path of a socket has 107 bytes at most (unix(7)).
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="pushboat-ssh-"))
    try:
        async with AsyncExitStack() as stack:
            if access.key:
                await stack.enter_async_context(listening(folder / "agent", Signer(access.key)))
            await asyncio.to_thread(_write, folder, aside, address, keys, bool(access.key))
            yield Door(options=(), environment=ssh_environment(aside / _PROGRAM))
    finally:
        for made in (folder, aside):
            await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)


def https_options(*, ca_file: str = "") -> tuple[str, ...]:
    """Return the options of a git that speaks https. `ca_file`: certificates that are trusted besides the system's."""
    settings = [
        "http.followRedirects=false",
        f"http.lowSpeedLimit={_SLOWEST}",
        f"http.lowSpeedTime={STALL_SECONDS}",
        *([f"http.sslCAInfo={ca_file}"] if ca_file else []),
    ]
    return tuple(part for setting in settings for part in ("-c", setting))


def https_environment(address: Address, *, login: Login | None) -> dict[str, str]:
    """Return the variables of a git that speaks https. The header is for that host and port alone."""
    variables = {"GIT_ALLOW_PROTOCOL": "https"}
    if login is not None:
        told = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        variables |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.https://{address.place}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {told}",
        }
    return variables


def ssh_environment(program: Path) -> dict[str, str]:
    """Return the variables of a git that speaks ssh by `program`."""
    # Git gives GIT_SSH_COMMAND to a shell as soon as there is an argument in it, GIT_SSH never (git(1)).
    return {"GIT_ALLOW_PROTOCOL": "ssh", "GIT_SSH": str(program), "GIT_SSH_VARIANT": "ssh"}


def ssh_config(folder: Path, *, has_key: bool, ssh: str = "/usr/bin/ssh") -> str:
    """Return what ssh reads: nothing of this machine's or of a user's configuration counts.

    Its first line is a comment to ssh, and makes a program of the file: run, it is ``ssh -F`` with its own path and
    what it is given besides (execve(2), "Interpreter scripts"). So git needs no argument, and no shell, to have ssh
    read it.
    """
    agent = folder / "agent" if has_key else "none"
    return f'#!{ssh} -F\n{_SSH}  UserKnownHostsFile "{folder / "known_hosts"}"\n  IdentityAgent "{agent}"\n'


def known_hosts(address: Address, keys: Sequence[str]) -> str:
    """Return the file by which ssh knows the server (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    bare = address.host.strip("[]")
    name = bare if address.port == 22 else f"[{bare}]:{address.port}"
    return "".join(f"{name} {key}\n" for key in keys)


def _write(folder: Path, aside: Path, address: Address, keys: Sequence[str], has_key: bool) -> None:
    (folder / "known_hosts").write_text(known_hosts(address, keys))
    aside.mkdir(mode=0o700)
    ssh = shutil.which("ssh", path=environment()["PATH"]) or "/usr/bin/ssh"
    (aside / _PROGRAM).write_text(ssh_config(folder, has_key=has_key, ssh=ssh))
    (aside / _PROGRAM).chmod(0o700)


async def _look_up(address: Address) -> None:
    """Raise if the host's name means nothing, or a link-local address."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host.strip("[]"), address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(
            "git.unreachable", f"There is no host {address.host}.", "Look whether the address is written right."
        ) from error
    for *_, place in found:
        refuse_link_local(str(place[0]))
