"""Every module that defines commands. A command of a known noun needs no line here."""

from __future__ import annotations

from agent.commands import (
    apps,
    build_secrets,
    builder,
    checks,
    config,
    deploys,
    docker_options,
    domains,
    events,
    git,
    keys,
    logs,
    one_off,
    ps,
    ps_report,
    registries,
    releases,
    server,
    settings,
    urls,
)
from agent.commands.registry import Registry

MODULES = (
    apps,
    builder,
    build_secrets,
    checks,
    config,
    deploys,
    docker_options,
    domains,
    events,
    git,
    keys,
    logs,
    one_off,
    ps,
    ps_report,
    registries,
    releases,
    server,
    settings,
    urls,
)


def every_command() -> Registry:
    """Return the registry of all commands. A wrong declaration raises TypeError."""
    return Registry(MODULES)
