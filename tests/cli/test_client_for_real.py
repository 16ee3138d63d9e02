"""The client and the commands against a running agent, with root's local key: nothing in between is a stand-in."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flow import apps
from tests.support.rig import Checkout, Done, Rig, rig
from tests.support.typist import typist

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "cli")
SSH = """#!/bin/sh
exec {ssh} -F {config} "$@"
"""
"""OpenSSH's own client with a configuration of the test's, as it takes none from $HOME but from the user's real one."""


class Client:
    """The client as root on the server starts it."""

    def __init__(self, made: Rig, home: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PYTHONPATH": str(ROOT),
            "PUSHBOAT_DATA": str(made.data),
            "PUSHBOAT_PORT": str(made.ports[0]),
        }
        self.home = home

    async def __call__(self, *words: str, stdin: bytes = b"", app: str = "", folder: Path | None = None) -> Done:
        """Run it to its end."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *words,
            cwd=folder or self.home,
            env={**self.environment, **({"PUSHBOAT_APP": app} if app else {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), 120)
        return Done(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def boat(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running agent."""
    async with rig(tmp_path / "boat") as made:
        yield made


async def test_an_app_is_run_from_the_clients_side(boat: Rig, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    pushboat = Client(boat, home)
    assert (await boat.git_push(boat.checkout("blog", apps.page("one")))).status == 0
    assert (await pushboat("apps:list", "--quiet")).out == "blog\n"

    changed = await pushboat("config:set", "A=b 'c'", "B=$(id)", app="blog")
    assert changed.status == 0, changed
    assert "=====> Application deployed:" in changed.out
    ran = await pushboat("run", "sh", "-c", 'echo "$A $B"; cat; exit 7', stdin=b"typed\n", app="blog")
    assert (ran.status, ran.out) == (7, "b 'c' $(id)\ntyped\n"), ran
    assert (await pushboat("enter", "blog", "web.1", "sh", "-c", "exit 3")).status == 3

    scaled = await pushboat("ps:scale", "web=2", app="blog")
    assert scaled.status == 0 and (await pushboat("ps:report", "--processes", app="blog")).out == "2\n"
    back = await pushboat("releases:rollback", "blog", "v1")
    assert back.status == 0 and "Config keys that go: A B" in back.out
    assert (await pushboat("ps:stop", "blog")).status == 0
    assert boat.containers() == []
    assert (await pushboat("ps:start", "blog")).status == 0

    assert (await pushboat("apps:destroy", "blog", stdin=b"bolg\n")).status == 1
    assert (await pushboat("apps:destroy", "blog", stdin=b"blog\n")).status == 0
    assert (await pushboat("apps:exists", "blog")).status == 20
    assert boat.containers() == []
    assert "Traceback" not in boat.log


async def test_a_second_command_goes_over_the_first_ones_connection(boat: Rig) -> None:
    # A socket's path is short (unix(7)), and those of test folders are not.
    with tempfile.TemporaryDirectory(prefix="pb") as home:
        pushboat = Client(boat, Path(home))
        assert (await pushboat("version")).status == 0
        (socket,) = Path(home).glob("pushboat-*")
        kept = socket.stat().st_ino
        assert (await pushboat("version")).status == 0
        assert socket.stat().st_ino == kept
        await boat.stop_agent()
        assert (await pushboat("version")).status == 255, "ssh itself says that nobody answers"


async def test_a_terminal_goes_through_to_the_program_and_back(boat: Rig, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    client = Client(boat, home)
    assert (await boat.git_push(boat.checkout("blog", apps.page("one")))).status == 0
    environment = {**client.environment, "PUSHBOAT_APP": "blog"}

    # Docker takes the size of a terminal only once the program runs.
    sized = 'until [ "$(stty size 2>/dev/null)" = "{0}" ]; do sleep 0.05; done; echo {0}'
    ask = f'{sized.format("37 101")}; echo "$TERM"; printf "who? "; read name; echo "hello $name"'
    run = (*COMMAND, "run", "sh", "-c", f"{ask}; {sized.format('30 90')}; exit 5")
    async with typist(*run, environment=environment, folder=home, size=(101, 37)) as ann:
        await ann.sees("37 101")
        await ann.sees("xterm-256color")
        await ann.sees("who? ")
        ann.type("ann\r")
        await ann.sees("hello ann")
        ann.resize(90, 30)
        await ann.sees("30 90")
        assert await ann.status() == 5

    wait = "trap 'echo caught; exit 6' INT; echo waiting; while :; do sleep 0.1; done"
    async with typist(*COMMAND, "enter", "blog", "web", "sh", "-c", wait, environment=environment, folder=home) as ann:
        await ann.sees("waiting")
        ann.type("\x03")
        await ann.sees("caught")
        assert await ann.status() == 6

    async with typist(*COMMAND, "logs", "-t", environment=environment, folder=home) as ann:
        await boat.must("run", "blog", "true")
        assert (await boat.docker("restart", "-t", "1", *await boat.replicas("blog"))).status == 0
        await ann.sees("\x1b[36m")
        await ann.sees("app[web.1]:\x1b[0m")
        ann.type("\x03")
        assert await ann.status() != 0

    async with typist(*COMMAND, "apps:destroy", environment=environment, folder=home) as ann:
        await ann.sees('To go on, type "blog".')
        ann.type("blog\r")
        assert await ann.status() == 0


async def test_a_folder_is_linked_pushed_and_asked_about(boat: Rig, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True, mode=0o700)
    ssh = home / "bin" / "ssh"
    ssh.write_text(SSH.format(ssh=shutil.which("ssh"), config=boat.boat.ssh_config))
    ssh.chmod(0o700)
    client = Client(boat, home)
    del client.environment["PUSHBOAT_DATA"], client.environment["PUSHBOAT_PORT"]
    client.environment |= {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "TZ": "Asia/Tokyo"}
    work = boat.checkout("Shop_1", apps.shell("echo at your service; exec httpd -f -p $PORT -h /www"))
    await work.commit()

    linked = await client("link", f"127.0.0.1:{boat.ports[0]}", folder=work.folder)
    assert linked.out.endswith("       Deploy with: git push pushboat main\n"), linked
    assert (await client("apps:create", folder=work.folder)).status == 0
    pushed = await _push(boat, work)
    assert pushed.status == 0, pushed.err
    assert (await client("urls", folder=work.folder)).out == f"http://shop-1.localhost:{boat.ports[1]}\n"
    await boat.until_logged("shop-1", "at your service")
    logged = await client("logs", folder=work.folder)
    assert "+09:00 app[web.1]: at your service\n" in logged.out, "in the zone of the one who reads"
    assert (await client("ps:report", "--running", folder=work.folder)).out == "true\n"
    assert (await client("config:set", "shop-1", "A=1", "--no-restart", folder=work.folder)).status == 0
    assert (await client("config:get", "A", folder=work.folder)).out == "1\n"


async def _push(boat: Rig, work: Checkout) -> Done:
    return await boat.run("git", "push", "pushboat", "main", folder=work.folder)


@pytest.mark.parametrize(
    ("shell", "start"),
    [
        (("bash", "--norc", "--noprofile", "-i"), "source ./completion"),
        (("zsh", "-f", "-i"), "autoload -Uz compinit; compinit -u -D; source ./completion"),
    ],
    ids=["bash", "zsh"],
)
async def test_a_shell_completes_commands_flags_and_apps(
    boat: Rig, tmp_path: Path, shell: tuple[str, ...], start: str
) -> None:
    client, environment = await _with_completion(boat, tmp_path, shell[0])
    async with typist(*shell, environment=environment, folder=client.home, size=(200, 24)) as ann:
        ann.type(f"{start}; echo rea''dy\r")
        await ann.sees("ready")
        ann.type("pushboat apps:ex\t")
        await ann.sees("pushboat apps:exists")
        ann.type("bl\t")
        await ann.sees("blog")
        ann.type("--qu\t")
        await ann.sees("--quiet")


async def test_fish_completes_commands_flags_and_apps(boat: Rig, tmp_path: Path) -> None:
    client, environment = await _with_completion(boat, tmp_path, "fish")
    for typed, found in (("apps:ex", "apps:exists"), ("logs bl", "blog"), ("config:set --no", "--no-restart")):
        line = f"source ./completion; complete -C 'pushboat {typed}'"
        asked = await asyncio.create_subprocess_exec(
            "fish", "-c", line, stdout=asyncio.subprocess.PIPE, env=environment, cwd=client.home
        )
        out, _ = await asyncio.wait_for(asked.communicate(), 60)
        assert out.decode() == f"{found}\n"


async def _with_completion(boat: Rig, folder: Path, shell: str) -> tuple[Client, dict[str, str]]:
    """Return a client with the shell's script in its home, and an environment in which `pushboat` starts it."""
    await boat.must("apps:create", "blog")
    home = folder / "home"
    (home / "bin").mkdir(parents=True, mode=0o700)
    client = Client(boat, home)
    program = home / "bin" / "pushboat"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o700)
    (home / "completion").write_text((await client("completion", shell)).out)
    return client, {**client.environment, "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
