"""With ``--format json`` every command answers in JSON, and every refusal is one line of it."""

from __future__ import annotations

import io
import re
import tarfile

import msgspec
import pytest

from agent.commands.catalogue import every_command
from agent.ports.images import ImageInfo
from agent.ports.remotes import HostKey
from agent.state.apps import App
from proto.wire import Exit
from tests.commands.desk import DOCKERFILE, Answer, Desk
from tests.logs.lines import line as log_line

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7xHHQ+pxGFGUQMDXk2mqSwEjyWdYBzJu1yZ9dQDmJp"
DOCUMENTS = ("logs blog", "deploys:output blog")
"""What answers with an object a line."""
PASSES_ON = ("run", "enter")
"""What they print is the program's own."""
CANCELS = "deploys:cancel"
"""A deploy has to be under way for it, in a test of its own."""
MAKES_APPS = ("apps:create",)
STDIN = {"git:load-image": b"blog:1.2", "registry:login": b"hush\n"}
"""What those get that read something else than JSON."""

# In an order in which each has something to act on, so that all of them succeed.
LINES = (
    "app-json:set blog appjson-path deploy/app.json",
    "app-json:set blog appjson-path",
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
    "domains:set blog blog.example.com",
    "url blog",
    "urls blog",
    "version",
    "apps:destroy another --force",
)


def further_lines() -> list[str]:
    """Return the first example of each command that is not tried above."""
    tried = {line.split()[0] for line in LINES}
    tried |= {*PASSES_ON, CANCELS}
    entries = [entry for entry in every_command().entries() if entry.name not in tried]
    return [re.split(r" (?:<|>|&&) ", entry.command.examples[0])[0] for entry in entries]


def world_of(desk: Desk, app: App) -> None:
    """Have what the examples name: elsewhere, in registries, at addresses."""
    core = desk.core
    page = io.BytesIO()
    with tarfile.open(fileobj=page, mode="w:gz") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(DOCKERFILE["Dockerfile"])
        archive.addfile(info, io.BytesIO(DOCKERFILE["Dockerfile"].encode()))
    core.downloads.pages["https://example.com/blog-1.2.tar.gz"] = page.getvalue()
    core.remotes.have("https://example.com/team/blog.git", "1" * 40, DOCKERFILE)
    core.remotes.keys["git.example.com"] = [HostKey(KEY, "SHA256:host")]
    core.registries.known.add(("ghcr.io", "ada", "hush"))
    core.images.registry["nginx:1"] = ImageInfo(id="sha256:nginx", ports=(80,))
    core.repos.put(app.id, "2" * 40, DOCKERFILE)
    core.world.logs.lines[app.id] += [log_line("listening", at=1), log_line("served", at=2)]


async def given(desk: Desk, line: str) -> Answer:
    """Give a line, asking for JSON."""
    name, _, words = line.partition(" ")
    return await desk.meanwhile(f"{name} --format json {words}", STDIN.get(name, b'{"D": "4"}'))


def must_be_json(line: str, answer: Answer) -> None:
    """Assert that a command that succeeded said JSON, and nothing else."""
    assert (answer.status, answer.err) == (0, ""), (line, answer)
    documents = answer.out.splitlines()
    assert len(documents) == 1 or (documents and line in DOCUMENTS), (line, answer)
    for document in documents:
        msgspec.json.decode(document)


def must_be_refusal(line: str, answer: Answer) -> None:
    """Assert that a command that was refused said why in one line of JSON, and nothing else."""
    assert answer.status != 0 and answer.out == "" and answer.err.count("\n") == 1, (line, answer)
    refusal = msgspec.json.decode(answer.err)
    assert set(refusal) == {"error"} and set(refusal["error"]) == {"code", "message", "hint"}, (line, answer)
    assert "." in refusal["error"]["code"] and refusal["error"]["message"], (line, answer)


async def test_every_command_that_succeeds_says_json_and_nothing_else(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    world_of(desk, app)
    assert (await desk.give("git:set blog deploy-branch main")).status == 0
    lines = (*further_lines(), *LINES)
    for line in lines:
        must_be_json(line, await given(desk, line))
    tried = {line.split()[0] for line in lines} | {*PASSES_ON, CANCELS}
    assert tried == {entry.name for entry in every_command().entries()}


async def test_a_cancelled_deploy_is_told_in_json(desk: Desk) -> None:
    app, _ = await desk.deployed("blog")
    desk.core.builder.gate.clear()
    await desk.core.push(app, {**DOCKERFILE, "Dockerfile": "FROM scratch\nEXPOSE 9090\n"})
    must_be_json(CANCELS, await desk.give(f"{CANCELS} blog --format json"))
    must_be_refusal(CANCELS, await desk.give(f"{CANCELS} blog --format json"))


async def test_every_command_refuses_what_it_does_not_take_in_json(desk: Desk) -> None:
    for entry in every_command().entries():
        must_be_refusal(entry.name, await given(desk, f"{entry.name} --no-such-flag"))


async def test_every_command_about_an_app_refuses_one_that_is_not_there_in_json(desk: Desk) -> None:
    tried = set()
    for entry in every_command().entries():
        for example in entry.command.examples:
            words = re.split(r" (?:<|>|&&) ", example)[0].split(" ")
            if "blog" not in words or entry.name in MAKES_APPS:
                continue
            line = " ".join(word if word != "blog" else "nosuch" for word in words)
            # A --format of its own, as config:export has one, takes the place of ours.
            answer = await (desk.give(line) if "--format" in words else given(desk, line))
            assert answer.status == Exit.NO_SUCH_APP == 20, (line, answer)
            if "--format" in words and "json" not in words:
                assert answer.err.startswith(" !     There is no app called nosuch.\n"), (line, answer)
            else:
                must_be_refusal(line, answer)
                assert msgspec.json.decode(answer.err)["error"]["code"] == "app.not-found", (line, answer)
            tried.add(entry.name)
    about_apps = {entry.name for entry in every_command().entries() if entry.signature.app}
    assert tried == about_apps - {*MAKES_APPS}


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
