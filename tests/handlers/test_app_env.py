"""Config that an app.json wants: taken at the first deploy, kept from then on, unless it says sync."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.lifecycle import config
from agent.state.apps import App
from agent.state.deploys import Deploy
from proto.names import SERVER
from tests.fakes.core import Core, core


@pytest.fixture
async def blog(tmp_path: Path) -> AsyncIterator[Core]:
    async with core(tmp_path) as c:
        yield c


async def pushed(c: Core, app: App, env: dict[str, object], *, commit: str = "c") -> Deploy:
    files = {"Dockerfile": f"FROM scratch\nLABEL of={commit}\n", "app.json": json.dumps({"env": env})}
    deploy = await c.push(app, files, commit=commit * 40)
    await c.settle()
    return await c.deploy(deploy)


async def released(c: Core, app: App) -> dict[str, str]:
    """Return the config of the newest release."""
    (newest, *_) = await c.database.read.releases.of_app(app.id)
    return await c.database.read.configs.get(app.id, release=newest.version)


async def test_the_first_release_takes_defaults_and_secrets_and_keeps_what_was_set(blog: Core) -> None:
    app = await blog.create()
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "blue"})
    env = {"COLOUR": "green", "SIZE": {"value": "9"}, "KEY": {"generator": "secret"}, "MAYBE": {"required": False}}
    deploy = await pushed(blog, app, env)
    assert deploy.status == "live"
    taken = await released(blog, app)
    secret = taken.pop("KEY")
    assert taken == {"COLOUR": "blue", "SIZE": "9"}
    assert len(bytes.fromhex(secret)) == 32
    assert (await blog.database.read.configs.get(app.id))["KEY"] == secret
    told = blog.transcripts.lines[deploy.id]
    assert "-----> Config from app.json: KEY SIZE" in told
    assert all(secret not in line for line in told)
    stored = await blog.database.read.outbox.events(app.id, limit=100)
    assert all(secret.encode() not in event.body for event in stored)


async def test_later_deploys_take_nothing_but_what_is_synced(blog: Core) -> None:
    app = await blog.create()
    env: dict[str, object] = {"COLOUR": "green", "KEY": {"generator": "secret", "sync": True}}
    await pushed(blog, app, env)
    first = await released(blog, app)
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"COLOUR": "red", "SIZE": "1"})
    env |= {"COLOUR": "blue", "SIZE": {"value": "2", "sync": True}, "NEW": "3", "WANTED": {}}
    assert (await pushed(blog, app, env, commit="d")).status == "live"
    assert await released(blog, app) == {"COLOUR": "red", "SIZE": "2", "KEY": first["KEY"]}


async def test_a_second_try_of_the_first_deploy_makes_no_second_secret(blog: Core) -> None:
    app = await blog.create()
    blog.proxy.refused[app.id] = "it has a strange domain"
    env: dict[str, object] = {"KEY": {"generator": "secret"}}
    assert (await pushed(blog, app, env)).status == "failed"
    first = await released(blog, app)
    blog.proxy.refused.clear()
    assert (await pushed(blog, app, env, commit="d")).status == "live"
    assert await released(blog, app) == first


async def test_what_is_required_and_has_no_value_fails_the_deploy_before_it_is_built(blog: Core) -> None:
    app = await blog.create()
    env: dict[str, object] = {"TOKEN": {"description": "of the post office"}, "REGION": {}}
    deploy = await pushed(blog, app, env)
    assert (deploy.status, deploy.stage) == ("failed", "source")
    assert deploy.reason == (
        "app.json requires config that has no value: TOKEN (of the post office), REGION. "
        "Set it and push again: config:set blog TOKEN=… REGION=…"
    )
    assert blog.builder.builds == 0
    async with blog.database.transaction() as tx:
        await config.set_values(tx, app=app.id, values={"TOKEN": "t"})
        await config.set_values(tx, app=SERVER, values={"REGION": "north"})
    assert (await pushed(blog, app, env)).status == "live"
