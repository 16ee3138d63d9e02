"""A whole Pushboat is attacked over one connection, while strace notes what it starts: never a shell.

An app that is hostile in all that an app can say of itself is configured, pushed, renamed and destroyed; another one is
synced from elsewhere; then hundreds of generated lines come. Containers are not below the agent: what runs in them is
not seen here.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shlex
from pathlib import Path

import pytest

from proto.names import is_config_key
from tests.attacks.client import chosen, send
from tests.attacks.lines import HOSTILE, SHELLED, Line
from tests.flow import apps
from tests.support.git_client import Client
from tests.support.git_servers import ssh_server
from tests.support.rig import Rig, rig
from tests.support.straced import Straced, is_shell

pytestmark = pytest.mark.real

LINES = int(os.environ.get("PUSHBOAT_TEST_LINES", "300"))
"""Half of them of one seed always, half of `PUSHBOAT_TEST_SEED`, or of another one each time."""

PROCFILE = """\
web: exec httpd -f -p $PORT -h /www; `id>/tmp/pushboat-shelled`
w-1_x: echo '$(id)' "`id`" %s {} ; sleep 1000
"""


async def stored(r: Rig) -> None:
    """Store what is hostile, use it by deploying with it, rename, and destroy: it is whole, or it was refused."""
    await r.must("apps:create", "blog")
    values = {f"K{number}": text for number, text in enumerate(HOSTILE) if "\0" not in text}
    await r.must("config:import", "--no-restart", "--format", "json", "blog", stdin=json.dumps(values).encode())
    lines = []
    for number, text in enumerate(HOSTILE):
        lines += [
            ("docker-options:add", "blog", "build", shlex.join(["--build-arg", f"K{number}={text}"])),
            ("domains:add", "blog", text),
            ("config:set", "--no-restart", "blog", f"{text}=1"),
            ("git:set", "blog", "deploy-branch", text),
            ("registry:set", "blog", "server", text),
            ("ps:set", "blog", "strategy", text),
            ("builder:set", "blog", "build-dir", text),
            ("builder-dockerfile:set", "blog", "target", text),
        ]
    await send([Line(shlex.join(words)) for words in lines], port=r.boat.ssh_port, key=r.boat.key)
    values |= dict.fromkeys((text for text in HOSTILE if is_config_key(text)), "1") | {"a": "=1"}
    for noun, key in (("git", "deploy-branch"), ("registry", "server"), ("builder", "build-dir")):
        await r.must(f"{noun}:set", "blog", key)
    await r.must("builder-dockerfile:set", "blog", "target")
    app = r.checkout("blog", {**apps.page("1"), "Procfile": PROCFILE})
    pushed = await r.git_push(app)
    assert pushed.status == 0, pushed.err
    await r.must("ps:scale", "blog", "w-1_x=1")
    assert json.loads(await r.must("config:export", "blog", "--format", "json")) == values
    inside = await r.ssh("run", "blog", "env", "-0")
    told = dict(line.partition("=")[::2] for line in inside.out.split("\0") if "=" in line)
    assert {key: told.get(key) for key in values} == values
    await r.must("apps:rename", "blog", "journal")
    assert json.loads(await r.must("config:export", "journal", "--format", "json")) == values
    await r.must("apps:destroy", "journal", "--force")


async def synced(r: Rig, folder: Path) -> None:
    """Have an app from a git server elsewhere, over ssh and by a deploy key."""
    (folder / "elsewhere").mkdir()
    client = await asyncio.to_thread(Client, folder / "elsewhere" / "app.git")
    client.commit(apps.page("synced"))
    async with ssh_server(folder / "elsewhere") as ssh:
        await r.must("apps:create", "away")
        await r.must("git:allow-host", ssh.place)
        await r.must("git:generate-deploy-key", "away")
        ssh.allowed = await r.must("git:public-key", "away")
        await r.must("git:sync", "away", ssh.url("app.git"), "main")


async def test_nothing_that_is_sent_starts_a_shell_or_ends_the_connection(short_folder: Path) -> None:
    canary = Path(SHELLED)
    canary.unlink(missing_ok=True)
    async with rig(short_folder) as r:
        await r.stop_agent()
        strace = Straced(r.boat, short_folder)
        strace.watch_programs()
        await r.start_agent()
        await stored(r)
        await synced(r, short_folder)
        assert (await r.run("git", "clone", r.boat.remote("away"), str(short_folder / "clone"))).status == 0
        await r.ssh("logs", "away", "--grep", "x")
        for name in ("blog", "draft"):
            await r.must("apps:create", name)
        seed = int(os.environ.get("PUSHBOAT_TEST_SEED") or random.SystemRandom().randrange(1 << 40))
        print(f"{LINES} lines, half of them of seed {seed}")
        lines = [*chosen(1, LINES // 2), *chosen(seed, LINES // 2)]
        statuses = await send(lines, port=r.boat.ssh_port, key=r.boat.key)
        assert sum(statuses.values()) == LINES and {0, 1, 20} <= statuses.keys(), statuses
        assert "command.failed" not in r.log and "ssh.session-failed" not in r.log
        await r.stop_agent()
        strace.off()
        programs = strace.programs
        names = {Path(path).name for path, _ in programs}
        assert {"git", "ssh"} <= names, names
        assert [program for program in programs if is_shell(*program)] == []
    assert not canary.exists()
