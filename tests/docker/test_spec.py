"""What we ask of the engine for a container, and what we would never ask."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.docker import labels
from agent.docker.spec import Body, Disallowed, check_body, container_name, create_body
from agent.ports.scheduler import ContainerWish, OneOff, ReplicaWish, Resources, TaskWish
from proto.names import AppId, ProcessType, ReplicaId, TaskId

INSTANCE = "i23456789abc"
NETWORK = f"pushboat-{INSTANCE}-0"
IMAGE = "sha256:" + "0" * 64


def replica(**changes: Any) -> ReplicaWish:
    fields: dict[str, Any] = {
        "app": AppId("aaaaaaaaaaaa"),
        "app_name": "blog",
        "process": ProcessType("web"),
        "release": 7,
        "image": IMAGE,
        "command": None,
        "env": {"PORT": "5000"},
        "replica": ReplicaId("raaaaaaaaaaa"),
        "number": 2,
        "bridge": 0,
        "address": "10.213.0.2",
        "fingerprint": "f" * 64,
    }
    return ReplicaWish(**(fields | changes))


def one_off(**changes: Any) -> OneOff:
    fields: dict[str, Any] = {
        "app": AppId("aaaaaaaaaaaa"),
        "app_name": "blog",
        "process": ProcessType("run"),
        "release": 7,
        "image": IMAGE,
        "command": ("sh", "-c", "exit 3"),
        "env": {},
        "name": "blog.run.k3vq",
        "entry": "e23456789abc",
    }
    return OneOff(**(fields | changes))


def body_of(wish: ContainerWish, **options: Any) -> Body:
    return create_body(wish, instance=INSTANCE, network=NETWORK, **options)


def test_a_replica_has_its_address_its_labels_and_a_restart_policy() -> None:
    body = body_of(replica())
    assert body["NetworkingConfig"] == {"EndpointsConfig": {NETWORK: {"IPAMConfig": {"IPv4Address": "10.213.0.2"}}}}
    assert body["Labels"] == {
        "com.pushboat.instance": INSTANCE,
        "com.pushboat.kind": "replica",
        "com.pushboat.app-id": "aaaaaaaaaaaa",
        "com.pushboat.app-name": "blog",
        "com.pushboat.replica": "raaaaaaaaaaa",
        "com.pushboat.process-type": "web",
        "com.pushboat.number": "2",
        "com.pushboat.release": "7",
        "com.pushboat.fingerprint": "f" * 64,
    }
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert body["Env"] == ["PORT=5000"]
    assert "Cmd" not in body
    assert container_name(replica()) == "blog.web.2.v7"


def test_a_task_has_its_labels_keeps_its_log_and_is_not_attached() -> None:
    wish = TaskWish(
        app=AppId("aaaaaaaaaaaa"),
        app_name="blog",
        process=ProcessType("release"),
        release=7,
        image=IMAGE,
        command=("./migrate",),
        env={},
        task=TaskId(ReplicaId("taaaaaaaaaaa")),
    )
    body = body_of(wish)
    assert body["Labels"] == {
        "com.pushboat.instance": INSTANCE,
        "com.pushboat.kind": "task",
        "com.pushboat.app-id": "aaaaaaaaaaaa",
        "com.pushboat.app-name": "blog",
        "com.pushboat.replica": "taaaaaaaaaaa",
        "com.pushboat.process-type": "release",
        "com.pushboat.number": "1",
        "com.pushboat.release": "7",
    }
    assert body["Cmd"] == ["./migrate"] and "AttachStdin" not in body
    assert body["HostConfig"]["LogConfig"]["Type"] == "json-file"
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert container_name(wish) == "blog.release.v7"
    check_body(body, instance=INSTANCE)


def test_only_what_serves_is_in_the_slice_of_replicas() -> None:
    for group in ("pushboat.slice", "/pushboat.slice"):
        body = body_of(replica(), group=group)
        assert body["HostConfig"]["CgroupParent"] == group
        check_body(body, instance=INSTANCE)
    assert body_of(one_off(), group="pushboat.slice") == body_of(one_off())
    assert body_of(replica(), group="") == body_of(replica())


def test_a_one_off_is_attached_is_not_restarted_and_leaves_no_log() -> None:
    body = body_of(one_off(), is_tty=True, term="xterm-256color")
    assert body["Tty"] and body["OpenStdin"] and body["AttachStdout"]
    assert body["Env"] == ["TERM=xterm-256color"]
    assert body["Cmd"] == ["sh", "-c", "exit 3"]
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert body["HostConfig"]["LogConfig"]["Type"] == "none"
    assert body["Labels"][labels.KIND] == "run"


def test_limits_are_set_only_where_they_are_wished_for() -> None:
    unlimited = body_of(replica())["HostConfig"]
    assert (
        "MemoryReservation" not in unlimited
        and "Memory" not in unlimited
        and "NanoCpus" not in unlimited
        and unlimited["PidsLimit"] == 512
    )
    limited = body_of(replica(resources=Resources(memory_bytes=64 << 20, cpus=0.5, pids=64)))["HostConfig"]
    assert (limited["Memory"], limited["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (limited["NanoCpus"], limited["PidsLimit"]) == (500_000_000, 64)


@pytest.mark.parametrize(("limit", "reserved", "asked"), [(0, 32, 32), (64, 32, 32), (16, 32, 16)])
def test_no_more_memory_is_reserved_than_the_limit_is(limit: int, reserved: int, asked: int) -> None:
    """The engine refuses such a container, and who sets the one may not think of the other."""
    wish = replica(resources=Resources(memory_bytes=limit << 20, reserved_bytes=reserved << 20))
    body = body_of(wish)
    assert body["HostConfig"]["MemoryReservation"] == asked << 20
    check_body(body, instance=INSTANCE)


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
common = {
    "app_name": text,
    "process": st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True),
    "release": st.integers(0, 10**9),
    "command": st.none() | st.lists(text, max_size=4).map(tuple),
    "env": st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), text, max_size=4),
    "resources": st.builds(
        Resources,
        memory_bytes=st.integers(0, 1 << 45),
        cpus=st.floats(0, 512),
        pids=st.integers(1, 4_194_304),
    ),
    "stop_seconds": st.floats(0, 3_600),
}
replicas = st.builds(
    replica,
    number=st.integers(1, 1_000),
    address=st.ip_addresses(v=4).map(str),
    fingerprint=text,
    **common,
)
one_offs = st.builds(one_off, name=text, entry=text, **common)


@given(wish=replicas | one_offs, is_tty=st.booleans(), term=text)
@settings(max_examples=100, deadline=None)
def test_every_wish_becomes_a_body_that_is_allowed(wish: ContainerWish, is_tty: bool, term: str) -> None:
    check_body(body_of(wish, is_tty=is_tty and isinstance(wish, OneOff), term=term), instance=INSTANCE)


FORBIDDEN: list[tuple[str, object]] = [
    ("HostConfig.Privileged", True),
    ("HostConfig.Binds", ["/:/host"]),
    ("HostConfig.Mounts", [{"Type": "bind", "Source": "/", "Target": "/host"}]),
    ("HostConfig.Devices", [{"PathOnHost": "/dev/sda"}]),
    ("HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
    ("HostConfig.DeviceRequests", []),
    ("HostConfig.VolumesFrom", ["other"]),
    ("HostConfig.PidMode", "host"),
    ("HostConfig.IpcMode", "host"),
    ("HostConfig.UTSMode", "host"),
    ("HostConfig.UsernsMode", "host"),
    ("HostConfig.CgroupnsMode", "host"),
    ("HostConfig.CgroupParent", "/"),
    ("HostConfig.CgroupParent", "system.slice/docker.service"),
    ("HostConfig.CgroupParent", "../pushboat.slice"),
    ("HostConfig.NetworkMode", "host"),
    ("HostConfig.NetworkMode", "container:abc"),
    ("HostConfig.NetworkMode", "bridge"),
    ("HostConfig.NetworkMode", "pushboat-other-0"),
    ("HostConfig.SecurityOpt", ["seccomp=unconfined"]),
    ("HostConfig.SecurityOpt", []),
    ("HostConfig.CapAdd", ["SYS_ADMIN"]),
    ("HostConfig.CapAdd", ["NET_RAW"]),
    ("HostConfig.CapDrop", []),
    ("HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
    ("HostConfig.PublishAllPorts", True),
    ("HostConfig.AutoRemove", True),
    ("HostConfig.Runtime", "other"),
    ("HostConfig.MaskedPaths", []),
    ("HostConfig.Sysctls", {"net.ipv4.ip_forward": "1"}),
    ("HostConfig.OomScoreAdj", -1000),
    ("HostConfig.ExtraHosts", ["a:1"]),
    ("HostConfig.PidsLimit", 0),
    ("HostConfig.PidsLimit", -1),
    ("HostConfig.Init", 1),
    ("HostConfig.RestartPolicy", {"Name": "always"}),
    ("HostConfig.LogConfig", {"Type": "syslog", "Config": {}}),
    ("HostConfig.LogConfig", {}),
    ("HostConfig.LogConfig", {"Config": {}}),
    ("HostConfig.LogConfig", {"Type": "json-file", "Config": {"env": "SECRET"}}),
    ("Image", "busybox"),
    ("Env", ["A"]),
    ("Env", ["A=\0"]),
    ("User", "root"),
    ("Volumes", {"/x": {}}),
    ("ExposedPorts", {"80/tcp": {}}),
    ("Entrypoint", ["sh"]),
    ("MacAddress", "02:42:ac:11:00:02"),
    ("Labels", {}),
    ("Labels", {labels.INSTANCE: "other"}),
    ("NetworkingConfig", {"EndpointsConfig": {NETWORK: {}, "bridge": {}}}),
    ("NetworkingConfig", {"EndpointsConfig": {"host": {}}}),
    ("NetworkingConfig", {"EndpointsConfig": {NETWORK: {"IPAMConfig": {"IPv6Address": "::1"}}}}),
    ("NetworkingConfig", {"EndpointsConfig": {NETWORK: {"Links": ["other"]}}}),
    ("NetworkingConfig", {}),
]


@pytest.mark.parametrize(("path", "value"), FORBIDDEN)
def test_what_is_not_on_the_list_is_refused(path: str, value: object) -> None:
    body = copy.deepcopy(body_of(replica()))
    *folders, name = path.split(".")
    target = body
    for folder in folders:
        target = target[folder]
    target[name] = value
    with pytest.raises(Disallowed):
        check_body(body, instance=INSTANCE)


@pytest.mark.parametrize(
    "name", ["CapDrop", "SecurityOpt", "PidsLimit", "IpcMode", "CgroupnsMode", "NetworkMode", "LogConfig"]
)
def test_a_protection_that_is_left_out_is_refused(name: str) -> None:
    body = body_of(replica())
    del body["HostConfig"][name]
    with pytest.raises(Disallowed):
        check_body(body, instance=INSTANCE)
