"""What a release runs, as it is stored: the process table and what the image says of itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.manifests.app_env import EnvVariable
from agent.ports.scheduler import CheckSpec
from proto.names import ProcessType

DEFAULT_PORT = 5000
"""Where a web process is expected to listen when neither config nor image says otherwise, as Dokku has it."""


Strategy = Literal["rolling", "all-at-once", "stop-first"]
"""How new replicas of a process type take the place of old ones, see ``agent.lifecycle.strategies``."""

TaskKind = Literal["predeploy", "release", "setup", "postdeploy"]
"""Of a task. ``setup`` is what app.json calls ``scripts.postdeploy``: once in an app's life."""


class TaskPlan(msgspec.Struct, frozen=True):
    """A command that a deploy runs once."""

    kind: TaskKind
    command: str
    """A line as a Procfile has them."""


class ProcessPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the process table."""

    type: ProcessType
    command: str | None = None
    """The Procfile's line; `None`: the image's own command."""
    checks: tuple[CheckSpec, ...] = ()
    """From ``app.json``; empty: the default for its type."""
    max_parallel: int = 0
    """From ``app.json``: replicas of a batch of a rolling deploy; 0: it does not say, -1: all."""
    strategy: Strategy = "all-at-once"
    """As it was told when the release was made. Of older ones it was this for all."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A release's processes. Stored: add fields with defaults only."""

    processes: tuple[ProcessPlan, ...]
    port: int = DEFAULT_PORT
    """First TCP port that the image EXPOSEs, 443 left out."""
    has_entrypoint: bool = False
    has_launcher: bool = False
    """Whether buildpacks made the image: what is run in it is run by its launcher."""
    has_healthcheck: bool = False
    health_seconds: float = 0.0
    """How long the image's HEALTHCHECK may take to come to a result."""
    formation: dict[str, int] = {}
    """Quantities from ``app.json``. A type that is named here cannot be scaled by hand."""
    builder: str = ""
    """What built the image; empty: it came as it is."""
    builder_why: str = ""
    """Why that builder, for people. Hostile."""
    builder_on: tuple[str, ...] = ()
    """What it chose to build on, for people."""

    digest: str = ""
    """Of an image that came from a registry: its name there, ``repository@sha256:…``, which never means another."""

    tasks: tuple[TaskPlan, ...] = ()
    """What is run once by a deploy, in this order."""
    env: tuple[EnvVariable, ...] = ()
    """Config that ``app.json`` wants the app to have."""

    def process(self, name: ProcessType) -> ProcessPlan | None:
        """Return the plan of one process type, or `None`."""
        return next((process for process in self.processes if process.type == name), None)


def encode(plan: Plan) -> bytes:
    """Return the stored form."""
    return msgspec.json.encode(plan)


def decode(body: bytes) -> Plan:
    """Return the plan that was stored as `body`."""
    return msgspec.json.decode(body, type=Plan)
