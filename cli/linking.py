"""``pushboat link``: the git remote that tells server and app of a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

from cli import places
from cli.trouble import Trouble

_HOST = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?"
)
_APP = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")

MAX_APP_NAME = 63
"""As ``proto.names`` has it."""


def link(words: list[str]) -> int:
    """Add or change the remote of the current repository; say what to do next.

    Raises:
        Trouble: no repository, or a server or app that cannot be.
    """
    if not 1 <= len(words) <= 2 or words[0].startswith("-"):
        raise Trouble("pushboat link needs a server.", "Usage: pushboat link <server>[:<port>] [<app>]")
    top = _git("rev-parse", "--show-toplevel")
    if top is None:
        raise Trouble("This folder is in no git repository.", "Make one first: git init")
    app = words[1] if len(words) == 2 else _app_for(os.path.basename(top))
    url = url_of(words[0], app=app)
    name = remote_name(os.environ)
    verb = "add" if _git("remote", "get-url", "--", name) is None else "set-url"
    if _git("remote", verb, "--", name, url) is None:
        raise Trouble(f"git could not {verb} the remote {name}.", "Look at: git remote -v")
    sys.stdout.write(f"-----> {name} is {url}\n       Deploy with: git push {name} {_branch()}\n")
    return 0


def url_of(server: str, *, app: str) -> str:
    """Return the remote's URL.

    Raises:
        Trouble: that is no server, or no app's name.
    """
    match = _HOST.fullmatch(server)
    if match is None or server.startswith("-") or int(match["port"] or 1) not in range(1, 65_536):
        raise Trouble(f"{server!r} is not a server.", "Write it as box.example.com or box.example.com:2222")
    if not _APP.fullmatch(app) or len(app) > MAX_APP_NAME:
        raise Trouble(
            f"{app!r} cannot be the name of an app.", "Names have lower-case letters, digits, and - or . between them."
        )
    user = match["user"] or places.USER
    return f"ssh://{user}@{match['host']}:{match['port'] or places.DEFAULT_PORT}/{app}"


def remote_name(environment: Mapping[str, str]) -> str:
    """Return the name of the git remote that counts."""
    return environment.get("PUSHBOAT_GIT_REMOTE") or places.DEFAULT_REMOTE


def _app_for(folder: str) -> str:
    """Return a folder's name as an app's name."""
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:MAX_APP_NAME].strip("-")


def _branch() -> str:
    return _git("symbolic-ref", "--short", "HEAD") or "main"


def _git(*words: str) -> str | None:
    """Return what git answers, or `None` if it refuses."""
    try:
        asked = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Trouble("There is no git on this machine.", "Install it.") from error
    return asked.stdout.strip() if asked.returncode == 0 else None
