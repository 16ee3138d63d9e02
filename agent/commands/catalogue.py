"""Every module that defines commands. A command of a known noun needs no line here."""

from __future__ import annotations

from agent.commands import apps, logs, server, urls
from agent.commands.registry import Registry

MODULES = (apps, urls, logs, server)


def every_command() -> Registry:
    """Return the registry of all commands. A wrong declaration raises TypeError."""
    return Registry(MODULES)
