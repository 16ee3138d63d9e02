"""Which checks are off, and running them by hand."""

from __future__ import annotations

import json

from agent.ports.scheduler import ReplicaStatus
from tests.commands.desk import Desk

CHECKED = {
    "Dockerfile": "FROM scratch\nEXPOSE 8080\n",
    "Procfile": "web: serve\nworker: work\n",
    "app.json": json.dumps({"healthchecks": {"web": [{"path": "/up", "name": "front page", "attempts": 1}]}}),
}


async def test_types_move_between_the_lists(desk: Desk) -> None:
    await desk.deployed()

    async def lists() -> tuple[str, str]:
        report = (await desk.give("checks:report blog --format json")).json()
        assert isinstance(report, dict)
        return report["disabled-list"], report["skipped-list"]

    assert await lists() == ("none", "none")
    told = await desk.give("checks:disable blog worker,cron")
    assert told.out == "-----> Disabling the checks of process types worker, cron of blog\n"
    assert await lists() == ("cron,worker", "none")
    assert (await desk.give("checks:skip blog cron")).status == 0
    assert await lists() == ("worker", "cron")
    assert (await desk.give("checks:enable blog worker")).status == 0
    assert await lists() == ("none", "cron")
    told = await desk.give("checks:disable blog --format json")
    assert told.json() == {"disabled": ["_all_"], "skipped": []}
    refused = await desk.give("checks:enable blog web")
    assert refused.status == 1 and "together" in refused.err
    assert (await desk.give("checks:enable blog")).status == 0
    assert await lists() == ("none", "none")
    assert (await desk.give("checks:report blog --checks-disabled-list")).out == "none\n"
    refused = await desk.give("checks:skip blog w.b")
    assert refused.status == 1


async def test_checks_are_run_against_what_runs(desk: Desk) -> None:
    await desk.deployed(files=CHECKED)
    told = await desk.give("checks:run blog")
    assert (told.status, told.out) == (0, "-----> Running checks for blog (web.1)\n       front page: passed\n")

    async def unwell(check: object, status: ReplicaStatus, *, port: int, host: str) -> str | None:
        return "It answers 500."

    desk.core.prober.probe = unwell  # type: ignore[method-assign,assignment]
    told = await desk.give("checks:run blog web.1")
    assert told.status == 1 and " !     front page: It answers 500." in told.out
    told = await desk.give("checks:run blog --format json")
    assert told.status == 1
    assert told.json() == {
        "checks": [
            {
                "process": "web.1",
                "check": "front page",
                "passed": False,
                "reason": "It answers 500.",
                "is_warning": False,
            }
        ]
    }
    refused = await desk.give("checks:run blog web.5")
    assert refused.status == 1 and "web.5" in refused.err and "These run: web.1" in refused.err
    assert (await desk.give("checks:skip blog web")).status == 0
    told = await desk.give("checks:run blog")
    assert told.status == 0 and "They are off for web" in told.out
