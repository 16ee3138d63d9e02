"""The client and the commands against a running agent, with root's local key: nothing in between is a stand-in."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flow import apps
from tests.support.rig import Done, Rig, rig

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]


class Client:
    """The client as root on the server starts it."""

    def __init__(self, made: Rig, home: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PYTHONPATH": str(ROOT),
            "PUSHBOAT_DATA": str(made.data),
            "PUSHBOAT_PORT": str(made.ports[0]),
        }
        self._home = home

    async def __call__(self, *words: str, stdin: bytes = b"", app: str = "") -> Done:
        """Run it to its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *words,
            cwd=self._home,
            env={**self._environment, **({"PUSHBOAT_APP": app} if app else {})},
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
