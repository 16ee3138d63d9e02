"""Generated lines come in by real SSH, byte for byte, to the core on fakes: no session and no connection is lost, and
each answer is there within two seconds."""

from __future__ import annotations

import random
from pathlib import Path

import asyncssh
import pytest

from agent.lifecycle import keys
from agent.settings import SshSettings
from agent.ssh.hostkey import fingerprint_of, open_keys
from agent.ssh.server import listening
from agent.ssh.shell import Shell
from tests.attacks.client import ANSWER_SECONDS, chosen, send
from tests.commands.desk import Desk
from tests.fakes.core import core

LINES = 300


@pytest.mark.slow
async def test_no_line_ends_the_connection_that_it_came_by(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 40)
    print(f"half of the lines are of seed {seed}")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key_of_ann")
    async with core(tmp_path) as c, c.bus.delivering():
        public = " ".join(key.export_public_key().decode().split()[:2])
        async with c.database.transaction() as tx:
            await keys.add(tx, name="ann", public=public, fingerprint=fingerprint_of(key))
        for name in ("blog", "draft"):
            await c.create(name)
        shell = Shell(Desk(c).dispatcher, ids=c.ids)
        settings = SshSettings(host="127.0.0.1", port=0)
        async with listening(
            settings, keys=open_keys(tmp_path), database=c.database, answer=shell.serve, grace=0.1
        ) as door:
            lines = [*chosen(1, LINES // 2), *chosen(seed, LINES // 2)]
            statuses = await send(lines, port=door.port, key=tmp_path / "key_of_ann", within=ANSWER_SECONDS)
    assert sum(statuses.values()) == LINES and {0, 1, 20} <= statuses.keys()
