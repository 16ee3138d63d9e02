"""Checks that are off, and run by hand, for real."""

from __future__ import annotations

import json

import pytest

from tests.flow import apps
from tests.support.rig import Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

WORKER = 'worker: trap "echo $GIT_REV ends; exit 0" TERM; echo $GIT_REV begins; while :; do sleep 0.1; done'


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
