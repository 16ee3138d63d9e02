"""What a container is made from: the words that it gets as its command, and what tells one replica from another."""

from __future__ import annotations

import re

import msgspec
import pytest
from msgspec.structs import replace

from agent.lifecycle.wishes import REVISION_VARIABLE, command_words, replica_wish
from agent.ports.scheduler import Resources
from agent.state.apps import App
from agent.state.plans import Plan, ProcessPlan
from agent.state.releases import Release
from agent.state.replicas import Replica
from agent.vault import Vault
from proto.names import WEB, AppId, AppName, DeployId, ReplicaId
from tests.fakes.world import SeededIds

ENV = {"PORT": "5000", "TOKEN": "a b", "DYNO": "web.1"}
TO_AN_ENTRYPOINT = {
    "serve --port $PORT": ("serve", "--port", "5000"),
    "serve ${TOKEN}": ("serve", "a b"),
    "serve 'two words' $PORT": ("serve", "two words", "5000"),
    "serve --to=$NOTHING": ("serve", "--to="),
    "serve 'open": ("serve 'open",),
}


@pytest.mark.parametrize(("line", "words"), TO_AN_ENTRYPOINT.items())
def test_an_entrypoint_gets_the_line_as_words_with_variables_filled_in(line: str, words: tuple[str, ...]) -> None:
    assert command_words(line, plan=Plan(processes=(), port=5000, has_entrypoint=True), env=ENV) == words


def test_without_an_entrypoint_a_value_of_the_config_is_no_argument() -> None:
    words = command_words("serve --token $TOKEN", plan=Plan(processes=(), port=5000), env=ENV)
    assert not any("a b" in word for word in words)


APP = App(
    id=AppId("ablog"),
    name=AppName("blog"),
    created_at=1.0,
    created_by="ada",
    live_release=3,
    is_stopped=False,
    destroyed_at=None,
)
RELEASE = Release(
    app=APP.id,
    version=3,
    deploy=DeployId("dthree"),
    image="sha256:1",
    plan=Plan(processes=(ProcessPlan(type=WEB, command="./serve --fast"),), port=5000),
    commit_id="c" * 40,
    by="ada",
    why="because",
    created_at=1.0,
    live_at=None,
    is_image_kept=True,
)
REPLICA = Replica(
    id=ReplicaId("rone"),
    app=APP.id,
    release=3,
    process=WEB,
    number=1,
    bridge=0,
    address="10.213.0.2",
    port=5000,
    state="planned",
    container=None,
    planned_at=1.0,
    started_at=None,
    ready_at=None,
    losses=0,
    retry_at=0.0,
    drain_until=None,
)
CONFIG = {"COLOUR": "blue", "TOKEN": "hunter2"}
KEY = bytes(range(32))


def fingerprint(**changes: object) -> str:
    """Return the fingerprint of a replica that is as usual but for these."""
    fields: dict[str, object] = {
        "app": APP,
        "release": RELEASE,
        "config": CONFIG,
        "replica": REPLICA,
        "resources": Resources(),
        "stop_seconds": 30.0,
        "revision_variable": REVISION_VARIABLE,
        "fingerprint": Vault(KEY, token=bytes).fingerprint,
    }
    return replica_wish(**{**fields, **changes}).fingerprint  # type: ignore[arg-type]


ANOTHER = {
    "config value": {"config": {**CONFIG, "COLOUR": "red"}},
    "config key": {"config": {"COLOR": "blue", "TOKEN": "hunter2"}},
    "missing key": {"config": {"COLOUR": "blue"}},
    "value in another variable": {"config": {"COLOUR": "hunter2", "TOKEN": "blue"}},
    "command": {
        "release": replace(RELEASE, plan=replace(RELEASE.plan, processes=(ProcessPlan(type=WEB, command="x"),)))
    },
    "image": {"release": replace(RELEASE, image="sha256:2")},
    "commit": {"release": replace(RELEASE, commit_id="d" * 40)},
    "address": {"replica": replace(REPLICA, address="10.213.0.3")},
    "port": {"replica": replace(REPLICA, port=5001)},
    "number": {"replica": replace(REPLICA, number=2)},
    "replica": {"replica": replace(REPLICA, id=ReplicaId("rtwo"))},
    "agent's key": {"fingerprint": Vault(KEY[::-1], token=bytes).fingerprint},
}
THE_SAME = {
    "order of the config": {"config": dict(reversed(CONFIG.items()))},
    "name of the app": {"app": replace(APP, name=AppName("diary"))},
    "limits": {"resources": Resources(memory_bytes=1 << 20, cpus=2.0, pids=3)},
    "grace time": {"stop_seconds": 5.0},
    "state of the row": {"replica": replace(REPLICA, state="ready", losses=3, container="c1", started_at=9.0)},
}


@pytest.mark.parametrize("changes", ANOTHER.values(), ids=ANOTHER)
def test_a_replica_that_is_to_be_another_one_has_another_fingerprint(changes: dict[str, object]) -> None:
    assert fingerprint(**changes) != fingerprint()


@pytest.mark.parametrize("changes", THE_SAME.values(), ids=THE_SAME)
def test_what_restarts_no_replica_leaves_its_fingerprint(changes: dict[str, object]) -> None:
    assert fingerprint(**changes) == fingerprint()


def test_the_same_config_sealed_anew_has_the_same_fingerprint_and_gives_nothing_away() -> None:
    vault = Vault(KEY, token=SeededIds().token)
    stored = [vault.seal(msgspec.json.encode(CONFIG), context="app:ablog/release:3") for _ in range(2)]
    opened = [msgspec.json.decode(vault.unseal(sealed, context="app:ablog/release:3")) for sealed in stored]
    assert stored[0] != stored[1]
    assert fingerprint(config=opened[0]) == fingerprint(config=opened[1]) == fingerprint()
    # 64 digits and no more: an HMAC-SHA256, whatever goes into it.
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint())
