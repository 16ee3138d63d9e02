"""The one way from a wish to a container: what we ask of ``POST /containers/create``, and what we would never ask.

`create_body` is the only function that makes such a body, and `check_body` is asked about every body before it is sent.
The two are written apart on purpose: the second is a list of what is allowed and knows nothing of the first, so that a
mistake here, or an option added later, is refused rather than run. No privileges, no host namespaces, no devices, no
mounts, no published ports, no network but our own bridges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.docker import labels
from agent.ports.scheduler import ContainerWish, OneOff, ReplicaWish, Resources, TaskWish

Body = dict[str, Any]
"""JSON of ``POST /containers/create`` (API 1.41 to 1.44)."""

KEPT_CAPABILITIES: Final = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
"""What official images need to start as root, take their files and drop to a user of their own, and package managers to
install. Of Docker's own default two are missing. NET_RAW would let an app forge packets on a bridge that it shares with
others (``ping`` works without: Docker sets ``ping_group_range``). MKNOD makes device files that the device cgroup then
forbids to open."""

LOG_FILE_SIZE: Final = "10m"
LOG_FILES: Final = "3"
"""The engine's own log is a buffer from which the log streamer reads; 30 MB last until it is back after a crash."""


def create_body(
    wish: ContainerWish, *, instance: str, network: str, group: str = "", is_tty: bool = False, term: str = ""
) -> Body:
    """Return what creates the container of `wish`: a `ReplicaWish`, a `TaskWish` or a `OneOff`.

    `network`: the name of the shared bridge. `group`: the control group above those of replicas (see `ReplicaGroup`);
    all else stays in the engine's own, as it does with an empty one. `is_tty`, `term`: of the terminal that a one-off
    is attached to.
    """
    env = dict(wish.env)
    if is_tty and term:
        env["TERM"] = term
    body: Body = {
        "Image": wish.image,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": _labels(wish, instance=instance),
        "StopTimeout": math.ceil(wish.stop_seconds),
        "HostConfig": _host_config(wish, network=network),
        "NetworkingConfig": {"EndpointsConfig": {network: _endpoint(wish)}},
    }
    if group and isinstance(wish, ReplicaWish):
        body["HostConfig"]["CgroupParent"] = group
    if wish.command is not None:
        body["Cmd"] = list(wish.command)
    if isinstance(wish, OneOff):
        streams = ("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce")
        body |= dict.fromkeys(streams, True) | {"Tty": is_tty}
    return body


def container_name(wish: ReplicaWish | TaskWish) -> str:
    """Return the name that people see: ``blog.web.1.v7``, ``blog.release.v7``."""
    if isinstance(wish, TaskWish):
        return f"{wish.app_name}.{wish.process}.v{wish.release}"
    return f"{wish.app_name}.{wish.process}.{wish.number}.v{wish.release}"


def _labels(wish: ContainerWish, *, instance: str) -> dict[str, str]:
    common = {
        labels.INSTANCE: instance,
        labels.APP_ID: wish.app,
        labels.APP_NAME: wish.app_name,
        labels.PROCESS_TYPE: wish.process,
        labels.RELEASE: str(wish.release),
    }
    if isinstance(wish, ReplicaWish):
        return common | {
            labels.KIND: labels.REPLICA,
            labels.REPLICA_ID: wish.replica,
            labels.NUMBER: str(wish.number),
            labels.FINGERPRINT: wish.fingerprint,
        }
    if isinstance(wish, TaskWish):
        return common | {labels.KIND: labels.TASK, labels.REPLICA_ID: wish.task, labels.NUMBER: "1"}
    assert isinstance(wish, OneOff)
    return common | {labels.KIND: labels.RUN, labels.ENTRY: wish.entry}


def _host_config(wish: ContainerWish, *, network: str) -> Body:
    is_one_off = isinstance(wish, OneOff)
    config: Body = {
        "NetworkMode": network,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(KEPT_CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": wish.resources.pids,
        "RestartPolicy": {"Name": "no"},
        # What a one-off prints goes to its terminal alone: nobody would look for a secret typed there in a log file.
        "LogConfig": {"Type": "none", "Config": {}}
        if is_one_off
        else {"Type": "json-file", "Config": {"max-size": LOG_FILE_SIZE, "max-file": LOG_FILES}},
    }
    return config | limits(wish.resources)


def limits(resources: Resources) -> Body:
    """Return what holds a container to its memory and CPU, as fields of ``HostConfig``; empty for no limits."""
    config: Body = {}
    if resources.memory_bytes:
        # The same number twice means no swap: a limit that swaps first makes the whole machine slow.
        config |= {"Memory": resources.memory_bytes, "MemorySwap": resources.memory_bytes}
    if resources.cpus:
        config["NanoCpus"] = round(resources.cpus * 1_000_000_000)
    if resources.reserved_bytes:
        # More than the limit is refused by the engine, and the two are set apart from each other.
        most = resources.memory_bytes or resources.reserved_bytes
        config["MemoryReservation"] = min(resources.reserved_bytes, most)
    return config


def _endpoint(wish: ContainerWish) -> Body:
    return {"IPAMConfig": {"IPv4Address": wish.address}} if isinstance(wish, ReplicaWish) else {}


class Disallowed(Exception):
    """A body asks for something that no container of ours may have. Our own mistake, so it travels as a bug."""


def check_body(body: Mapping[str, object], *, instance: str) -> None:
    """Let `body` pass, or raise. Sees to it that what is not on the lists below never reaches the engine.

    Raises:
        Disallowed: it names the first field that is not allowed, or has a value that is not.
    """
    _check(body, _ALLOWED, "")
    host = _mapping(body.get("HostConfig"))
    network = host.get("NetworkMode")
    if not re.fullmatch(rf"pushboat-{re.escape(instance)}-[0-9]+", str(network)):
        raise Disallowed("HostConfig.NetworkMode")
    if set(_mapping(_mapping(body.get("NetworkingConfig")).get("EndpointsConfig"))) != {network}:
        raise Disallowed("NetworkingConfig.EndpointsConfig")
    if _mapping(body.get("Labels")).get(labels.INSTANCE) != instance:
        raise Disallowed("Labels")
    for name in _REQUIRED:
        if name not in host:
            raise Disallowed(f"HostConfig.{name} is missing")
    if "Type" not in _mapping(host["LogConfig"]):
        raise Disallowed("HostConfig.LogConfig.Type is missing")


Rule = Callable[[object], bool]
"""Tells whether a value is allowed."""


def _check(value: Mapping[str, object], rules: Mapping[str, Rule | Mapping[str, Any]], path: str) -> None:
    for name, item in value.items():
        rule = rules.get(name)
        if isinstance(rule, Mapping) and isinstance(item, Mapping):
            _check(item, rule, f"{path}{name}.")
        elif rule is None or isinstance(rule, Mapping) or not rule(item):
            raise Disallowed(f"{path}{name}")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _is_one_of(*values: object) -> Rule:
    # By type too: True == 1 in Python.
    return lambda value: any(type(value) is type(allowed) and value == allowed for allowed in values)


def _is_number(lowest: int, highest: float = math.inf) -> Rule:
    return lambda value: type(value) is int and lowest <= value <= highest


def _matches(pattern: str) -> Rule:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _all(rule: Rule) -> Rule:
    return lambda value: isinstance(value, list) and all(rule(item) for item in value)


def _all_values(rule: Rule) -> Rule:
    return lambda value: (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and all(rule(item) for item in value.values())
    )


_is_text: Rule = _matches(r"[^\0]*")
_is_flag: Rule = _is_one_of(True, False)


def _is_endpoint(value: object) -> bool:
    ipam = value.get("IPAMConfig", {}) if isinstance(value, Mapping) and set(value) <= {"IPAMConfig"} else None
    return isinstance(ipam, Mapping) and all(
        name == "IPv4Address" and _matches(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")(address) for name, address in ipam.items()
    )


_ALLOWED: Final[Mapping[str, Rule | Mapping[str, Any]]] = {
    # By id alone: a tag may have come to mean another image since.
    "Image": _matches(r"sha256:[0-9a-f]{64}"),
    "Cmd": _all(_is_text),
    "Env": _all(_matches(r"(?s)[A-Za-z_][A-Za-z0-9_]*=[^\0]*")),
    "Labels": _all_values(_is_text),
    "StopTimeout": _is_number(0, 86_400),
    "AttachStdin": _is_flag,
    "AttachStdout": _is_flag,
    "AttachStderr": _is_flag,
    "OpenStdin": _is_flag,
    "StdinOnce": _is_flag,
    "Tty": _is_flag,
    "NetworkingConfig": {"EndpointsConfig": _all_values(_is_endpoint)},
    "HostConfig": {
        "NetworkMode": _matches(r"pushboat-[a-z0-9]+-[0-9]+"),
        "IpcMode": _is_one_of("private"),
        "CgroupnsMode": _is_one_of("private"),
        "CgroupParent": _matches(r"/?[a-z][a-z0-9_]{0,62}\.slice"),
        "Init": _is_one_of(True),
        "CapDrop": _is_one_of(["ALL"]),
        "CapAdd": _all(_is_one_of(*KEPT_CAPABILITIES)),
        "SecurityOpt": _is_one_of(["no-new-privileges"]),
        "PidsLimit": _is_number(1, 4_194_304),
        "RestartPolicy": _is_one_of({"Name": "no"}),
        "LogConfig": {
            "Type": _is_one_of("json-file", "none"),
            "Config": {"max-size": _matches(r"[0-9]{1,3}m"), "max-file": _matches(r"[1-9]")},
        },
        "Memory": _is_number(0),
        "MemorySwap": _is_number(0),
        "MemoryReservation": _is_number(0),
        "NanoCpus": _is_number(0),
    },
}
"""Every field that a container of ours may have. What is not here is refused."""

_REQUIRED: Final = (
    *("NetworkMode", "IpcMode", "CgroupnsMode", "CapDrop", "SecurityOpt", "PidsLimit", "RestartPolicy", "LogConfig"),
)
"""Fields of HostConfig whose absence would mean one of the engine's laxer defaults."""
