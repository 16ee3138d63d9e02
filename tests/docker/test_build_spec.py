"""What a build's container may have, and what it never has: the engine's socket, root, or a folder of this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from agent.docker.build_spec import BuildWish, Keep, build_body, check_build_body, volume_name
from agent.docker.spec import Disallowed, check_body
from agent.ports.scheduler import Resources
from proto.names import AppId

INSTANCE = "i23456789abc"
NETWORK = f"pushboat-{INSTANCE}-0"
APP = AppId("aaaaaaaaaaaa")
CACHE = volume_name(INSTANCE, APP, "cache")


UNLIMITED = Resources()


def body(resources: Resources = UNLIMITED) -> dict[str, Any]:
    wish = BuildWish(
        app=APP,
        app_name="blog",
        entry="e1",
        image="sha256:" + "0" * 64,
        user=1000,
        group=1001,
        arguments=("-app", "/workspace"),
        env={"CNB_PLATFORM_API": "0.12"},
        keeps=(Keep(volume=CACHE, target="/cache"),),
        resources=resources,
    )
    return build_body(wish, instance=INSTANCE, network=NETWORK)


def test_a_build_runs_the_lifecycle_as_the_builders_user_without_any_capability() -> None:
    made = body()
    check_build_body(made, instance=INSTANCE)
    assert (made["Entrypoint"], made["Cmd"]) == (["/cnb/lifecycle/creator"], ["-app", "/workspace"])
    assert made["User"] == "1000:1001"
    host = made["HostConfig"]
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"]) and "CapAdd" not in host
    assert host["Mounts"] == [
        {
            "Type": "volume",
            "Source": f"pushboat-{INSTANCE}-aaaaaaaaaaaa-build-cache",
            "Target": "/cache",
            "ReadOnly": False,
            "VolumeOptions": {
                "NoCopy": True,
                "Labels": {
                    "com.pushboat.instance": INSTANCE,
                    "com.pushboat.kind": "build-kept",
                    "com.pushboat.app-id": "aaaaaaaaaaaa",
                },
            },
        }
    ]
    assert made["Labels"] == {
        "com.pushboat.instance": INSTANCE,
        "com.pushboat.kind": "build",
        "com.pushboat.app-id": "aaaaaaaaaaaa",
        "com.pushboat.app-name": "blog",
        "com.pushboat.entry": "e1",
    }


def mount(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda made: made["HostConfig"]["Mounts"][0].update(changes)


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (mount(Type="bind", Source="/var/run/docker.sock"), "HostConfig.Mounts"),
        (mount(Type="bind"), "HostConfig.Mounts"),
        (mount(Source="somebodys-volume"), "HostConfig.Mounts"),
        (mount(Source=f"pushboat-other-{APP}-build-cache"), "HostConfig.Mounts"),
        (mount(Source=f"pushboat-{INSTANCE}-another-build-cache"), "HostConfig.Mounts"),
        (mount(VolumeOptions={"NoCopy": True, "Labels": {}}), "HostConfig.Mounts"),
        (mount(Target="/var/run/docker.sock"), "HostConfig.Mounts"),
        (mount(Target="/cache/../etc"), "HostConfig.Mounts"),
        (mount(VolumeOptions={"DriverConfig": {"Name": "local"}}), "HostConfig.Mounts"),
        (lambda made: made["HostConfig"].update(Mounts=None), "HostConfig.Mounts"),
        (lambda made: made["HostConfig"].update(Binds=["/:/host"]), "HostConfig.Binds"),
        (lambda made: made["HostConfig"].update(Privileged=True), "HostConfig.Privileged"),
        (lambda made: made["HostConfig"].update(CapAdd=["CHOWN"]), "HostConfig.CapAdd"),
        (lambda made: made["HostConfig"].update(NetworkMode="host"), "HostConfig.NetworkMode"),
        (lambda made: made.update(User="0:0"), "User"),
        (lambda made: made.update(User="root"), "User"),
        (lambda made: made.update(Entrypoint=["/bin/sh"]), "Entrypoint"),
        (lambda made: made["Labels"].update({"com.pushboat.kind": "replica"}), "Labels"),
        (lambda made: made["Labels"].update({"com.pushboat.instance": "other"}), "Labels"),
    ],
)
def test_nothing_else_is_ever_asked_for(spoil: Callable[[dict[str, Any]], None], field: str) -> None:
    made = copy.deepcopy(body())
    spoil(made)
    with pytest.raises(Disallowed) as refused:
        check_build_body(made, instance=INSTANCE)
    assert str(refused.value) == field


def test_what_a_build_may_have_no_other_container_may() -> None:
    with pytest.raises(Disallowed):
        check_body(body(), instance=INSTANCE)


def test_a_build_is_held_to_its_memory_and_cpu_without_swap() -> None:
    made = body(Resources(memory_bytes=64 << 20, cpus=0.5))
    check_build_body(made, instance=INSTANCE)
    host = made["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 64 << 20, 500_000_000)
    assert host["PidsLimit"] == 4_096
