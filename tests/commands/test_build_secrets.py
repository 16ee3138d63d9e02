"""``builder:secrets:*``: names are told, values never."""

from __future__ import annotations

import msgspec
import pytest

from agent.lifecycle import build_secrets
from agent.lifecycle.building import build_options
from agent.ports.images import BuildOptions
from proto.names import SERVER, AppId
from tests.commands.desk import Desk


async def options(desk: Desk, app: AppId) -> BuildOptions:
    return await build_options(desk.database.read, app=app, name="blog")


async def test_a_build_gets_the_app_s_own_above_the_server_s(desk: Desk) -> None:
    app = await desk.core.create("blog")
    set_ = await desk.give("builder:secrets:set blog NPM_TOKEN=hush npmrc.2=x")
    assert set_.status == 0 and "NPM_TOKEN" in set_.out and "hush" not in set_.out
    assert (await desk.give("builder:secrets:set --global NPM_TOKEN=global OTHER=o=o")).status == 0
    assert (await options(desk, app.id)).secrets == {"NPM_TOKEN": "hush", "npmrc.2": "x", "OTHER": "o=o"}
    assert (await desk.give("builder:secrets:list blog")).out == "NPM_TOKEN\nnpmrc.2\n"
    assert (await desk.give("builder:secrets:report blog --builder-secrets-computed-keys")).out == (
        "NPM_TOKEN OTHER npmrc.2\n"
    )
    assert (await desk.give("builder:secrets:report --global --builder-secrets-global-keys")).out == "NPM_TOKEN OTHER\n"


async def test_a_name_alone_takes_standard_input_byte_for_byte(desk: Desk) -> None:
    app = await desk.core.create("blog")
    value = "-----BEGIN KEY-----\nünïcode\r\n\n"
    assert (await desk.give("builder:secrets:set blog KEY", value.encode())).status == 0
    assert (await options(desk, app.id)).secrets == {"KEY": value}


async def test_what_is_unset_is_gone_and_what_was_not_set_is_named(desk: Desk) -> None:
    app = await desk.core.create("blog")
    await desk.give("builder:secrets:set blog A=1 B=2")
    done = await desk.give("builder:secrets:unset blog A C")
    assert done.status == 0 and "Skipping 'C'" in done.out
    assert (await options(desk, app.id)).secrets == {"B": "2"}
    json = await desk.give("builder:secrets:unset blog B --format json")
    assert json.json() == {"changed": ["B"]}
    assert await desk.database.read.properties.get(app.id, "builder.secrets") is None


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        ("A", b"", "secret.no-input"),
        ("A", b"\xff\xfe", "secret.not-text"),
        ("A", b"x" * (build_secrets.MAX_SECRET_BYTES + 1), "secret.too-large"),
        ("A B", b"x", "secret.invalid-pair"),
        ("A=1 B", b"x", "secret.invalid-pair"),
        ("a/b=1", b"", "secret.invalid-name"),
        ("=1", b"", "secret.invalid-name"),
    ],
)
async def test_a_mistake_sets_nothing(desk: Desk, words: str, stdin: bytes, code: str) -> None:
    app = await desk.core.create("blog")
    refused = await desk.give(f"builder:secrets:set blog {words} --format json", stdin)
    assert refused.status == 1 and f'"{code}"' in refused.err
    assert (await options(desk, app.id)).secrets == {}


async def test_all_of_them_together_have_a_limit(desk: Desk) -> None:
    app = await desk.core.create("blog")
    large = b"x" * build_secrets.MAX_SECRET_BYTES
    for number in range(4):
        assert (await desk.give(f"builder:secrets:set blog A{number}", large)).status == 0
    refused = await desk.give("builder:secrets:set blog A5", large)
    assert refused.status == 1 and "together" in refused.err
    assert len((await options(desk, app.id)).secrets) == 4


async def test_events_and_rows_hold_no_value(desk: Desk) -> None:
    await desk.core.create("blog")
    await desk.give("builder:secrets:set blog KEY=canary")
    await desk.give("builder:secrets:set blog KEY=canary")
    events = await desk.database.read.outbox.events(limit=100)
    assert len([event for event in events if event.type == "property.changed"]) == 1
    assert not any(b"canary" in event.body for event in events)
    assert await desk.database.read.properties.of_app(SERVER) == {}
    assert "canary" not in msgspec.json.encode(await desk.database.read.properties.all()).decode()


async def test_of_config_a_build_gets_as_arguments_what_is_asked_for_by_name(desk: Desk) -> None:
    app = await desk.core.create("blog")
    await desk.give("config:set blog URL=https://blog HIDDEN=hush")
    await desk.give("docker-options:add blog build '--build-arg URL'")
    await desk.give("docker-options:add blog build '--build-arg LATER'")
    await desk.give("docker-options:add blog build '--build-arg FIXED=1'")
    assert (await options(desk, app.id)).build_args == {"URL": "https://blog", "FIXED": "1"}
    listed = await desk.give("docker-options:list blog build")
    assert listed.out == "--build-arg URL\n--build-arg LATER\n--build-arg FIXED=1\n"
    await desk.give("config:set blog URL=https://other LATER=now")
    assert (await options(desk, app.id)).build_args == {"URL": "https://other", "LATER": "now", "FIXED": "1"}
