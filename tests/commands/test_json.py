"""With ``--format json`` every command answers in JSON, and every refusal is one line of it."""

from __future__ import annotations

import re

import msgspec
import pytest

from agent.commands.catalogue import every_command
from tests.commands.desk import Desk

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7xHHQ+pxGFGUQMDXk2mqSwEjyWdYBzJu1yZ9dQDmJp"
DOCUMENTS = ("logs blog", "deploys:output blog")
"""What answers with an object a line."""
PASSES_ON = ("run", "enter")
"""What they print is the program's own."""

# In an order in which each has something to act on.
LINES = (
    "apps:create other",
    "apps:exists other",
    "apps:list",
    "apps:rename other another",
    "apps:report",
    "builder-dockerfile:set blog target web",
    "builder-dockerfile:report blog",
    "builder:set blog build-dir src",
    "builder:report blog",
    "checks:set blog wait-to-retire 9",
    "checks:report --global",
    "config:set blog A=1",
    "config:set --no-restart blog B=2",
    "config:set --global C=3",
    "config:get blog A",
    "config:show blog --merged",
    "config:keys blog",
    "config:export blog",
    "config:import blog",
    "config:unset blog A",
    "config:clear blog",
    "deploys blog",
    "deploys:show blog",
    "deploys:output blog",
    "deploys:cancel blog",
    "docker-options:add blog build '--build-arg A=1'",
    "docker-options:list blog",
    "docker-options:remove blog build '--build-arg A'",
    "doctor",
    "domains:add blog a.example.com",
    "domains:remove blog a.example.com",
    "domains:set blog b.example.com",
    "domains:clear blog",
    "domains:reset blog",
    "domains:add-global example.com",
    "domains:remove-global example.com",
    "domains:set-global example.org",
    "domains:clear-global",
    "domains:report",
    "events",
    "events:why 1",
    "git:set blog rev-env-var REV",
    "git:report blog",
    "git:from-image blog nginx:1",
    "help config:set",
    "logs blog",
    "proxy:set blog balance leastconn",
    "proxy:report blog",
    "ps:inspect blog",
    "ps:report blog",
    "ps:set blog stop-timeout-seconds 9",
    "ps:scale blog web=2",
    "ps:scale blog",
    "ps:restart blog",
    "ps:rebuild blog",
    "ps:stop blog",
    "ps:stop blog",
    "ps:start blog",
    "ps:start blog",
    "ps:restart --all",
    "releases blog",
    "releases:info blog",
    "releases:diff blog v1 v2",
    "releases:rollback blog v1",
    f"ssh-keys:add ada {KEY}",
    "ssh-keys:list",
    "ssh-keys:remove ada",
    "url blog",
    "urls blog",
    "version",
    "apps:destroy another --force",
)


def further_lines() -> list[str]:
    """Return the first example of each command that is not tried above."""
    tried = {line.split()[0] for line in LINES}
    entries = [entry for entry in every_command().entries() if entry.name not in tried and entry.name not in PASSES_ON]
    return [re.split(r" (?:<|>|&&) ", entry.command.examples[0])[0] for entry in entries]


async def test_every_command_answers_in_json(desk: Desk) -> None:
    await desk.deployed("blog")
    for line in (*further_lines(), *LINES):
        name, _, words = line.partition(" ")
        answer = await desk.meanwhile(f"{name} --format json {words}", b'{"D": "4"}')
        if answer.err:
            assert answer.out == "" and answer.err.count("\n") == 1, (line, answer)
            assert set(msgspec.json.decode(answer.err)) == {"error"}, line
        documents = answer.out.splitlines()
        assert len(documents) == 1 or line in DOCUMENTS or answer.err, (line, answer)
        for document in documents:
            msgspec.json.decode(document)


async def test_what_a_deploy_said_is_an_object_a_line_with_its_outcome_last(desk: Desk) -> None:
    await desk.deployed("blog")
    answer = await desk.give("deploys:output blog --format json")
    *said, outcome = [msgspec.json.decode(line) for line in answer.out.splitlines()]
    assert answer.status == 0 and said and all(set(line) == {"text"} for line in said)
    assert outcome["deploy"]["status"] == "live" and outcome["deploy"]["release"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "nope",
        "apps:report nope",
        "config:set blog",
        "config:set blog --nope",
        "apps:create Blog",
        "apps:destroy blog",
        "domains:add blog -- -x",
    ],
)
async def test_a_refusal_is_one_object_with_a_constant_code_and_what_to_do(desk: Desk, line: str) -> None:
    await desk.give("apps:create blog")
    answer = await desk.give(f"--format json {line}")
    assert answer.status in (1, 20)
    assert answer.out == "" or line.startswith("apps:destroy")
    error = msgspec.json.decode(answer.err.splitlines()[-1])["error"]
    assert set(error) == {"code", "message", "hint"} and "." in error["code"] and error["hint"]
