"""Durable events: facts that happened, stored with the change they describe.

A class here is a file format. Add fields with a default, never rename a field, never reuse a tag.
``tests/golden/events`` holds one stored example of every version. Events carry ids and facts; never log
lines, never secrets.
"""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec

from proto.names import SERVER, AppId, DeployId, Fingerprint, ProcessType, ReplicaId, TaskId

Stage = Literal["source", "build", "release", "start", "checks", "switch", "agent"]
"""Where a deploy failed. ``agent``: our own mistake, see ``HandlerGaveUp``."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something that happened.

    ``app`` is also the ordering key: a handler sees an app's events one at a time, in order.
    """

    app: AppId


class AppCreated(Event, frozen=True, kw_only=True, tag="app.created"):
    """An empty app exists and accepts pushes. Source: ``agent.lifecycle.apps``."""

    name: str


class AppRenamed(Event, frozen=True, kw_only=True, tag="app.renamed"):
    """The app answers to another name. Source: ``agent.lifecycle.apps``."""

    old: str
    new: str


class AppDestroyed(Event, frozen=True, kw_only=True, tag="app.destroyed"):
    """The app is gone for its users; what it ran and stored is being removed. Source: ``agent.lifecycle.apps``."""

    name: str


class AppRemoved(Event, frozen=True, kw_only=True, tag="app.removed"):
    """Nothing of a destroyed app is left. Source: ``agent.lifecycle.apps``."""

    name: str


class AppStopped(Event, frozen=True, kw_only=True, tag="app.stopped"):
    """No replica of the app should run. Source: ``agent.lifecycle.apps``."""


class AppStarted(Event, frozen=True, kw_only=True, tag="app.started"):
    """The app's live release should run again. Source: ``agent.lifecycle.apps``."""


class DraftChanged(Event, frozen=True, kw_only=True, tag="draft.changed"):
    """Config was set or unset; no release has it yet. Source: ``agent.lifecycle.config``."""

    keys: tuple[str, ...]


class DomainsChanged(Event, frozen=True, kw_only=True, tag="domains.changed"):
    """The app's own domains changed. Source: ``agent.lifecycle.domains``."""

    domains: tuple[str, ...]


class GlobalDomainsChanged(Event, frozen=True, kw_only=True, tag="global-domains.changed"):
    """The domains under which every app gets a name changed. Source: ``agent.lifecycle.domains``."""

    domains: tuple[str, ...]
    app: AppId = SERVER


class ScaleChanged(Event, frozen=True, kw_only=True, tag="scale.changed"):
    """Other numbers of replicas are wanted. Source: ``agent.lifecycle.apps``."""

    quantities: dict[str, int]


class PropertyChanged(Event, frozen=True, kw_only=True, tag="property.changed"):
    """A property of the app (or of the server) was set or unset. Source: ``agent.lifecycle.properties``."""

    name: str
    value: str | None
    """Stars, where it is secret."""


class DeployAccepted(Event, frozen=True, kw_only=True, tag="deploy.accepted"):
    """A push, an image, a config change … is to be made live. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    kind: str
    by: str = ""


class ImageBuilt(Event, frozen=True, kw_only=True, tag="image.built"):
    """The deploy has the image it needs. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    image: str


class ReleaseCreated(Event, frozen=True, kw_only=True, tag="release.created"):
    """Image, config and process table are fixed as one numbered release. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    release: int


class ImagePushed(Event, frozen=True, kw_only=True, tag="image.pushed"):
    """A release's image is in its registry. Source: ``agent.lifecycle.pushes``."""

    deploy: DeployId
    release: int
    names: tuple[str, ...]
    """What it is called there."""


class ImagePushFailed(Event, frozen=True, kw_only=True, tag="image.push-failed"):
    """A release's image did not get into its registry. Source: ``agent.lifecycle.pushes``."""

    deploy: DeployId
    release: int
    reason: str


class TaskStarted(Event, frozen=True, kw_only=True, tag="task.started"):
    """A task of a deploy is being started, which happens once; from here on it may have run.

    Source: ``agent.lifecycle.tasks``.
    """

    deploy: DeployId
    release: int
    task: TaskId
    kind: str


class TaskEnded(Event, frozen=True, kw_only=True, tag="task.ended"):
    """A task of a deploy has ended, or nobody will ever know how it did. Source: ``agent.lifecycle.tasks``."""

    deploy: DeployId
    release: int
    task: TaskId
    kind: str
    exit_code: int | None = None
    """`None`: it was not started, was stopped, or its end was not seen."""
    reason: str | None = None
    """Why it did not succeed, for people; `None`: it did."""


class ReplicasReady(Event, frozen=True, kw_only=True, tag="replicas.ready"):
    """Every replica of the candidate passed its check. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    release: int


class DeployLive(Event, frozen=True, kw_only=True, tag="deploy.live"):
    """The deploy's release serves. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    release: int


class DeployFailed(Event, frozen=True, kw_only=True, tag="deploy.failed"):
    """The deploy ended without going live; what served before goes on serving. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    stage: Stage
    reason: str


class DeployCancelled(Event, frozen=True, kw_only=True, tag="deploy.cancelled"):
    """Somebody stopped the deploy before it switched. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    by: str


class DeploySuperseded(Event, frozen=True, kw_only=True, tag="deploy.superseded"):
    """A newer deploy of the app made this one pointless before it switched. Source: ``agent.lifecycle.deploys``."""

    deploy: DeployId
    newer: DeployId


class ReplicasStarted(Event, frozen=True, kw_only=True, tag="replicas.started"):
    """Containers run that have not passed their check yet. Source: ``agent.lifecycle.replicas``."""

    replicas: tuple[ReplicaId, ...]


class ReplicaReady(Event, frozen=True, kw_only=True, tag="replica.ready"):
    """A replica passed its startup check and may receive traffic. Source: ``agent.lifecycle.replicas``."""

    replica: ReplicaId
    process: ProcessType
    number: int
    release: int


class ReplicaLost(Event, frozen=True, kw_only=True, tag="replica.lost"):
    """A replica that should run does not: it exited or was removed. Source: ``agent.lifecycle.replicas``."""

    replica: ReplicaId
    process: ProcessType
    number: int
    release: int
    reason: str


class ProcessRestarted(Event, frozen=True, kw_only=True, tag="process.restarted"):
    """Replicas of one process type are to be replaced by new ones. Source: ``agent.lifecycle.apps``."""

    process: ProcessType
    replicas: tuple[ReplicaId, ...]
    """Those that are replaced; they go on until the new ones are ready."""


class ReplicasDraining(Event, frozen=True, kw_only=True, tag="replicas.draining"):
    """Replicas are no longer wanted; they finish their requests and stop. Source: ``agent.lifecycle.replicas``."""

    replicas: tuple[ReplicaId, ...]


class ReplicaRemoved(Event, frozen=True, kw_only=True, tag="replica.removed"):
    """A replica's container is gone and its log is stored. Source: ``agent.lifecycle.replicas``."""

    replica: ReplicaId
    process: ProcessType
    number: int
    release: int


class KeyAdded(Event, frozen=True, kw_only=True, tag="key.added"):
    """A public key may sign in. Source: ``agent.lifecycle.keys``."""

    name: str
    fingerprint: Fingerprint
    app: AppId = SERVER


class KeyRemoved(Event, frozen=True, kw_only=True, tag="key.removed"):
    """A public key may no longer sign in; its sessions end. Source: ``agent.lifecycle.keys``."""

    name: str
    fingerprint: Fingerprint
    app: AppId = SERVER


class DeployKeyCreated(Event, frozen=True, kw_only=True, tag="deploy-key.created"):
    """The app has a key of its own for repositories elsewhere. Source: ``agent.lifecycle.remotes``."""

    fingerprint: Fingerprint


class LoginChanged(Event, frozen=True, kw_only=True, tag="login.changed"):
    """Another user, or none, signs in at a git server over https. Source: ``agent.lifecycle.remotes``."""

    host: str
    user: str
    """Empty: nobody does any more."""
    app: AppId = SERVER


class HostKeysChanged(Event, frozen=True, kw_only=True, tag="host-keys.changed"):
    """An ssh server is recognised by these keys from now on. Source: ``agent.lifecycle.remotes``."""

    host: str
    fingerprints: tuple[Fingerprint, ...]
    """Empty: it is not spoken to any more."""
    app: AppId = SERVER


class HandlerGaveUp(Event, frozen=True, kw_only=True, tag="handler.gave-up"):
    """A handler failed for good on one event, and its lane moved on. Source: ``agent.bus.calls``."""

    handler: str
    event_id: int
    event_type: str
    reason: str
    deploy: DeployId | None = None
    """The deploy that the event was about, which cannot end well now."""


EVENT_TYPES: tuple[type[Event], ...] = tuple(Event.__subclasses__())
"""Every durable event."""

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[EVENT_TYPES])  # noqa: UP007


def tag_of(event_type: type[Event]) -> str:
    """Return the stored name of an event type, such as ``image.built``."""
    return str(event_type.__struct_config__.tag)


def encode(event: Event) -> bytes:
    """Return the stored form of `event`: JSON with its tag in ``type``."""
    return msgspec.json.encode(event)


def decode(body: bytes) -> Event:
    """Return the event that was stored as `body`.

    Raises:
        msgspec.ValidationError: the tag is unknown (a newer agent wrote it) or a field has the wrong type.
    """
    decoded = _decoder.decode(body)
    assert isinstance(decoded, Event)
    return decoded
