"""What we ask of the engine for a container in which an app is built, and what we would never ask.

`build_body` is the only function that makes such a body. `check_build_body` is asked about every one before it is sent:
the four things that no other container of ours has are held against what they may be, and all the rest against the list
of ``agent.docker.spec``. No socket of the engine is ever among them, nor root, nor a folder of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agent.docker import labels
from agent.docker.spec import Body, Disallowed, check_body, limits
from agent.ports.scheduler import Resources
from proto.names import AppId

CREATOR: Final = "/cnb/lifecycle/creator"
"""The one program that such a container begins with (Platform API)."""
PIDS: Final = 4096
"""Processes and threads of one build: room for a parallel compiler, none for a fork bomb."""
_TARGET = re.compile(r"/(?:cache|layouts/pushboat\.local/app/(?:now|before))")


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """A volume in the container of a build."""

    volume: str
    target: str
    is_read_only: bool = False


class BuildWish(msgspec.Struct, frozen=True, kw_only=True):
    """A container that builds an app."""

    app: AppId
    app_name: str
    entry: str
    """Told apart by it: random."""
    image: str
    """``sha256:…`` of the builder."""
    user: int
    group: int
    arguments: tuple[str, ...]
    """Of the ``creator``."""
    env: Mapping[str, str]
    keeps: tuple[Keep, ...] = ()
    resources: Resources = Resources()
    """Its memory and CPU; the processes are at most `PIDS` in any case."""


def volume_name(instance: str, app: AppId, kind: str) -> str:
    """Return the name of what builds of an app keep: ``pushboat-<instance>-<app id>-build-<kind>``."""
    return f"pushboat-{instance}-{app}-build-{kind}"


def build_body(wish: BuildWish, *, instance: str, network: str) -> Body:
    """Return what creates the container of `wish`, on the shared bridge called `network`."""
    return {
        "Image": wish.image,
        "Entrypoint": [CREATOR],
        "Cmd": list(wish.arguments),
        "User": f"{wish.user}:{wish.group}",
        "Env": [f"{name}={value}" for name, value in wish.env.items()],
        "Labels": {
            labels.INSTANCE: instance,
            labels.KIND: labels.BUILD,
            labels.APP_ID: wish.app,
            labels.APP_NAME: wish.app_name,
            labels.ENTRY: wish.entry,
        },
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "NetworkMode": network,
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": PIDS,
            "RestartPolicy": {"Name": "no"},
            # What it prints goes to the deploy's transcript as it comes.
            "LogConfig": {"Type": "none", "Config": {}},
            "Mounts": [_mount(keep, marks=kept_marks(instance, wish.app)) for keep in wish.keeps],
            **limits(wish.resources),
        },
        "NetworkingConfig": {"EndpointsConfig": {network: {}}},
    }


def look_body(image: str, *, app: AppId, app_name: str, entry: str, instance: str, network: str) -> Body:
    """Return what creates a container that is never started, so that files of `image` can be read out of it."""
    return {
        "Image": image,
        # The engine makes none without a command, which an image need not have.
        "Cmd": ["-"],
        "Labels": {
            labels.INSTANCE: instance,
            labels.KIND: labels.BUILD,
            labels.APP_ID: app,
            labels.APP_NAME: app_name,
            labels.ENTRY: entry,
        },
        "HostConfig": {
            "NetworkMode": network,
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 1,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "none", "Config": {}},
        },
        "NetworkingConfig": {"EndpointsConfig": {network: {}}},
    }


def check_build_body(body: Mapping[str, Any], *, instance: str) -> None:
    """Let `body` pass, or raise.

    Raises:
        Disallowed: it names the first field that is not allowed, or has a value that is not.
    """
    rest = {name: value for name, value in body.items() if name not in ("Entrypoint", "User")}
    host, marked = rest.get("HostConfig"), rest.get("Labels")
    if not isinstance(host, Mapping):
        raise Disallowed("HostConfig")
    if not isinstance(marked, Mapping) or marked.get(labels.KIND) != labels.BUILD:
        raise Disallowed("Labels")
    host = dict(host)
    mounts = host.pop("Mounts", None)
    if body.get("Entrypoint") != [CREATOR]:
        raise Disallowed("Entrypoint")
    if not re.fullmatch(r"[1-9][0-9]{0,8}:[0-9]{1,9}", str(body.get("User"))):
        raise Disallowed("User")
    marks = kept_marks(instance, AppId(str(marked.get(labels.APP_ID))))
    if not isinstance(mounts, list) or not all(_is_kept(mount, marks=marks) for mount in mounts):
        raise Disallowed("HostConfig.Mounts")
    if "CapAdd" in host:
        raise Disallowed("HostConfig.CapAdd")
    check_body({**rest, "HostConfig": host}, instance=instance)


def kept_marks(instance: str, app: AppId) -> dict[str, str]:
    """Return the labels of the volumes that builds of `app` keep."""
    return {labels.INSTANCE: instance, labels.KIND: labels.KEPT, labels.APP_ID: app}


def _mount(keep: Keep, *, marks: Mapping[str, str]) -> Body:
    return {
        "Type": "volume",
        "Source": keep.volume,
        "Target": keep.target,
        "ReadOnly": keep.is_read_only,
        # The engine makes it if it is not there. Nothing of the builder's own files belongs into it.
        "VolumeOptions": {"NoCopy": True, "Labels": dict(marks)},
    }


def _is_kept(mount: object, *, marks: Mapping[str, str]) -> bool:
    if not isinstance(mount, dict) or set(mount) != {"Type", "Source", "Target", "ReadOnly", "VolumeOptions"}:
        return False
    ours = volume_name(marks[labels.INSTANCE], AppId(marks[labels.APP_ID]), "")
    return (
        mount["Type"] == "volume"
        and re.fullmatch(rf"{re.escape(ours)}[a-z0-9-]+", str(mount["Source"])) is not None
        and _TARGET.fullmatch(str(mount["Target"])) is not None
        and type(mount["ReadOnly"]) is bool
        and mount["VolumeOptions"] == {"NoCopy": True, "Labels": marks}
    )
