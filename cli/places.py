"""Which server is meant, which app, and how to sign in.

The environment wins over the git remote, and that over the file ``~/.config/pushboat/config.toml``. On the server
itself root signs in with the agent's own local key.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from cli import toml
from cli.trouble import Trouble

DEFAULT_PORT = 2222
"""Where the agent listens, unless its settings say otherwise."""

DEFAULT_REMOTE = "pushboat"
USER = "pushboat"
"""Any name is accepted: the key that signs decides who you are."""

DATA = "/var/lib/pushboat"
AGENT_SETTINGS = "/etc/pushboat/pushboat.toml"
LOCAL_KEY = "local_key"
HOST_KEY = "ssh_host_key.pub"
"""Files of the agent's data folder: the key that root signs in with, and the one that the server proves itself by."""

_URL = re.compile(r"ssh://(?:(?P<user>[^@/]+)@)?(?P<host>\[[^\]]+\]|[^:/]+)(?::(?P<port>\d+))?/+(?P<path>.+)")
_SCP = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>\[[^\]]+\]|[^:/]+):(?P<path>[^/].*)")


class Place(NamedTuple):
    """A server, and the app that this folder is linked to."""

    host: str
    port: int
    user: str = USER
    key: str = ""
    """File of the private key; empty: as ssh finds it."""
    app: str = ""
    """The linked app, or empty."""
    host_key: str = ""
    """Type and base64 of the key that the server must prove; empty: as ssh knows it."""


def find(environment: Mapping[str, str]) -> Place | None:
    """Return where to connect to, or `None` if nothing says so."""
    remote = remote_of(environment)
    file = _config(environment)
    key = environment.get("PUSHBOAT_KEY") or file.get("key", "")
    if host := environment.get("PUSHBOAT_HOST", ""):
        port = _port(environment.get("PUSHBOAT_PORT", ""), source="PUSHBOAT_PORT")
        app = remote.app if remote and remote.host == host else ""
        place = Place(host, port or DEFAULT_PORT, key=key, app=app)
    elif remote:
        place = remote._replace(key=key)
    elif host := file.get("host", ""):
        port = _port(file.get("port", ""), source="port in config.toml")
        place = Place(host, port or DEFAULT_PORT, user=file.get("user", USER), key=key, app=file.get("app", ""))
    else:
        return _local(environment)
    app = environment.get("PUSHBOAT_APP") or place.app
    return place._replace(app=app, key=os.path.expanduser(place.key))


def remote_of(environment: Mapping[str, str]) -> Place | None:
    """Return what the git remote of the current folder names, or `None`."""
    name = environment.get("PUSHBOAT_GIT_REMOTE") or DEFAULT_REMOTE
    if not _is_in_repository():
        return None
    try:
        asked = subprocess.run(["git", "remote", "get-url", "--", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return read_url(asked.stdout.strip()) if asked.returncode == 0 else None


def read_url(url: str) -> Place | None:
    """Return server and app of a git URL, ``ssh://user@host:port/app`` or ``user@host:app``; `None` of any other."""
    match = _URL.fullmatch(url) or (None if "://" in url else _SCP.fullmatch(url))
    if match is None:
        return None
    found = match.groupdict()
    app = found["path"].removeprefix("~/").strip("/").removesuffix(".git")
    # Without a port git asks ssh, whose own configuration may name one; 22 is what it does otherwise.
    port = int(found.get("port") or 22)
    return Place(found["host"].strip("[]"), port, user=found["user"] or USER, app=app)


def _is_in_repository() -> bool:
    """Tell whether git would find a repository: looking is cheaper than asking it."""
    if "GIT_DIR" in os.environ:
        return True
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        return False
    while not os.path.exists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
    return True


def config_path(environment: Mapping[str, str]) -> str:
    """Return where the client's own settings are."""
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "pushboat", "config.toml")


def _config(environment: Mapping[str, str]) -> dict[str, str]:
    path = config_path(environment)
    try:
        values = toml.read(_content(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{path} cannot be read: {error}", "Mend it, or remove it.") from error
    unknown = sorted(values.keys() - {"host", "port", "user", "key", "app"})
    if unknown:
        raise Trouble(f"{path} has {unknown[0]!r}, which is no setting.", "Settings: host, port, user, key, app")
    return values


def _content(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _port(text: str, *, source: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise Trouble(f"{source} is {text!r}, which is not a port.", "Give a number from 1 to 65535.")
    return int(text)


def _local(environment: Mapping[str, str]) -> Place | None:
    """Return the agent of this machine, if one is installed and we may read its local key."""
    folder = environment.get("PUSHBOAT_DATA") or DATA
    key = os.path.join(folder, LOCAL_KEY)
    if not os.access(key, os.R_OK):
        return None
    try:
        host_key = " ".join(_content(os.path.join(folder, HOST_KEY)).split()[:2])
    except OSError:
        host_key = ""
    host, agents_port = _address_of_agent()
    port = _port(environment.get("PUSHBOAT_PORT", ""), source="PUSHBOAT_PORT") or agents_port
    return Place(host, port, key=key, app=environment.get("PUSHBOAT_APP", ""), host_key=host_key)


def _address_of_agent() -> tuple[str, int]:
    """Return where the agent of this machine listens, as its settings have it."""
    try:
        settings = toml.read(_content(AGENT_SETTINGS))
        host, port = settings.get("ssh.host", ""), int(settings.get("ssh.port", DEFAULT_PORT))
    except (OSError, ValueError):
        return "127.0.0.1", DEFAULT_PORT
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port
