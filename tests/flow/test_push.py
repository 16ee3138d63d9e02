"""Pushing, seen by the one who pushes and by those who visit: real git, ssh, BuildKit, Docker and HAProxy."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import pytest

from tests.flow import apps
from tests.support.docker import token
from tests.support.rig import Checkout, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


async def test_a_push_creates_the_app_builds_it_and_it_answers_on_its_domain(boat: Rig) -> None:
    app = boat.checkout("first", apps.page("one"))
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    assert "-----> Building first" in pushed.err
    assert "=====> Application deployed:" in pushed.err
    assert f"http://first.localhost:{boat.ports[1]}" in pushed.err
    assert "remote:" not in pushed.err
    assert (await boat.http("first.localhost")).text == "version one\n"


async def test_a_change_goes_live_and_the_same_again_is_up_to_date(boat: Rig) -> None:
    app = boat.checkout("second", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write({"index.html": "version two\n"})
    assert (await boat.git_push(app)).status == 0
    assert (await boat.http("second.localhost")).text == "version two\n"
    again = await boat.git_push(app)
    assert again.status == 0
    assert "Everything up-to-date" in again.err
    assert len(json.loads(await boat.must("releases", "second", "--format", "json"))) == 2


async def test_a_failed_build_says_why_and_the_old_release_serves_on(boat: Rig) -> None:
    app = boat.checkout("builds", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.page("two", more="RUN echo the reason is here && exit 7\n"))
    pushed = await boat.git_push(app)
    assert pushed.status == 1
    assert "the reason is here" in pushed.err
    assert "7" in pushed.err
    assert (await boat.http("builds.localhost")).text == "version one\n"
    # The same commit again: git has nothing to send, and the failed deploy is tried again.
    again = await boat.git_push(app)
    assert again.status == 1
    assert "the reason is here" in again.err


async def test_a_replica_that_exits_fails_the_deploy_with_its_last_lines(boat: Rig) -> None:
    app = boat.checkout("exits", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write(apps.shell("echo cannot find my database; exit 3"))
    pushed = await boat.git_push(app)
    assert pushed.status == 1
    assert "cannot find my database" in pushed.err
    assert "status 3" in pushed.err
    assert (await boat.http("exits.localhost")).text == "version one\n"


async def test_a_check_that_fails_keeps_the_old_release(boat: Rig) -> None:
    app = boat.checkout("checked", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    check = {"name": "page", "type": "startup", "path": "/missing", "attempts": 2, "wait": 0.1, "timeout": 1}
    app.write({"app.json": json.dumps({"healthchecks": {"web": [check]}}), "index.html": "version two\n"})
    pushed = await boat.git_push(app)
    assert pushed.status == 1
    assert "404" in pushed.err
    assert (await boat.http("checked.localhost")).text == "version one\n"


async def test_two_pushes_at_once_leave_one_of_them_live(boat: Rig) -> None:
    app = boat.checkout("both", apps.page("zero"))
    assert (await boat.git_push(app)).status == 0
    other = boat.folder_clone(app, "other")
    app.write({"index.html": "version one\n"})
    other.write({"index.html": "version two\n"})
    first, second = await asyncio.gather(boat.git_push(app, "--force"), boat.git_push(other, "--force"))
    assert 0 in (first.status, second.status)
    # What the branch is, what was deployed last and what is served is one of the two, whole.
    tip = (await app.git("ls-remote", boat.boat.remote("both"), "refs/heads/main")).split()[0]
    newest, older, _ = json.loads(await boat.must("deploys", "both", "--format", "json"))
    assert (newest["commit"], newest["status"]) == (tip, "live")
    assert older["status"] in ("superseded", "live")
    served = (await boat.http("both.localhost")).text
    assert served == await (app if tip == await head(app) else other).git("show", f"{tip}:index.html")
    assert served in ("version one\n", "version two\n")


async def head(checkout: Checkout) -> str:
    return (await checkout.git("rev-parse", "HEAD")).strip()


async def test_a_newer_push_supersedes_one_that_still_builds(boat: Rig) -> None:
    app = boat.checkout("newer", apps.page("one", more="RUN sleep 60\n"))
    slow = asyncio.create_task(boat.git_push(app))
    await boat.until_deploy("newer", "building")
    app.write(apps.page("two"))
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    older = await slow
    assert older.status == 1
    assert "supersede" in older.err.lower() or "newer" in older.err.lower()
    assert (await boat.http("newer.localhost")).text == "version two\n"


async def test_a_cancelled_build_ends_and_the_pusher_hears_it(boat: Rig) -> None:
    app = boat.checkout("cancels", apps.page("one", more="RUN sleep 61\n"))
    slow = asyncio.create_task(boat.git_push(app))
    await boat.until_deploy("cancels", "building")
    await boat.must("deploys:cancel", "cancels")
    pushed = await slow
    assert pushed.status == 1
    assert "cancel" in pushed.err.lower()


async def test_other_branches_are_accepted_and_deploy_nothing(boat: Rig) -> None:
    app = boat.checkout("branches", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    app.write({"index.html": "version two\n"})
    await app.commit()
    await app.git("branch", "topic")
    pushed = await boat.run("git", "push", boat.boat.remote("branches"), "topic", folder=app.folder)
    assert pushed.status == 0
    assert "git:set branches deploy-branch topic" in pushed.err
    assert (await boat.http("branches.localhost")).text == "version one\n"
    deleted = await boat.run("git", "push", boat.boat.remote("branches"), ":main", folder=app.folder)
    assert deleted.status != 0


async def test_what_was_pushed_can_be_cloned(boat: Rig) -> None:
    app = boat.checkout("clones", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    cloned = await boat.run("git", "clone", boat.boat.remote("clones"), "copy", folder=app.folder.parent)
    assert cloned.status == 0, cloned.err
    assert (app.folder.parent / "copy" / "index.html").read_text() == "version one\n"


async def test_ctrl_c_ends_the_watching_and_not_the_deploy(boat: Rig) -> None:
    app = boat.checkout("leaves", apps.page("one", more="RUN sleep 2\n"))
    await app.commit()
    process = await boat.spawn("git", "push", boat.boat.remote("leaves"), "main", folder=app.folder)
    await boat.until_deploy("leaves", "building")
    process.send_signal(signal.SIGINT)
    told = (await process.communicate())[1].decode()
    (deploy,) = json.loads(await boat.must("deploys", "leaves", "--format", "json"))
    assert "it goes on if you leave (Ctrl-C)" in told
    assert f"Watch it again: deploys:output leaves {deploy['id']}" in told
    assert f"Cancel it: deploys:cancel leaves {deploy['id']}" in told
    watched = await boat.ssh("deploys:output", "leaves", deploy["id"])
    assert watched.status == 0 and "=====> Application deployed:" in watched.out
    assert (await boat.page("leaves.localhost", "version one")).status == 200


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"README": "nothing to build"}, "Dockerfile"),
        ({**apps.page("one"), "Procfile": "web ./server\n"}, "Line 1"),
        ({**apps.page("one"), "app.json": '{\n  "healthchecks": '}, "Line 2 of app.json"),
        ({"Dockerfile": "FROM registry.invalid/nobody/nothing:1\n"}, "registry.invalid"),
    ],
)
async def test_a_source_that_cannot_be_built_is_told_why(boat: Rig, files: dict[str, str], wanted: str) -> None:
    app = boat.checkout(f"bad-{abs(hash(wanted)) % 10_000}", files)
    pushed = await boat.git_push(app)
    assert pushed.status == 1
    assert wanted in pushed.err
    assert "Traceback" not in pushed.err


ESCAPES = "\x1b]0;title\x07\x1b[2J\x1b[8mhidden\x1b]52;c;cm0=\x1b\\\x9b31m\u202eegnahc"
"""Sets the title, clears, hides, fills the clipboard, C1, and turns the order of what is read."""
ECHOED = ESCAPES.encode().decode("latin-1").translate({n: f"\\{n:03o}" for n in (*range(32), *range(127, 256), 92)})
"""The same as printf has it."""
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


async def test_no_escape_of_an_app_its_build_or_its_commits_reaches_a_terminal(boat: Rig) -> None:
    say = f"printf 'said {ECHOED}\\n'"
    files = apps.shell(f"{say}; exec httpd -f -p $PORT -h /www", more=f"RUN {say} # {token()}\n")
    app = boat.checkout("escapes", files)
    await app.commit(f"Subject {ESCAPES}")
    pushed = await boat.git_push(app)
    assert pushed.status == 0, pushed.err
    app.write({"Dockerfile": f"{files['Dockerfile']}RUN {say} >&2; {say}; exit 3\n"})
    await app.commit(f"Broken {ESCAPES}")
    failed = await boat.git_push(app)
    assert failed.status == 1
    await boat.until_logged("escapes", "said")
    ssh, *rest = boat.boat.ssh_command(())
    heard = {"push": pushed.out + pushed.err, "failed push": failed.out + failed.err}
    for words in (
        *(("logs", "escapes"), ("deploys", "escapes"), ("deploys:show", "escapes"), ("deploys:output", "escapes")),
        *(("releases", "escapes"), ("releases:info", "escapes"), ("events", "escapes"), ("git:status", "escapes")),
        *(("run", "escapes", "true"), (f"'apps:rename {ESCAPES}' x",), ("apps:create", f"'{ESCAPES}'")),
        *(("logs", "escapes", "--format", "json"), ("deploys:show", "escapes", "--format", "json")),
    ):
        for options in ((), ("-tt",)):
            done = await boat.run(ssh, *options, *rest, *words)
            heard[" ".join((*options, words[0], *words[2:]))] = done.out + done.err
    shown = {name: COLOUR.sub("", text.replace("\r\n", "\n")) for name, text in heard.items()}
    assert {name: found[0] for name, text in shown.items() if (found := ACTS.search(text))} == {}
    assert "said hidden" in shown["logs"] and "said hidden" in shown["push"] and "said hidden" in shown["failed push"]
    assert "Broken hidden" in shown["git:status"]
