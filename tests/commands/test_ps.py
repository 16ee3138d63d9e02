from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.state.apps import App
from agent.state.replicas import WANTED
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


async def two_webs_and_a_worker(desk: Desk) -> App:
    app, _ = await desk.deployed("blog")
    assert (await desk.meanwhile("ps:scale blog web=2 worker=1")).status == 0
    return app


async def wanted_of(desk: Desk, app: App) -> dict[str, set[str]]:
    """Return the ids of the replicas that are wanted, by process type."""
    ids: dict[str, set[str]] = {"web": set(), "worker": set()}
    for row in await desk.database.read.replicas.of_app(app.id):
        if row.state in WANTED:
            ids[row.process].add(row.id)
    return ids


@pytest.mark.slow
async def test_one_process_type_is_restarted_and_the_others_are_not(desk: Desk) -> None:
    app = await two_webs_and_a_worker(desk)
    before, since = await wanted_of(desk, app), len(desk.core.proxy.tables)
    answer = await desk.meanwhile("ps:restart blog web")
    assert (answer.status, answer.out) == (0, "-----> Restarting web of blog\n       All of them are ready.\n")
    await desk.core.settle()
    after = await wanted_of(desk, app)
    assert len(after["web"]) == 2 and not after["web"] & before["web"]
    assert after["worker"] == before["worker"]
    assert len(await desk.database.read.deploys.of_app(app.id)) == 1, "it is no deploy"
    assert {upstream.name for upstream in desk.core.proxy.upstreams(app.id)} == after["web"]
    assert all(len(table[app.id].upstreams) >= 2 for table in desk.core.proxy.tables[since:]), "the old ones served"
    answer = await desk.meanwhile("ps:restart blog worker --format json")
    assert answer.json() == {"app": "blog", "process_type": "worker", "quantity": 1}
    await desk.core.settle()
    assert (await wanted_of(desk, app))["worker"].isdisjoint(before["worker"])


@pytest.mark.slow
async def test_what_is_replaced_goes_on_while_the_new_ones_do_not_get_ready(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await two_webs_and_a_worker(desk)
    before = await wanted_of(desk, app)
    monkeypatch.setattr("agent.commands.scaling.START_SECONDS", 0.5)
    release = await desk.database.read.releases.get(app.id, 1)
    assert release is not None
    desk.core.scheduler.exits_at_start[release.image] = 3
    answer = await desk.meanwhile("ps:restart blog web")
    assert answer.status == Exit.FAILED and "Not all web processes of blog are ready." in answer.err
    assert {upstream.name for upstream in desk.core.proxy.upstreams(app.id)} == before["web"]
    assert "it exited with status 3" in answer.err
    assert (await desk.give("ps:report blog --running")).out == "mixed\n"
    desk.core.scheduler.exits_at_start.clear()
    await desk.core.settle()
    after = (await wanted_of(desk, app))["web"]
    assert len(after) == 2 and after.isdisjoint(before["web"])
    assert {upstream.name for upstream in desk.core.proxy.upstreams(app.id)} == after
    assert (await desk.give("ps:report blog --processes")).out == "3\n"


@pytest.mark.slow
async def test_a_process_type_that_runs_alone_ends_before_its_new_replicas_start(desk: Desk) -> None:
    app = await two_webs_and_a_worker(desk)
    assert (await desk.give("checks:disable blog worker")).status == 0
    (old,) = (await wanted_of(desk, app))["worker"]
    seen: list[int] = []
    start = desk.core.scheduler.converge

    async def look_and_start(*arguments: Any) -> Any:
        seen.append(sum(status.process == "worker" for status in desk.core.scheduler.running(app.id)))
        return await start(*arguments)

    desk.core.scheduler.converge = look_and_start  # type: ignore[method-assign]
    assert (await desk.meanwhile("ps:restart blog worker")).status == 0
    assert seen == [0], "nothing of it ran when the new one was started"
    assert old not in (await wanted_of(desk, app))["worker"]


async def test_a_restart_of_what_does_not_run_says_so(desk: Desk) -> None:
    await desk.deployed("blog")
    scaled = await desk.give("ps:restart blog worker")
    assert (scaled.status, scaled.out) == (0, " !     blog runs no worker: it is scaled to 0\n")
    unknown = await desk.give("ps:restart blog clock")
    assert unknown.status == Exit.FAILED and "Its release v1 has: web worker" in unknown.err
    everywhere = await desk.give("ps:restart --all web")
    assert everywhere.status == Exit.FAILED and "ps:restart <app> web" in everywhere.err
    assert (await desk.meanwhile("ps:stop blog")).status == 0
    stopped = await desk.give("ps:restart blog web")
    assert stopped.status == Exit.FAILED and "ps:start blog" in stopped.err
    await desk.give("apps:create empty")
    assert (await desk.give("ps:restart empty web")).out.startswith(" !     empty has not been deployed.")


async def test_rebuild_deploys_the_tip_of_the_deploy_branch(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.give("git:set blog deploy-branch main")
    assert (await desk.meanwhile("ps:rebuild blog")).status == 0
    assert (await desk.give("deploys blog --format json")).json()[0]["kind"] == "rebuild"


async def test_nothing_deployed_is_said(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for line in ("run blog ls", "enter blog", "releases:rollback blog"):
        answer = await desk.give(line)
        assert answer.status == Exit.FAILED, line
        assert answer.err.startswith(" !     "), line


async def test_what_is_done_to_every_app_is_no_failure_for_one_without_a_deploy(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for line in ("ps:restart blog", "ps:rebuild blog", "ps:stop blog", "ps:start blog"):
        answer = await desk.give(line)
        assert answer.status == 0, line
        assert answer.out == " !     blog has not been deployed. Deploy it with: git push pushboat main\n", line
    assert (await desk.give("ps:stop blog --format json")).json() == {"app": "blog", "deployed": False}
    assert (await desk.give("ps:report blog --restore")).out == "true\n", "the first deploy will run"


async def test_all_apps_at_once(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.deployed("shop")
    await desk.give("apps:create empty")
    answer = await desk.meanwhile("ps:restart --all")
    assert answer.status == 0
    assert answer.out.index("Restarting blog") < answer.out.index("empty has not been") < answer.out.index("ing shop")
    assert [fact["app"] for fact in (await desk.meanwhile("ps:stop --all --format json")).json()] == [
        "blog",
        "empty",
        "shop",
    ]


async def test_one_app_that_fails_does_not_keep_the_others_from_their_turn(desk: Desk) -> None:
    for name in ("blog", "shop"):
        await desk.deployed(name)
    app = await desk.database.read.apps.by_name("blog")
    assert app is not None
    async with desk.database.transaction() as tx:
        await tx.releases.forget_image(app.id, 1)
    answer = await desk.meanwhile("ps:restart --all")
    assert answer.status == Exit.FAILED and answer.err.startswith(" !     blog: The image of v1 is no longer kept.")
    assert "Restarting shop" in answer.out
    failed, done = (await desk.meanwhile("ps:restart --all --format json")).json()
    assert failed["error"]["code"] == "release.image-gone" and done["deploy"]["status"] == "live"


@pytest.mark.parametrize("count", ["2", "-1"])
async def test_several_apps_are_restarted_at_once_if_asked_for(desk: Desk, count: str) -> None:
    for name in ("blog", "shop"):
        await desk.deployed(name)
    answer = await desk.meanwhile(f"ps:restart --all --parallel {count}")
    assert answer.status == 0
    assert answer.out.index("Restarting shop") < answer.out.index("Application deployed"), "both before either is done"


@pytest.mark.parametrize("count", ["0", "x", "-2", "1.5"])
async def test_a_number_at_once_that_is_none_is_refused(desk: Desk, count: str) -> None:
    answer = await desk.give(f"ps:restart --all --parallel {count}")
    assert answer.status == Exit.FAILED and answer.err.startswith(" !     ")


async def test_a_stop_that_takes_longer_is_not_called_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.deployed("blog")
    monkeypatch.setattr("agent.commands.scaling.STOP_SECONDS", 0.01)
    desk.core.scheduler.is_down = True
    answer = await desk.give("ps:stop blog")
    assert "Docker does not answer" in answer.err and "is done once Docker answers" in answer.err
    assert "is still being stopped" in answer.out and "blog is stopped" not in answer.out


async def test_a_container_can_be_entered_by_its_id(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    (replica,) = await desk.database.read.replicas.of_app(app.id)
    assert replica.container is not None
    desk.core.scheduler.run_exit = 7
    assert (await desk.give(f"enter blog --container-id {replica.container} ls")).status == 7
    refused = await desk.give("enter blog --container-id nope")
    assert refused.status == Exit.FAILED and "(web.1)" in refused.err


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
    (warned,) = (await desk.give("ps:report --format json")).err.splitlines()
    assert warned.startswith('{"warning":{"code":"docker.unavailable","message":"Docker does not answer."')


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


async def test_a_strategy_is_set_for_the_server_an_app_or_a_process_type(desk: Desk) -> None:
    await desk.deployed("blog", {"Dockerfile": "FROM scratch\nEXPOSE 8080\n", "Procfile": "web: a\nworker: b\n"})

    async def holding(noun: str = "ps") -> tuple[str, str]:
        report = (await desk.give(f"{noun}:report blog --format json")).json()
        assert isinstance(report, dict)
        return report["computed-strategy.web"], report["computed-strategy.worker"]

    assert await holding() == ("rolling", "rolling")
    assert (await desk.give("ps:set --global strategy.worker stop-first")).status == 0
    assert await holding() == ("rolling", "stop-first")
    told = await desk.give("ps:set blog strategy all-at-once")
    assert told.out == "=====> Setting strategy to all-at-once\n"
    assert await holding() == ("all-at-once", "all-at-once"), "what the app says counts more than the server"
    assert (await desk.give("ps:set blog strategy.worker rolling")).status == 0
    assert await holding() == await holding("checks") == ("all-at-once", "rolling")
    assert (await desk.give("ps:report blog --ps-strategy.worker")).out == "rolling\n"
    assert (await desk.give("checks:disable blog worker")).status == 0
    assert await holding() == ("all-at-once", "stop-first")
    assert (await desk.give("checks:enable blog worker")).status == 0
    assert (await desk.give("ps:set blog strategy.worker")).status == 0
    assert await holding() == ("all-at-once", "all-at-once")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("strategy fast", "Give one of rolling, all-at-once, stop-first."),
        ("strategy.w/b rolling", "cannot be set with ps:set"),
        ("strategy. rolling", "cannot be set with ps:set"),
        ("stop-timeout-seconds.web 3", "cannot be set with ps:set"),
        ("stop-first worker", "What can be set: stop-timeout-seconds, strategy,"),
    ],
)
async def test_a_strategy_that_is_none_is_refused(desk: Desk, words: str, says: str) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give(f"ps:set blog {words}")
    assert answer.status == Exit.FAILED and says in answer.err
