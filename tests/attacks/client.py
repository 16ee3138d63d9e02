"""An ssh client that sends generated lines as they are, byte for byte, many at once on one connection.

The words that OpenSSH would make of them, the client's own shell and the limits of argument vectors are not in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from pathlib import Path

import asyncssh

from tests.attacks.harbour import has_way_out
from tests.attacks.lines import CANARY, Line, draw

AT_ONCE = 4
"""Sessions on the one connection; more than ten are refused."""
PATIENCE_SECONDS = 60.0
ANSWER_SECONDS = 2.0
"""No answer takes longer, by the clock on the wall: that is what people are promised. Whatever took longer is asked
once more, since the machine may just have been busy with something else."""
SLOW = re.compile(
    r"cleanup|disk|ps:re|-t\b|--tail|shop\.eu|--all|\bgit:(?:from-image|sync|allow-host)|registry:login|https?:"
)
"""Lines that would empty everybody's build cache, wait for a deploy, or for a network that is not there."""
SPEAKS = re.compile(r"run|\bgit[- ](?:receive|upload)-pack\b")
"""Lines that may end with another program's status: what ran in a container, or git (128) when no push follows."""


def chosen(seed: int, count: int) -> list[Line]:
    """Return lines of a seed that nobody has to wait for."""
    chance = random.Random(seed)
    found: list[Line] = []
    while len(found) < count:
        line = draw(chance)
        if not SLOW.search(line.text) and line.has_key:
            found.append(line)
    return found


async def send(lines: list[Line], *, port: int, key: Path, within: float = PATIENCE_SECONDS) -> Counter[int | None]:
    """Send `lines` on one connection; return the statuses. Each answer is one that a person can use, and soon.

    `within`: seconds that an answer may take, see `ANSWER_SECONDS`; more where the agent is slowed down on purpose.
    """
    statuses: Counter[int | None] = Counter()
    left = iter(lines)
    loop = asyncio.get_running_loop()

    async def work() -> None:
        for line in left:
            began = loop.time()
            status, out, err = await _give(connection, line)
            if loop.time() - began > within:
                began = loop.time()
                await _give(connection, line)
                assert loop.time() - began <= within, (line, f"takes {loop.time() - began:.1f} s, and again")
            statuses[status] += 1
            told = (line, status, out[-2_000:], err[-2_000:])
            assert status in (0, 1, 20, 75) or (status not in (None, -1, 70, 255) and SPEAKS.search(line.text)), told
            assert "Traceback" not in out + err and CANARY not in err and "made a mistake" not in err, told
            assert status not in (20, 75) or has_way_out(line, out, err), told

    async with (
        asyncssh.connect(
            "127.0.0.1", port, client_keys=[str(key)], known_hosts=None, config=None, agent_path=None
        ) as connection,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(AT_ONCE):
            group.create_task(work())
    return statuses


async def _give(connection: asyncssh.SSHClientConnection, line: Line) -> tuple[int | None, str, str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        process = await connection.create_process(
            line.text,
            env={"PUSHBOAT_APP": line.app} if line.app else {},
            encoding=None,
            term_type="xterm" if line.is_tty else None,
        )
        # Most are answered before anything of this arrives.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line.stdin + (b"\x04" if line.is_tty else b""))
            process.stdin.write_eof()
        done = await process.wait()
        return done.exit_status, _text(done.stdout), _text(done.stderr)


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""
