"""The front door of a whole Pushboat: hostile and clumsy input, each told in a sentence, and nothing half done."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.house import boat as house
from tests.flow import apps
from tests.support.rig import Done, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


def told(done: Done, said: str, *, status: int = 1) -> None:
    """Assert that a refusal is one clear sentence with a way out, and no more than a screen of it."""
    assert done.status == status, done
    assert said in done.err, done.err
    lines = done.err.splitlines()
    assert lines[0].startswith(" !     ") and len(lines) >= 2 and len(done.err) < 2_000
    assert "Traceback" not in done.err + done.out


async def names(boat: Rig) -> list[str]:
    listed: list[str] = json.loads(await boat.must("apps:list", "--format", "json"))
    return listed


async def test_200_kilobytes_of_arguments_are_taken_or_refused_with_a_sentence(boat: Rig) -> None:
    await boat.must("apps:create", "wide")
    values = {name: name * 100_000 for name in ("A", "B")}
    words = [f"{name}={value}" for name, value in values.items()]
    await boat.must("config:set", "wide", *words)
    for name, value in values.items():
        assert (await boat.must("config:get", "wide", name)) == f"{value}\n"
    told(await boat.ssh("apps:create", "x" * 100_000, "y" * 100_000), "cannot be the name of an app")
    told(await boat.ssh("apps:create", "x" * 100_000), "cannot be the name of an app")
    told(await boat.ssh("x" * 100_000, "y" * 100_000), "There is no command")
    told(await boat.ssh("config:set", "nobody", *words), "There is no app called nobody", status=20)
    told(await boat.ssh("git-receive-pack", "x" * 100_000, "y" * 100_000), "is not the name of an app")
    assert "x" * 200 not in boat.log and "A" * 200 not in boat.log


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x80", b"config:set wide \xc3\x28=1", b"git-receive-pack '\xff'"])
async def test_binary_garbage_is_told_to_be_no_text(boat: Rig, garbage: bytes) -> None:
    told(await boat.ssh(os.fsdecode(garbage)), "The command is not UTF-8 text")


async def test_a_megabyte_on_standard_input_is_taken_and_what_no_process_could_have_is_not(boat: Rig) -> None:
    await boat.must("apps:create", "tall")
    values = {f"KEY{number}": chr(97 + number) * 100_000 for number in range(10)}
    sent = "".join(f"{name}={value}\n" for name, value in values.items()).encode()
    assert len(sent) > 1_000_000
    await boat.must("config:import", "tall", stdin=sent)
    assert json.loads(await boat.must("config:export", "tall", "--format", "json")) == values
    told(await boat.ssh("config:import", "tall", stdin=b"BIG=" + b"x" * 1_000_000), "128 KiB")
    told(await boat.ssh("config:import", "tall", stdin=b"x" * (9 << 20)), "more than 8 MiB")
    told(await boat.ssh("config:import", "tall", stdin=b"\xff\x00" * 500_000), "not text in UTF-8")
    told(await boat.ssh("ssh-keys:add", "bob", stdin=b"y" * 1_000_000), "too long for a public key")
    told(await boat.ssh("ssh-keys:add", "bob", stdin=os.urandom(10_000)), "key")
    assert json.loads(await boat.must("config:export", "tall", "--format", "json")) == values


async def test_newlines_and_quotes_reach_the_apps_processes_as_they_were_set(boat: Rig) -> None:
    value = "a 'b' \"c\" = $HOME `id` $(id) \\ ; | & > < *\nsecond line\n\ttabbed\r \u20ac"
    app = boat.checkout("quotes", apps.page("one"))
    assert (await boat.git_push(app)).status == 0
    await boat.must("config:set", "quotes", shlex.quote(f"ODD={value}"))
    assert (await boat.ssh("config:get", "quotes", "ODD")).raw == f"{value}\n".encode()
    printed = await boat.ssh("run", "quotes", "--", "sh", "-c", shlex.quote('printf %s "$ODD"'))
    assert printed.raw == value.encode(), printed
    assert value.splitlines()[0] not in boat.log
    told(await boat.ssh("config:set", "quotes", "'K\nEY=x'"), "is not a config key")
    told(await boat.ssh("config:set", "quotes", "'ODD=unfinished"), "is not closed")


async def test_an_empty_repository_creates_nothing_and_an_empty_commit_says_so(boat: Rig) -> None:
    app = boat.checkout("hollow", {})
    await app.git("init", "-q", "-b", "main")
    for options in (("main",), ("--all",), ("--mirror",)):
        pushed = await app.run("git", "push", app.remote, *options)
        assert "Traceback" not in pushed.err
    assert "hollow" not in await names(boat)
    told(await app.run("git", "fetch", app.remote), "There is no app called hollow", status=128)
    await boat.must("apps:create", "vacant")
    cloned = await app.run("git", "clone", boat.boat.remote("vacant"), "vacant")
    assert cloned.status == 0 and "empty repository" in cloned.err
    await app.git("commit", "-q", "--allow-empty", "-m", "Nothing")
    pushed = await app.run("git", "push", app.remote, "main")
    assert pushed.status == 1 and "The commit holds no files" in pushed.err


HOSTILE_REFS = ["$(touch${IFS}/tmp/x)", "`id`", "a;b", "-x", "--exec=id", "a'b", 'a"b', "a|b", "a\u202eb"]


@pytest.mark.parametrize("name", HOSTILE_REFS)
async def test_a_hostile_branch_name_is_refused_and_no_app_made(boat: Rig, name: str) -> None:
    app = boat.checkout(f"refs-{HOSTILE_REFS.index(name)}", {"a": "b"})
    await app.commit()
    pushed = await app.run("git", "push", app.remote, f"main:refs/heads/{name}")
    assert pushed.status == 1 and "is not a name that Pushboat takes" in pushed.err
    assert app.app not in await names(boat)


PATHS = ["../../etc", "/etc/passwd", "a/../b", "-x", "--upload-pack=id", "blog'; id #", "$(id)", "%2e%2e", "a\nb", ""]


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_is_no_app_is_refused_for_pushes_and_fetches(boat: Rig, path: str) -> None:
    before = sorted(os.listdir(boat.data / "repos")) if (boat.data / "repos").exists() else []
    for service in ("git-receive-pack", "git-upload-pack", "git receive-pack"):
        told(await boat.ssh(f"{service} {shlex.quote(path)}"), "Use a URL like")
    after = sorted(os.listdir(boat.data / "repos")) if (boat.data / "repos").exists() else []
    assert after == before


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("apps:create", "--", "--force"), "app", 1),
        (("apps:create", "-x"), "There is no flag", 1),
        (("apps:list", "--upload-pack=id"), "There is no flag", 1),
        (("apps:report", "../x"), "There is no app called ../x", 20),
        (("logs", "--app=--help"), "There is no app called --help", 20),
        (("git:set", "odd", "deploy-branch", "'$(id)'"), "branch", 1),
        (("git:set", "odd", "deploy-branch", "--", "-x"), "branch", 1),
        (("domains:add", "odd", "--", "-x.example.com"), "-x.example.com", 1),
        (("git-upload-archive", "'odd'"), "makes no archives", 1),
        (("git-lfs-authenticate", "odd", "upload"), "does not store files of Git LFS", 1),
        (("aps:list",), "apps:list", 1),
    ],
)
async def test_names_that_look_like_options_are_names(boat: Rig, words: Sequence[str], said: str, status: int) -> None:
    if "odd" not in await names(boat):
        await boat.must("apps:create", "odd")
    told(await boat.ssh(*words), said, status=status)


async def test_nothing_but_commands_and_git_is_served(boat: Rig, tmp_path: Path) -> None:
    config, target = str(boat.boat.ssh_config), tmp_path / "copied"
    for command in (
        ("sftp", "-F", config, "pushboat:/etc/passwd", str(target)),
        ("scp", "-F", config, "pushboat:/etc/passwd", str(target)),
        ("scp", "-O", "-F", config, "pushboat:/etc/passwd", str(target)),
        ("scp", "-F", config, __file__, "pushboat:/tmp/copied"),
        ("ssh", "-F", config, "-W", f"127.0.0.1:{boat.ports[1]}", "pushboat"),
        ("ssh", "-F", config, "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "pushboat", "version"),
        ("ssh", "-F", config, "-s", "pushboat", "netconf"),
    ):
        done = await boat.run(*command)
        assert done.status != 0 and "Traceback" not in done.err, command
    assert not target.exists() and not Path("/tmp/copied").exists()


async def test_neither_forwarded_agents_nor_variables_reach_anything(boat: Rig, tmp_path: Path) -> None:
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(tmp_path / "agent"))
    agent.listen()
    agent.setblocking(False)
    environment = {
        "SSH_AUTH_SOCK": str(tmp_path / "agent"),
        "LD_PRELOAD": "/tmp/x.so",
        "GIT_DIR": "/etc",
        "GIT_PROTOCOL": "version=2; id",
        "PUSHBOAT_DATA_FOLDER": "/etc",
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    sent = ["-o", f"SendEnv={' '.join(environment)}", "-o", "IdentityAgent=none"]
    ssh = ["env", *words, "ssh", "-A", "-F", str(boat.boat.ssh_config), *sent, "pushboat"]
    done = await boat.run(*ssh, "version")
    assert done.status == 0 and done.out.startswith("pushboat ")
    await boat.must("apps:create", "variables")
    git = await boat.run(*ssh, "git-upload-pack 'variables'", stdin=b"0000")
    assert (git.status, git.out) == (0, "0000"), "nothing was ever pushed"
    with pytest.raises(BlockingIOError):
        agent.accept()
    agent.close()


async def test_what_is_pushed_never_becomes_a_file_and_what_is_not_fetched_is_said(boat: Rig) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    files = {".gitattributes": "*.big filter=lfs\nkept.txt export-ignore\n", "film.big": pointer, "kept.txt": "kept"}
    app = boat.checkout("whole", {**apps.page("one", more="RUN cat /www/kept.txt\n"), **files})
    await app.git("init", "-q", "-b", "main")
    await app.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib")
    await app.git("-c", "filter.lfs.process=", "-c", "filter.lfs.clean=cat", "add", "--all", "--", ":!vendor")
    await app.git("commit", "-q", "-m", "All")
    pushed = await app.run("git", "push", app.remote, "main")
    assert pushed.status == 0, pushed.err
    assert "Submodules are not fetched: vendor/lib will be missing" in pushed.err
    assert "only the pointers of film.big" in pushed.err
    assert (await boat.http("whole.localhost", "/kept.txt")).text == "kept"
    found = [path for path in boat.data.rglob("*") if path.name in ("kept.txt", "film.big", "index.html", "Dockerfile")]
    assert found == []


async def test_a_key_is_not_added_behind_a_running_agents_back(boat: Rig) -> None:
    settings = boat.boat.write_settings()
    public = boat.boat.key.with_suffix(".pub").read_bytes()
    agent = (sys.executable, "-m", "agent", "--config", str(settings), "ssh-keys:add", "late")
    refused = await boat.run("env", f"PYTHONPATH={house.ROOT}", *agent, stdin=public)
    assert refused.status == 1 and "The agent runs, and only it may write" in refused.err, refused
    assert "pushboat ssh-keys:add late" in refused.err


async def test_removing_a_key_ends_what_it_has_open_and_lets_nobody_in(boat: Rig, tmp_path: Path) -> None:
    key = tmp_path / "bob"
    house.make_key(key, comment="bob")
    await boat.must("ssh-keys:add", "bob", stdin=key.with_suffix(".pub").read_bytes())
    watching = await boat.spawn(*boat.boat.ssh_command(["events", "-t"], key))
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(30):
            # An event after the watcher has come: it may take some to be seen by it.
            seen = asyncio.ensure_future(watching.stdout.readline())
            number = 0
            while not seen.done():
                await boat.must("apps:create", f"seen-{number}")
                number += 1
            assert await seen
            await boat.must("ssh-keys:remove", "bob")
            assert await watching.wait() != 0
    finally:
        if watching.returncode is None:
            watching.kill()
            await watching.wait()
    alone = ("-F", "none", "-i", str(key), *("-o", "IdentitiesOnly=yes"), *("-o", "IdentityAgent=none"))
    known = ("-o", f"UserKnownHostsFile={boat.boat.known_hosts}", "-p", str(boat.ports[0]))
    refused = await boat.run("ssh", *alone, *known, "127.0.0.1", "version")
    assert refused.status == 255 and "Permission denied" in refused.err


async def test_all_that_left_no_traceback_in_the_agents_log(boat: Rig) -> None:
    """The last of this module: it looks back on the others."""
    assert "Traceback" not in boat.log
    assert "command.failed" not in boat.log and "ssh.session-failed" not in boat.log
