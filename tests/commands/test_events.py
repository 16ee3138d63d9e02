from __future__ import annotations

import asyncio

import msgspec

from tests.commands.desk import Desk
from tests.fakes.session import FakeSession


async def test_events_are_listed_and_lead_back_to_their_cause(desk: Desk) -> None:
    await desk.deployed("blog")
    events = (await desk.give("events --app blog --format json")).json()
    types = [event["type"] for event in events]
    assert types[0] == "app.created" and "deploy.live" in types
    live = next(event for event in events if event["type"] == "deploy.live")
    assert live["app"] == "blog" and live["facts"]["release"] == 1
    chain = (await desk.give(f"events:why {live['id']} --format json")).json()
    assert chain[0]["id"] == live["id"] and len(chain) > 1
    assert "There is no event 99999" in (await desk.give("events:why 99999")).err


async def test_events_are_followed_as_they_happen(desk: Desk) -> None:
    session = FakeSession()
    given = asyncio.ensure_future(desk.give_as("events -t -n 0 --format json", session))
    await asyncio.sleep(0)
    await desk.give("apps:create blog")
    await session.printed("app.created")
    session.left.set()
    assert (await given).status == 1
    assert msgspec.json.decode(session.out.splitlines()[0])["app"] == "blog"


async def test_properties_are_set_reported_and_unset(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert (await desk.give("git:set blog deploy-branch main")).out == "=====> Setting deploy-branch to main\n"
    app = await desk.database.read.apps.by_name("blog")
    assert app is not None and desk.core.repos.heads[app.id] == "main"
    assert (await desk.give("git:report blog --git-deploy-branch")).out == "main\n"
    assert (await desk.give("git:set blog deploy-branch")).out == "=====> Unsetting deploy-branch\n"
    await desk.give("checks:set --global wait-to-retire 90")
    report = (await desk.give("checks:report blog --format json")).json()
    assert report == {
        "wait-to-retire": "",
        "global-wait-to-retire": "90",
        "computed-wait-to-retire": "90",
        "disabled-list": "none",
        "skipped-list": "none",
    }
    await desk.give("git:set blog rev-env-var ''")
    assert await desk.database.read.properties.get(app.id, "git.rev-env-var") == ""


async def test_wrong_properties_are_refused(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for line, says in (
        ("git:set blog nope 1", "What can be set: deploy-branch, keep-git-dir, rev-env-var"),
        ("git:set blog deploy-branch -x", "There is no flag"),
        ("git:set blog deploy-branch -- -x", "is no value for deploy-branch"),
        ("git:set blog deploy-branch 'a..b'", "is no value for deploy-branch"),
        ("proxy:set blog balance random", "roundrobin or leastconn"),
        ("checks:set blog wait-to-retire 0", "seconds from 1 to 3600"),
        ("checks:set blog wait-to-retire 999999999999", "seconds from 1 to 3600"),
        ("builder:set blog build-dir ../x", "a path inside the repository"),
        ("builder:set blog build-dir /etc", "a path inside the repository"),
    ):
        answer = await desk.give(line)
        assert answer.status == 1 and says in answer.err, (line, answer)


async def test_build_arguments_are_docker_options(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert (await desk.give("docker-options:add blog build '--build-arg NODE=22'")).status == 0
    assert (await desk.give("docker-options:add blog build --build-arg=OS=x")).status == 0
    assert (await desk.give("docker-options:list blog")).out == "--build-arg NODE=22\n--build-arg OS=x\n"
    await desk.give("docker-options:remove blog build '--build-arg OS'")
    app = await desk.database.read.apps.by_name("blog")
    assert app is not None
    assert await desk.database.read.properties.get(app.id, "builder-dockerfile.build-args") == '{"NODE":"22"}'
    for bad in ("--privileged", "'-v /:/host'", "'--build-arg 1X=2'", "'--build-arg K'"):
        assert (await desk.give(f"docker-options:add blog build -- {bad}")).status == 1, bad
