"""How deploys replace what runs, for real: what visitors get, how much runs meanwhile, and what never runs twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.flow import apps
from tests.support.rig import Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

COUNT = 3

WORKER = 'worker: trap "echo $GIT_REV ends; exit 0" TERM; echo $GIT_REV begins; while :; do sleep 0.1; done'


class Visits:
    """What visitors of an app get and how many containers it has, while something else goes on."""

    def __init__(self, boat: Rig, app: str) -> None:
        self._boat = boat
        self._app = app
        self._is_over = asyncio.Event()
        self.answers: set[tuple[int, str]] = set()
        self.most = 0

    async def __aenter__(self) -> Visits:
        self._work = [asyncio.create_task(work()) for work in (self._visit, self._visit, self._count)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_over.set()
        await asyncio.gather(*self._work)

    async def _visit(self) -> None:
        while not self._is_over.is_set():
            answer = await self._boat.http(f"{self._app}.localhost")
            self.answers.add((answer.status, answer.text))

    async def _count(self) -> None:
        while not self._is_over.is_set():
            self.most = max(self.most, len(await self._boat.replicas(self._app)))


async def test_a_rolling_deploy_drops_no_request_and_one_whose_batch_fails_is_taken_back(boat: Rig) -> None:
    app = boat.checkout("rolled", apps.page("one"))
    await boat.must("apps:create", "rolled")
    await boat.must("ps:scale", "rolled", f"web={COUNT}")
    assert (await boat.git_push(app)).status == 0

    app.write({"index.html": "version two\n"})
    async with Visits(boat, "rolled") as visits:
        pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert pushed.err.count("-----> Starting v2 (web=1)") == COUNT
    assert visits.answers == {(200, "version one\n"), (200, "version two\n")}
    assert visits.most == COUNT + 1

    # Only its last replica is not well.
    check = {"command": ["sh", "-c", f"test $DYNO != web.{COUNT}"], "attempts": 1, "wait": 0}
    app.write({"index.html": "version three\n", "app.json": json.dumps({"healthchecks": {"web": [check]}})})
    async with Visits(boat, "rolled") as visits:
        refused = await boat.git_push(app)
        assert refused.status == 1 and f"web.{COUNT} is not ready" in refused.err
        assert await boat.is_tidy("rolled")
        await boat.page("rolled.localhost", "version two")
    assert {status for status, _ in visits.answers} == {200}
    assert visits.most == COUNT + 1
    assert {(await boat.http("rolled.localhost")).text for _ in range(2 * COUNT)} == {"version two\n"}
    assert len(await boat.replicas("rolled")) == COUNT
    report = json.loads(await boat.must("ps:report", "rolled", "--format", "json"))
    assert report["computed-strategy.web"] == "rolling"


async def test_a_worker_whose_checks_are_disabled_never_runs_beside_its_successor(boat: Rig) -> None:
    manifest = json.dumps({"healthchecks": {"web": [{"path": "/index.html", "content": "version", "name": "page"}]}})
    web = "web: httpd -f -p $PORT -h /www"
    app = boat.checkout("alone", {**apps.with_procfile("one", web, WORKER), "app.json": manifest})
    assert (await boat.git_push(app)).status == 0
    assert (await boat.ssh("ps:scale", "alone", "worker=1")).status == 0
    first = (await app.git("rev-parse", "HEAD")).strip()
    assert (await boat.ssh("checks:disable", "alone", "worker")).status == 0
    app.write({"index.html": "version two\n"})
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert "Waiting for the old worker to end first" in pushed.err
    second = (await app.git("rev-parse", "HEAD")).strip()
    await boat.until_logged("alone", f"{second} begins")
    logged = await boat.must("logs", "alone", "-p", "worker", "-n", "100")
    assert logged.index(f"{first} ends") < logged.index(f"{second} begins")
    assert (await boat.http("alone.localhost")).text == "version two\n"
    ran = await boat.must("checks:run", "alone")
    assert "page: passed" in ran and "They are off for worker" in ran
    report = json.loads(await boat.must("checks:report", "alone", "--format", "json"))
    assert (report["disabled-list"], report["skipped-list"]) == ("worker", "none")
