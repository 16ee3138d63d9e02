"""Logs of real containers: none missing, none twice, whatever is killed, rotated away or read slowly."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from agent.ports.logs import GAP
from tests.flow import apps
from tests.support.docker import token
from tests.support.rig import PAUSE_SECONDS, Rig

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

KILLS = 4
BRIEF_LINES = 100
"""Written by a process that lives for some 50 ms."""
BRIEF_RUNS = 4
BRIEF = ("--filter", "label=com.pushboat.app-name=brief", "--filter", "label=com.pushboat.process-type=brief")
"""Its containers, for the docker command."""
ROTATED_LINES = 45_000
"""Of 900 bytes: half as much again as the engine keeps of one container (30 MB)."""
SLOW_LINES = 20_000
"""Of 500 bytes: more than all buffers between an app and a reader hold."""

UNTIL_TOLD = "until [ -e /tmp/{0} ]; do sleep 0.05; done\n"
"""Holds up an app's script until `tell` was called."""


class Written:
    """What `logs` says that an app wrote."""

    def __init__(self, answer: str) -> None:
        self.lines = [json.loads(line) for line in answer.splitlines()]

    def of(self, stream: str) -> list[str]:
        """Return the lines of one stream, in their order."""
        return [line["text"] for line in self.lines if line["stream"] == stream]

    def numbers(self) -> list[int]:
        """Return the number that each line of standard output begins with."""
        return [int(text.split()[0]) for text in self.of("stdout")]


async def logs(boat: Rig, app: str, *options: str) -> Written:
    return Written(await boat.must("logs", app, "-n", "1000000", "--format", "json", *options))


async def tell(boat: Rig, container: str, word: str) -> None:
    """Let the app's script go on."""
    done = await boat.docker("exec", container, "touch", f"/tmp/{word}")
    assert done.status == 0, done.err


async def until_there(boat: Rig, container: str, word: str) -> None:
    """Wait until the app's script has come to where it says `word` in a file."""
    async with asyncio.timeout(60):
        while (await boat.docker("exec", container, "test", "-e", f"/tmp/{word}")).status:
            await asyncio.sleep(PAUSE_SECONDS)


async def until_last(boat: Rig, app: str, text: str) -> None:
    """Wait until the newest line begins with `text`."""
    async with asyncio.timeout(60):
        while not (await boat.ssh("logs", app, "-n", "1", "-q")).out.startswith(text):
            await asyncio.sleep(PAUSE_SECONDS)


async def deployed(boat: Rig, app: str, script: str) -> str:
    """Push an app that runs `script` beside its web server; return its container."""
    pushed = await boat.git_push(boat.checkout(app, apps.writer(script)))
    assert pushed.status == 0, pushed.err
    (container,) = await boat.replicas(app)
    return container


async def test_an_agent_that_is_killed_again_and_again_loses_and_doubles_no_line(boat: Rig) -> None:
    count = "i=0; until [ -e /tmp/stop ]; do echo $i out; echo $i err >&2; i=$((i+1))\n"
    pause = "[ $((i % 100)) = 0 ] && sleep 0.1; done; echo over; echo $i > /tmp/total\n"
    container = await deployed(boat, "counts", count + pause)
    seen = 0
    for _ in range(KILLS):
        async with asyncio.timeout(60):
            while (now := len((await logs(boat, "counts")).of("stdout"))) <= seen:
                await asyncio.sleep(PAUSE_SECONDS)
        seen = now
        await boat.kill_agent()
        await boat.start_agent()
    await tell(boat, container, "stop")
    await until_there(boat, container, "total")
    await boat.until_logged("counts", "over")
    total = int((await boat.docker("exec", container, "cat", "/tmp/total")).out)
    written = await logs(boat, "counts")
    assert total > seen
    assert written.of("stdout") == [*(f"{number} out" for number in range(total)), "over"]
    assert written.of("stderr") == [f"{number} err" for number in range(total)]
    assert written.of("agent") == []


async def test_lives_of_an_instant_are_stored_whole_though_the_agent_is_killed(boat: Rig) -> None:
    run = "run=$(cat /tmp/runs 2>/dev/null || echo 0); echo $((run+1)) > /tmp/runs; i=0\n"
    lines = f"while [ $i -lt {BRIEF_LINES} ]; do echo $(hostname) $run $i; i=$((i+1)); done; exit 1\n"
    procfile = {"Procfile": "web: httpd -f -p $PORT -h /www\nbrief: sh /www/write.sh\n"}
    began = int(time.time())
    assert (await boat.git_push(boat.checkout("brief", {**apps.writer(run + lines), **procfile}))).status == 0
    scaling = await boat.spawn(*boat.boat.ssh_command(("ps:scale", "brief", "brief=1")))
    for wanted in range(1, BRIEF_RUNS + 1):
        async with asyncio.timeout(120):
            while sum((await _ends(boat, began)).values()) < wanted:
                await asyncio.sleep(PAUSE_SECONDS)
        await boat.kill_agent()
        await boat.start_agent()
    await scaling.communicate()
    await boat.must("ps:scale", "brief", "brief=0")
    async with asyncio.timeout(60):
        while (await boat.docker("ps", "--all", "--quiet", *BRIEF)).out:
            await asyncio.sleep(PAUSE_SECONDS)
    ends = await _ends(boat, began)
    found = Counter(tuple(text.split()) for text in (await logs(boat, "brief", "-p", "brief")).of("stdout"))
    wished = {
        (host, str(run), str(number)): 1
        for host, runs in ends.items()
        for run in range(runs)
        for number in range(BRIEF_LINES)
    }
    assert found == Counter(wished)


async def _ends(boat: Rig, since: int) -> Counter[str]:
    """Return how often each container of the brief process has ended, by its host name: what the engine says."""
    words = ["events", "--since", str(since), "--until", str(int(time.time()) + 1), "--filter", "event=die"]
    done = await boat.docker(*words, *BRIEF, "--format", "{{.ID}}")
    assert done.status == 0, done.err
    return Counter(line[:12] for line in done.out.split())


async def test_what_docker_rotated_away_while_no_agent_ran_is_a_marked_gap(boat: Rig) -> None:
    flood = f"awk 'BEGIN {{ for (i = 101; i <= {ROTATED_LINES}; i++) printf \"%d %0900d\\n\", i, 0 }}'\n"
    more = f"seq {ROTATED_LINES + 1} {ROTATED_LINES + 10}\n"
    script = ["seq 1 100\n", UNTIL_TOLD.format("go"), flood, "touch /tmp/done\n", UNTIL_TOLD.format("more"), more]
    container = await deployed(boat, "floods", "".join(script))
    await until_last(boat, "floods", "100")
    await boat.kill_agent()
    await tell(boat, container, "go")
    await until_there(boat, container, "done")
    kept = int((await boat.docker("logs", container)).out.split()[0])
    assert kept > 101, "the engine has rotated the first ones away"
    await boat.start_agent()
    await until_last(boat, "floods", str(ROTATED_LINES))

    written = await logs(boat, "floods")
    numbers = written.numbers()
    assert numbers == [*range(1, 101), *range(numbers[100], ROTATED_LINES + 1)]
    assert numbers[100] == kept
    assert [written.lines.index(line) for line in written.lines if line["text"] == GAP] == [100]
    shown = await boat.must("logs", "floods", "-n", "1", "--grep", "'Lines are missing'")
    assert shown.endswith(f" app[web.1]: -----> {GAP}\n")

    await boat.kill_agent()
    await tell(boat, container, "more")
    await boat.start_agent()
    await until_last(boat, "floods", str(ROTATED_LINES + 10))
    again = await logs(boat, "floods")
    assert again.numbers() == [*numbers, *range(ROTATED_LINES + 1, ROTATED_LINES + 11)]
    assert again.of("agent") == [GAP]


async def test_a_reader_who_does_not_read_loses_its_own_oldest_lines_and_nobody_else_any(boat: Rig) -> None:
    step = SLOW_LINES // 100
    burst = f"awk -v a=$i 'BEGIN {{ for (n = a + 1; n <= a + {step}; n++) printf \"%d %0500d\\n\", n, 0 }}'\n"
    loop = f"i=0; while [ $i -lt {SLOW_LINES} ]; do {burst} i=$((i+{step})); sleep 0.1; done\n"
    wait = "echo 0\n" + UNTIL_TOLD.format("go")
    busy, calm = await deployed(boat, "busy", wait + loop), await deployed(boat, "calm", wait + "seq 1 50\n")
    slow, fast, other = [await _follower(boat, app) for app in ("busy", "busy", "calm")]
    for container in (busy, calm):
        await tell(boat, container, "go")
    assert await _read(other, last=50) == list(range(1, 51))
    assert await _read(fast, last=SLOW_LINES) == list(range(1, SLOW_LINES + 1))

    numbers = await _read(slow, last=SLOW_LINES)
    told = (await _ended(slow)).decode()
    missed = [int(count) for count in re.findall(r" !     (\d+) lines were left out", told)]
    assert missed, "it is told"
    assert numbers == sorted(set(numbers))
    assert len(numbers) + sum(missed) == SLOW_LINES
    gaps = [after - before - 1 for before, after in zip([0, *numbers], numbers, strict=False) if after > before + 1]
    assert gaps == missed, "the oldest of those that waited, all in a row each time"
    assert (await _ended(fast), await _ended(other)) == (b"", b"")


async def test_what_a_build_said_is_kept_with_its_deploy(boat: Rig) -> None:
    word = token()  # The engine's cache outlives a run of the tests, and a cached step says nothing.
    app = boat.checkout("told", apps.page("one", more=f"RUN echo this is how {word}$(expr 6 \\* 7) was made\n"))
    assert (await boat.git_push(app)).status == 0
    (first,) = json.loads(await boat.must("deploys", "told", "--format", "json"))
    app.write(apps.page("two", more="RUN echo another one && exit 3\n"))
    assert (await boat.git_push(app)).status == 1
    await boat.kill_agent()
    await boat.start_agent()
    kept = await boat.must("deploys:output", "told", first["id"])
    assert f"this is how {word}42 was made" in kept and "=====> Application deployed:" in kept
    newest = await boat.ssh("deploys:output", "told")
    assert newest.status == 1 and "another one" in newest.out and "The deploy failed (build)" in newest.out


async def _follower(boat: Rig, app: str) -> asyncio.subprocess.Process:
    """Follow the app's lines; the first one, 0, was read, so all that come after are followed."""
    await until_last(boat, app, "0")
    follower = await boat.spawn(*boat.boat.ssh_command(("logs", app, "-t", "-n", "1", "-q")))
    assert await _read(follower, last=0) == [0]
    return follower


async def _read(follower: asyncio.subprocess.Process, *, last: int) -> Sequence[int]:
    """Read numbered lines until the number `last` has come."""
    assert follower.stdout is not None
    numbers: list[int] = []
    async with asyncio.timeout(120):
        while not numbers or numbers[-1] != last:
            numbers.append(int((await follower.stdout.readline()).split()[0]))
    return numbers


async def _ended(follower: asyncio.subprocess.Process) -> bytes:
    """End a follower; return what it said on standard error."""
    follower.terminate()
    return (await follower.communicate())[1]
