"""Every module that defines commands. A command of a known noun needs no line here."""

from __future__ import annotations

from functools import cache

from agent.commands import (
    apps,
    build_secrets,
    builder,
    buildpacks,
    checks,
    config,
    deploys,
    disk,
    docker_options,
    domains,
    events,
    git,
    git_access,
    git_sync,
    keys,
    logs,
    one_off,
    ps,
    ps_report,
    registries,
    releases,
    repo,
    resource,
    server,
    settings,
    urls,
)
from agent.commands.registry import Registry

MODULES = (
    apps,
    builder,
    build_secrets,
    buildpacks,
    checks,
    config,
    deploys,
    disk,
    docker_options,
    domains,
    events,
    git,
    git_access,
    git_sync,
    keys,
    logs,
    one_off,
    ps,
    ps_report,
    registries,
    releases,
    repo,
    resource,
    server,
    settings,
    urls,
)


@cache
def every_command() -> Registry:
    """Return the registry of all commands, made once. A wrong declaration raises TypeError."""
    return Registry(MODULES)
