"""Starts that are refused: each with a status that stops a restart storm and a line that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.house.addresses import LOOPBACK, free_port
from tests.flow import apps
from tests.support.rig import Rig

pytestmark = pytest.mark.real


def run_agent(folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run an agent that is expected to end by itself."""
    defaults = {"DATA_FOLDER": folder, "SSH_HOST": LOOPBACK, "SSH_PORT": free_port(), "HTTP_IS_SUPERVISED": "true"}
    values = {**defaults, "HTTP_BINDS": f"{LOOPBACK}:{free_port()}", **settings}
    return subprocess.run(
        [sys.executable, "-m", "agent", "run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], **{f"PUSHBOAT_{name}": str(value) for name, value in values.items()}},
    )


@contextmanager
def taken_port() -> Iterator[int]:
    """Hold a port."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_taken_http_port_is_told_with_who_has_it(short_folder: Path) -> None:
    with taken_port() as port:
        refused = run_agent(short_folder / "data", HTTP_BINDS=f"{LOOPBACK}:{port}")
    assert refused.returncode == 78
    assert str(port) in refused.stderr and str(os.getpid()) in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


async def test_a_taken_ssh_port_is_told(lone_boat: Rig) -> None:
    with taken_port() as port:
        await lone_boat.stop_agent()
        http = f"{LOOPBACK}:{lone_boat.ports[1]}"
        refused = await asyncio.to_thread(run_agent, lone_boat.data, SSH_PORT=port, HTTP_BINDS=http)
    assert refused.returncode == 78
    assert str(port) in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


async def test_a_second_agent_on_the_same_folder_gives_way(lone_boat: Rig) -> None:
    refused = await asyncio.to_thread(run_agent, lone_boat.data)
    assert refused.returncode == 75
    assert lone_boat.boat.agent and str(lone_boat.boat.agent.pid) in refused.stderr
    assert await lone_boat.must("version")


def damage(lone_boat: Rig) -> None:
    """Overwrite pages in the middle of the database."""
    with (lone_boat.data / "pushboat.db").open("r+b") as file:
        file.seek(4_096)
        file.write(os.urandom(20_000))


async def type_what_is_printed(lone_boat: Rig) -> None:
    """Start an agent that refuses, and type exactly the command that it prints."""
    refused = await asyncio.to_thread(run_agent, lone_boat.data)
    assert refused.returncode == 78
    assert "damaged" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert (await lone_boat.http("blog.localhost")).text == "version one\n", "what serves goes on"
    [command] = re.findall(r"(?<=: )mkdir -p .*", refused.stderr)
    done = await lone_boat.run("sh", "-c", command)
    assert (done.status, done.out, done.err) == (0, "", ""), command


async def test_a_damaged_database_comes_back_from_its_backup_by_the_command_that_is_printed(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    await lone_boat.stop_agent()
    database = lone_boat.data / "pushboat.db"
    # What the daily backup does, which comes five minutes after the first start at the earliest.
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (f"{database}.backup",))
    Path(f"{database}.backup").chmod(0o600)
    damage(lone_boat)
    await type_what_is_printed(lone_boat)
    await lone_boat.start_agent()
    assert (await lone_boat.page("blog.localhost", "version one")).status == 200
    app.write({"index.html": "version two\n"})
    assert (await lone_boat.git_push(app)).status == 0
    assert (await lone_boat.page("blog.localhost", "version two")).status == 200
    assert await lone_boat.is_tidy("blog")


async def test_a_damaged_database_without_a_backup_is_begun_anew_by_the_command_that_is_printed(lone_boat: Rig) -> None:
    app = lone_boat.checkout("blog", apps.page("one"))
    assert (await lone_boat.git_push(app)).status == 0
    await lone_boat.stop_agent()
    damage(lone_boat)
    await type_what_is_printed(lone_boat)
    await lone_boat.start_agent()
    await asyncio.to_thread(lone_boat.boat.grant_key, "again")
    assert (await lone_boat.git_push(app)).status == 0
    assert (await lone_boat.page("blog.localhost", "version one")).status == 200
    assert await lone_boat.is_tidy("blog"), "what the lost database ran is still there"
