"""What a replica, a task or a one-off is made from: pure functions from a release, its config and a row to a wish.

The fingerprint covers what a replica cannot change without being another one: its image, command, environment and
address. Limits and grace times are left out, since setting them must not restart what runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

import msgspec

from agent.manifests.buildpack_image import launched
from agent.manifests.procfile import argv
from agent.ports.scheduler import ReplicaWish, Resources, TaskWish
from agent.state.apps import App
from agent.state.plans import Plan
from agent.state.releases import Release
from agent.state.replicas import Replica
from agent.state.tasks import Task
from proto.names import WEB, ProcessType

REVISION_VARIABLE = "GIT_REV"
"""Name of the variable that tells an app its commit, unless ``git:set rev-env-var`` says otherwise."""

_OURS = ("DYNO", "PORT")
"""Variables that the agent decides; the others are left to a shell in the container, where they are quoted right."""

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def replica_wish(
    *,
    app: App,
    release: Release,
    config: Mapping[str, str],
    replica: Replica,
    resources: Resources,
    stop_seconds: float,
    revision_variable: str,
    fingerprint: Callable[[bytes], str],
) -> ReplicaWish:
    """Return what the replica should be. `fingerprint`: a keyed hash, see ``agent.vault``."""
    env = environment(
        config,
        process=replica.process,
        label=replica.label,
        port=replica.port,
        commit=release.commit_id,
        revision_variable=revision_variable,
    )
    command = process_command(release.plan, process=replica.process, env=env)
    canonical = msgspec.json.encode(
        [replica.id, release.image, command, sorted(env.items()), replica.address], order="deterministic"
    )
    return ReplicaWish(
        app=app.id,
        app_name=app.name,
        process=replica.process,
        release=release.version,
        image=release.image,
        command=command,
        env=env,
        resources=resources,
        stop_seconds=stop_seconds,
        replica=replica.id,
        number=replica.number,
        bridge=replica.bridge,
        address=replica.address,
        fingerprint=fingerprint(canonical),
    )


def task_wish(
    *,
    app: App,
    release: Release,
    config: Mapping[str, str],
    task: Task,
    resources: Resources,
    stop_seconds: float,
    revision_variable: str,
) -> TaskWish:
    """Return what the container of a task should be: the release's image and config, and the task's command."""
    env = environment(
        config,
        process=task.process,
        label=f"{task.kind}.1",
        port=0,
        commit=release.commit_id,
        revision_variable=revision_variable,
    )
    return TaskWish(
        app=app.id,
        app_name=app.name,
        process=task.process,
        release=release.version,
        image=release.image,
        command=command_words(task.command, plan=release.plan, env=env),
        env=env,
        resources=resources,
        stop_seconds=stop_seconds,
        task=task.id,
    )


def environment(
    config: Mapping[str, str],
    *,
    process: ProcessType,
    label: str,
    port: int,
    commit: str | None,
    revision_variable: str = REVISION_VARIABLE,
) -> dict[str, str]:
    """Return the config with what the agent adds: ``DYNO``, ``PORT`` (empty unless web), the commit."""
    added = {"DYNO": label, "PORT": str(port) if process == WEB and port else ""}
    if commit and revision_variable:
        added[revision_variable] = commit
    return {**config, **added}


def process_command(plan: Plan, *, process: ProcessType, env: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the words that replace the image's CMD, or `None` to keep it. See `command_words`."""
    found = plan.process(process)
    if found is None or found.command is None:
        return None
    return command_words(found.command, plan=plan, env=env)


def command_words(line: str, *, plan: Plan, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return one Procfile line as the words that a container of a release gets.

    An image's ENTRYPOINT decides itself what to do with them, so it gets plain words, with ``$VARIABLES`` replaced;
    without one, a line that needs a shell is given to the image's own. An image of buildpacks has a launcher for it.
    """
    if plan.has_entrypoint:
        try:
            return tuple(
                _VARIABLE.sub(lambda match: env.get(match[1] or match[2], ""), word) for word in shlex.split(line)
            )
        except ValueError:
            return (line,)
    words = argv(line, environment={name: env[name] for name in _OURS if name in env})
    return launched(words) if plan.has_launcher else words
