from __future__ import annotations

import asyncio

import pytest

from proto.wire import Exit
from tests.commands.desk import Desk
from tests.fakes.session import FakeSession


async def test_scale_waits_until_the_wanted_replicas_are_ready(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    answer = await desk.meanwhile("ps:scale blog web=2 worker=1")
    assert answer.status == 0, answer
    ready = [row.label for row in await desk.database.read.replicas.of_app(app.id) if row.state == "ready"]
    assert sorted(ready) == ["web.1", "web.2", "worker.1"]
    assert (await desk.give("ps:scale blog")).out == (
        "-----> Scaling for blog\nproctype: qty\n--------: ---\nweb:      2\nworker:   1\n"
    )
    assert (await desk.give("ps:scale blog --format json")).json() == [
        {"process_type": "web", "quantity": 2},
        {"process_type": "worker", "quantity": 1},
    ]


async def test_scale_before_the_first_deploy_is_remembered(desk: Desk) -> None:
    await desk.give("apps:create blog")
    assert (await desk.give("ps:scale blog web=3")).status == 0
    assert (await desk.give("ps:scale blog --format json")).json() == [{"process_type": "web", "quantity": 3}]


async def test_scale_gives_up_with_a_reason_when_nothing_gets_ready(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.deployed("blog")
    monkeypatch.setattr("agent.commands.scaling.START_SECONDS", 0.05)
    answer = await desk.give("ps:scale blog web=2")
    assert answer.status == Exit.FAILED and "Not all processes of blog are ready" in answer.err


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("web", "does not say how many"),
        ("web=", "does not say how many"),
        ("web=-1", "is not a whole number"),
        ("web=101", "out of range"),
        ("web=1.5", "is not a whole number"),
        ("web=99999999999999999999999", "is not a whole number"),
        ("nope=1", "no process type nope"),
        ("'we b=1'", "is not a process type"),
    ],
)
async def test_a_wrong_scale_is_refused(desk: Desk, pair: str, says: str) -> None:
    await desk.deployed("blog")
    answer = await desk.give(f"ps:scale blog -- {pair}")
    assert answer.status == Exit.FAILED and says in answer.err


async def test_stop_and_start(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    assert (await desk.meanwhile("ps:stop blog")).status == 0
    assert await desk.database.read.replicas.of_app(app.id) == []
    assert (await desk.give("ps:report blog --running")).out == "false\n"
    assert "stopped already" in (await desk.give("ps:stop blog")).out
    assert (await desk.meanwhile("ps:start blog")).status == 0
    assert (await desk.give("ps:report blog --running")).out == "true\n"
    assert (await desk.give("ps:start blog")).status == 0


async def test_restart_replaces_every_replica(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    before = {row.id for row in await desk.database.read.replicas.of_app(app.id)}
    assert (await desk.meanwhile("ps:restart blog")).status == 0
    after = {row.id for row in await desk.database.read.replicas.of_app(app.id) if row.state == "ready"}
    assert after and not before & after


async def test_rebuild_deploys_the_tip_of_the_deploy_branch(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.give("git:set blog deploy-branch main")
    assert (await desk.meanwhile("ps:rebuild blog")).status == 0
    assert (await desk.give("deploys blog --format json")).json()[0]["kind"] == "rebuild"


async def test_nothing_deployed_is_said(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for line in ("ps:restart blog", "ps:rebuild blog", "run blog ls", "enter blog", "releases:rollback blog"):
        answer = await desk.give(line)
        assert answer.status == Exit.FAILED, line
        assert answer.err.startswith(" !     "), line
    assert (await desk.give("ps:start blog")).status == 0


async def test_all_apps_at_once(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.give("apps:create empty")
    answer = await desk.meanwhile("ps:restart --all")
    assert answer.status == Exit.FAILED and "empty: " in answer.err
    assert "Restarting blog" in answer.out


async def test_the_report_tells_each_replica(desk: Desk) -> None:
    await desk.deployed("blog")
    report = (await desk.give("ps:report blog --format json")).json()
    assert report["deployed"] == "true" and report["running"] == "true"
    assert report["status-web.1"].startswith("running (CID: ")
    assert report["computed-stop-timeout-seconds"] == "30"
    assert [block["app"] for block in (await desk.give("ps:report --format json")).json()] == ["blog"]


async def test_reports_answer_while_docker_does_not_and_say_so(desk: Desk) -> None:
    await desk.deployed("blog")
    assert (await desk.give("ps:report blog")).err == ""
    desk.core.scheduler.is_down = True
    for command in ("ps:report blog", "apps:list --format json"):
        answer = await desk.give(command)
        assert answer.status == 0 and "blog" in answer.out
        assert "Docker does not answer" in answer.err


async def test_run_passes_the_exit_status_on(desk: Desk) -> None:
    await desk.deployed("blog")
    desk.core.scheduler.run_exit = 42
    assert (await desk.give("run blog sh -c 'exit 42' --quiet")).status == 42
    assert (await desk.give("enter blog web.1 ls -la")).status == 42
    assert (await desk.give("enter blog nope")).status == Exit.FAILED


async def test_a_watcher_who_leaves_ends_nothing_but_the_watching(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    session = FakeSession()
    given = asyncio.ensure_future(desk.give_as("ps:restart blog", session))
    await session.printed("To stop it")
    session.left.set()
    assert (await given).status == 1
    await desk.core.settle()
    newest = await desk.database.read.deploys.newest(app.id)
    assert newest is not None and newest.status == "live"
