"""Which command serves a Ruby app: what its gems say, where no Procfile does."""

from __future__ import annotations

import msgspec

from agent.builders.files import Files
from agent.errors import UserError
from agent.manifests.procfile import argv

_RACK = "config.ru"


class Web(msgspec.Struct, frozen=True):
    """What serves the app."""

    words: tuple[str, ...]
    why: str
    """``Rails and puma``."""


def is_rails(files: Files, gems: frozenset[str]) -> bool:
    """Tell whether it is an app of Rails."""
    return bool({"rails", "railties"} & gems) and files.has("config/application.rb")


def guess(files: Files, gems: frozenset[str]) -> Web:
    """Return what serves the app.

    Raises:
        UserError: ``web.unknown``, with what to do about it.
    """
    framework = "Rails" if is_rails(files, gems) else _RACK if files.has(_RACK) else ""
    if framework and "puma" in gems:
        # Its configuration is read by itself; the port is told, as not each of them reads it.
        return _web('bundle exec puma --port "${PORT:-5000}"', f"{framework} and puma")
    if framework == "Rails":
        return _web('bundle exec rails server --binding 0.0.0.0 --port "${PORT:-5000}"', "Rails")
    for server in ("falcon", "unicorn", "thin"):
        if framework and server in gems:
            return _web(_SERVERS[server], f"{framework} and {server}")
    if framework and {"rack", "rackup"} & gems:
        line = 'bundle exec rackup --host 0.0.0.0 --port "${PORT:-5000}" config.ru'
        return _web(line, framework)
    reason = f"there is no {_RACK}" if not framework else f"no server is among the gems that {_RACK} goes with"
    raise UserError(
        "web.unknown",
        f"What to run is not clear: there is no Procfile, and {reason}.",
        "Say it in a file named Procfile, for instance: web: bundle exec ruby server.rb",
    )


_SERVERS = {
    "falcon": 'bundle exec falcon serve --bind "http://0.0.0.0:${PORT:-5000}"',
    "thin": 'bundle exec thin start --port "${PORT:-5000}"',
    "unicorn": 'bundle exec unicorn --port "${PORT:-5000}"',
}


def _web(line: str, why: str) -> Web:
    return Web(argv(line, environment={}), why)
