"""Wishes for containers without rhyme or reason, and a judge of bodies who knows nothing of our own list.

A wish may ask for whatever it likes: what becomes of it has no more rights than an app may have, or is refused. The
judge is written apart from ``agent.docker.spec``: by what the engine's API can be asked for (v1.44, ContainerCreate).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from agent.docker.build_spec import BuildWish, Keep, build_body, check_build_body
from agent.docker.spec import Body, Disallowed, check_body, create_body
from agent.ports.scheduler import ContainerWish, OneOff, ReplicaWish, Resources, TaskWish
from proto.names import AppId, ProcessType, ReplicaId, TaskId
from tests.attacks.lines import HOSTILE

WISHES = 10_000
INSTANCE = "i23456789abc"
NETWORK = f"pushboat-{INSTANCE}-0"
IMAGE = f"sha256:{'0' * 64}"

WILD: tuple[Any, ...] = (
    *("host", "bridge", "none", "default", "container:other", f"pushboat-{INSTANCE}-1\n", "pushboat-other-0"),
    *("--privileged", "/", "/var/run/docker.sock:/sock", "/dev/sda", "seccomp=unconfined", "apparmor=unconfined"),
    *("0:0", "root", "ALL", "SYS_ADMIN", "a *:* rwm", "unconfined", "systempaths=unconfined", "label=disable"),
    *(True, False, 0, -1, 1 << 62, 0.5, None, [], {}, ["ALL"], ["SYS_ADMIN"], ["/:/host"], {"80/tcp": [{}]}),
    *([{"Type": "bind", "Source": "/", "Target": "/host"}], {"Name": "always"}, {"Type": "syslog", "Config": {}}),
)
"""Values by which somebody would get out of a container."""

HOST_FIELDS = (
    *("AutoRemove", "Binds", "BlkioDeviceReadBps", "BlkioWeight", "CapAdd", "CapDrop", "Cgroup", "CgroupParent"),
    *("CgroupnsMode", "ConsoleSize", "ContainerIDFile", "CpuCount", "CpuPeriod", "CpuQuota", "CpuRealtimeRuntime"),
    *("CpuShares", "CpusetCpus", "DeviceCgroupRules", "DeviceRequests", "Devices", "Dns", "DnsOptions", "ExtraHosts"),
    *("GroupAdd", "Init", "IpcMode", "Isolation", "Links", "LogConfig", "MaskedPaths", "Memory", "MemorySwap"),
    *("Mounts", "NanoCpus", "NetworkMode", "OomKillDisable", "OomScoreAdj", "PidMode", "PidsLimit", "PortBindings"),
    *("Privileged", "PublishAllPorts", "ReadonlyPaths", "ReadonlyRootfs", "RestartPolicy", "Runtime", "SecurityOpt"),
    *("ShmSize", "StorageOpt", "Sysctls", "Tmpfs", "UTSMode", "Ulimits", "UsernsMode", "VolumeDriver", "VolumesFrom"),
)
FIELDS = (
    *("Cmd", "Domainname", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Hostname", "Image", "Labels"),
    *("MacAddress", "NetworkDisabled", "NetworkingConfig", "OnBuild", "Shell", "StopSignal", "StopTimeout", "User"),
    *("Volumes", "WorkingDir", "ArgsEscaped"),
)

HARMLESS_CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
MAY_BE_SET = {
    *("NetworkMode", "IpcMode", "CgroupnsMode", "Init", "CapDrop", "CapAdd", "SecurityOpt", "PidsLimit"),
    *("RestartPolicy", "LogConfig", "Memory", "MemorySwap", "NanoCpus"),
}
"""Of ``HostConfig``. Everything else gives more than nothing, or nothing that we need."""


MUST_BE: Mapping[str, Any] = {
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "IpcMode": "private",
    "CgroupnsMode": "private",
    "RestartPolicy": {"Name": "no"},
}


def try_wishes(count: int, *, first: int) -> list[str]:
    """Return what was wrong about `count` wishes, drawn from as many seeds."""
    return [f"seed {seed}: {wrong}" for seed in range(first, first + count) for wrong in tried(random.Random(seed))]


def tried(chance: random.Random) -> Iterator[str]:
    """Yield what is wrong about one wish: its body passes our list and not the judge, or is tame and refused."""
    is_build = chance.random() < 0.2
    is_wild = chance.random() < 0.7
    wish = _build(chance, is_wild) if is_build else _wish(chance, is_wild)
    network = str(_wild(chance)) if is_wild and chance.random() < 0.2 else NETWORK
    body = _body(wish, network, is_tty=chance.random() < 0.5, term=_text(chance))
    is_meddled = chance.random() < 0.5
    if is_meddled:
        _meddle(body, chance)
    check: Callable[..., None] = check_build_body if is_build else check_body
    try:
        check(body, instance=INSTANCE)
    except Disallowed as error:
        if not is_wild and not is_meddled:
            yield f"{error} of {wish} is refused"
        return
    yield from (f"{danger} in {json.dumps(body)[:2_000]}" for danger in dangers(body, is_build=is_build))


def dangers(body: Mapping[str, Any], *, is_build: bool = False) -> Iterator[str]:
    """Yield what in a body gives its container more than an app may have."""
    host = dict(body.get("HostConfig", {}))
    yield from _foreign_mounts(host.pop("Mounts", []) if is_build else [])
    if unknown := set(host) - MAY_BE_SET:
        yield f"HostConfig has {sorted(unknown)}"
    allowed = {"User", "Entrypoint"} if is_build else set()
    if unknown := {"User", "Entrypoint", "ExposedPorts", "Volumes", "MacAddress", "Hostname"} & set(body) - allowed:
        yield f"it has {sorted(unknown)}"
    if is_build and str(body.get("User")).split(":")[0] in ("", "0", "root", "None"):
        yield "a build as root"
    if not set(host.get("CapAdd", [])) <= HARMLESS_CAPABILITIES:
        yield f"capabilities {host['CapAdd']}"
    yield from (f"{name} is {host.get(name)!r}" for name, value in MUST_BE.items() if host.get(name) != value)
    yield from _foreign_networks(host.get("NetworkMode"), body.get("NetworkingConfig", {}))
    if not (type(host.get("PidsLimit")) is int and host["PidsLimit"] > 0):
        yield "no limit of processes"
    if host.get("LogConfig", {}).get("Type") not in ("json-file", "none"):
        yield "logs of its own"
    if not str(body.get("Image")).startswith("sha256:"):
        yield f"the image {body.get('Image')!r}"
    if body.get("Labels", {}).get("com.pushboat.instance") != INSTANCE:
        yield "labels of somebody else"


def _foreign_mounts(mounts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for mount in mounts:
        source = str(mount.get("Source"))
        if mount.get("Type") != "volume" or "/" in source or not source.startswith(f"pushboat-{INSTANCE}-"):
            yield f"a foreign mount {mount}"
        if mount.get("BindOptions") or mount.get("VolumeOptions", {}).get("DriverConfig"):
            yield f"a mount with a driver {mount}"


def _foreign_networks(network: object, named: Mapping[str, Any]) -> Iterator[str]:
    if not str(network).startswith(f"pushboat-{INSTANCE}-") or not str(network).rpartition("-")[2].isdigit():
        yield f"the network {network!r}"
    ends = named.get("EndpointsConfig", {})
    if set(named) != {"EndpointsConfig"} or list(ends) != [network]:
        yield f"networks {named}"
    if any(set(end) - {"IPAMConfig"} or set(end.get("IPAMConfig", {})) - {"IPv4Address"} for end in ends.values()):
        yield f"more than an address {ends}"


def _wish(chance: random.Random, is_wild: bool) -> ContainerWish:
    common: dict[str, Any] = {
        "app": AppId("aaaaaaaaaaaa"),
        "app_name": _text(chance),
        "process": ProcessType("web"),
        "release": chance.randrange(10**9),
        "image": IMAGE,
        "command": chance.choice((None, tuple(_text(chance) for _ in range(chance.randrange(4))))),
        "env": {f"A{number}": _text(chance) for number in range(chance.randrange(4))},
        "resources": _resources(chance),
        "stop_seconds": chance.uniform(0, 3_600),
    }
    wish = chance.choice(
        (
            lambda: OneOff(name=_text(chance), entry=_text(chance), **common),
            lambda: TaskWish(task=TaskId(ReplicaId("taaaaaaaaaaa")), **common),
            lambda: ReplicaWish(
                replica=ReplicaId("raaaaaaaaaaa"),
                number=chance.randint(1, 1_000),
                bridge=0,
                address=f"10.213.{chance.randrange(256)}.{chance.randrange(256)}",
                fingerprint=_text(chance),
                **common,
            ),
        )
    )()
    return _spoiled(wish, chance) if is_wild else wish


def _build(chance: random.Random, is_wild: bool) -> BuildWish:
    app = AppId("aaaaaaaaaaaa")
    wish = BuildWish(
        app=app,
        app_name=_text(chance),
        entry=_text(chance),
        image=IMAGE,
        user=chance.randint(1, 65_000),
        group=chance.randint(0, 65_000),
        arguments=tuple(_text(chance) for _ in range(chance.randrange(4))),
        env={"A": _text(chance)},
        keeps=(Keep(volume=f"pushboat-{INSTANCE}-{app}-build-cache", target="/cache"),),
        resources=_resources(chance),
    )
    if is_wild and chance.random() < 0.5:
        keep = Keep(volume=str(_wild(chance)), target=str(chance.choice(("/cache", _wild(chance)))))
        return msgspec.structs.replace(wish, keeps=(*wish.keeps, keep))
    return _spoiled(wish, chance) if is_wild else wish


def _body(wish: ContainerWish | BuildWish, network: str, *, is_tty: bool, term: str) -> Body:
    if isinstance(wish, BuildWish):
        return build_body(wish, instance=INSTANCE, network=network)
    return create_body(wish, instance=INSTANCE, network=network, is_tty=is_tty and isinstance(wish, OneOff), term=term)


def _spoiled(wish: Any, chance: random.Random) -> Any:
    """Return the wish with wild text in some fields that hold text, as if nobody had checked them before."""
    texts = [field.name for field in msgspec.structs.fields(wish) if isinstance(getattr(wish, field.name), str)]
    changes: dict[str, Any] = {name: str(_wild(chance)) for name in chance.sample(texts, 2)}
    if chance.random() < 0.3:
        changes["env"] = {str(_wild(chance)): str(_wild(chance))}
    if isinstance(wish, BuildWish) and chance.random() < 0.3:
        changes["user"] = 0
    return msgspec.structs.replace(wish, **changes)


def _meddle(body: Body, chance: random.Random) -> None:
    """Ask for something besides, as a mistake of ours would."""
    for _ in range(chance.randint(1, 3)):
        place = chance.choice((body, body["HostConfig"], body["HostConfig"]))
        place[chance.choice(FIELDS if place is body else HOST_FIELDS)] = _wild(chance)
    if chance.random() < 0.2:
        body["HostConfig"].pop(chance.choice(list(body["HostConfig"])))
    if not isinstance(body.get("HostConfig"), dict):
        body["HostConfig"] = {}


def _resources(chance: random.Random) -> Resources:
    return Resources(
        memory_bytes=chance.randrange(1 << 45), cpus=chance.uniform(0, 512), pids=chance.randint(1, 65_536)
    )


def _wild(chance: random.Random) -> Any:
    return chance.choice((chance.choice(WILD), chance.choice(HOSTILE)))


def _text(chance: random.Random) -> str:
    return "".join(chr(chance.choice((chance.randrange(1, 128), chance.randrange(1, 0xD800)))) for _ in range(12))


__all__: Sequence[str] = ("WISHES", "dangers", "tried", "try_wishes")
