"""HAProxy is killed, hung, edited by hand or held up; the agent stops and comes back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from agent.errors import Misconfigured, Unavailable
from agent.proxies.haproxy import HaproxyProxy, shutdown
from agent.proxies.haproxy import files as haproxy_files
from agent.proxies.haproxy.process import identify, recall
from scripts.house.addresses import free_port
from tests.proxies.apps import running_app
from tests.proxies.front import Client, Front, eventually, route, running_front, table

pytestmark = pytest.mark.real

GUARDED = """#!{python}
import ctypes, errno, os, sys
# PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN (prctl(2), Linux 6.3): as MemoryDenyWriteExecute= in a unit, also for what is
# executed. An older kernel has no such order; HAProxy is started unguarded there.
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0) and ctypes.get_errno() != errno.EINVAL:
    sys.exit("prctl failed")
os.execv("/usr/sbin/haproxy", sys.argv)
"""

HELD = """#!{python}
import os, socket, sys
# As pushboat-proxy.socket: HAProxy gets the open socket and the word that it stands for the address. It executes itself
# anew by the name it was started by, which is this one.
if "-c" not in sys.argv and "PUSHBOAT_AT_127_0_0_1_{port}" not in os.environ:
    held = socket.create_server(("127.0.0.1", {held})).detach()
    if held != 3:
        os.dup2(held, 3)
    os.set_inheritable(3, True)
    os.environ["PUSHBOAT_AT_127_0_0_1_{port}"] = "fd@3"
os.execv("/usr/sbin/haproxy", sys.argv)
"""

PICKY = """#!/bin/sh
if [ "$1" = -c ] && [ -e {flag} ]; then
  echo "[ALERT] (1) : too new"
  exit 1
fi
exec /usr/sbin/haproxy "$@"
"""


async def serves(front: Front, host: str, name: str) -> bool:
    try:
        return (await front.ask(host)).app == name
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@pytest.mark.parametrize("who", ["master", "worker"])
async def test_a_killed_haproxy_comes_back_with_what_it_served(who: str) -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one)))
        await front.proxy.apply(table(route("blog", two), route("wild", one, domains=("*.wild.test",))))
        before = front.process()
        processes = await front.master.processes()

        os.kill(before.pid if who == "master" else processes.current.pid, signal.SIGKILL)

        await eventually(lambda: is_another(front, before.pid))
        await eventually(lambda: serves(front, "blog.test", "r2"))
        assert (await front.ask("a.wild.test")).app == "r1"
        assert not await front.proxy.survey()
        await front.proxy.apply(table(route("blog", one)))
        assert (await front.ask("blog.test")).app == "r1"


async def test_haproxy_serves_on_without_the_agent_and_is_taken_over_by_the_next() -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one)))
        before = front.process()
        await front.proxy.close()
        assert (await front.ask("blog.test")).app == "r1"

        front.proxy = front.another_agent()
        await front.proxy.start()
        await front.proxy.apply(table(route("blog", two), route("shop", one)))

        assert front.process() == before
        assert await front.reloads() == 0
        assert (await front.ask("blog.test")).app == "r2"
        os.kill(before.pid, signal.SIGKILL)
        await eventually(lambda: serves(front, "shop.test", "r1"))


async def test_an_agent_killed_before_it_noted_whom_it_started_finds_haproxy_all_the_same() -> None:
    async with running_front() as front:
        before = front.process()
        await front.proxy.close()
        front.layout.identity.unlink()

        front.proxy = front.another_agent()
        await front.proxy.start()

        assert front.process() == before


async def test_a_haproxy_that_hangs_is_replaced_when_the_agent_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.proxies.haproxy.control.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("agent.proxies.haproxy.process.END_SECONDS", 0.2)
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        before = front.process()
        await front.proxy.close()
        os.kill(before.pid, signal.SIGSTOP)

        front.proxy = front.another_agent()
        await front.proxy.start()

        assert front.process() != before
        assert (await front.ask("blog.test")).app == "r1"


async def test_settings_that_changed_while_the_agent_was_down_are_taken_over_by_a_reload() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        await front.proxy.close()
        front.options["trusted"] = ["127.0.0.1"]

        front.proxy = front.another_agent()
        await front.proxy.start()
        await front.proxy.apply(table(route("blog", app)))

        assert await front.reloads() == 1
        assert (await front.ask("blog.test", headers={"X-Request-Id": "abc"})).sent["x-request-id"] == "abc"


@pytest.mark.parametrize(
    "orders",
    [
        ["set server slot0001/r1 state maint"],
        ["set server slot0001/r1 state drain"],
        ["set weight slot0001/r1 0"],
        ["set server slot0001/r1 addr 127.0.0.1 port 9"],
        ["set server slot0001/r1 state maint", "del server slot0001/r1"],
        ["add server slot0001/foreign 127.0.0.1:9", "enable server slot0001/foreign"],
        ["set map {exact} blog.test slot0002"],
        ["del map {exact} blog.test"],
        ["add map {exact} blog.test slot0002"],
        ["add map {exact} foreign.test slot0001"],
        ["add map {exact} foreign.test nowhere"],
        ["clear map {exact}"],
        ["clear map {wildcard}"],
        ["add map {wildcard} .test slot0002"],
        ["set server handover/current state maint"],
        ["set server handover/current state drain"],
        ["set weight handover/current 0"],
        ["set server handover/current state maint", "del server handover/current"],
        ["add server handover/foreign 127.0.0.1:9", "enable server handover/foreign"],
    ],
)
async def test_what_was_changed_by_hand_is_noticed_and_mended(orders: list[str]) -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        blog = route("blog", one, domains=("blog.test", "*.blog.test"))
        routes = table(blog, route("shop", two))
        await front.proxy.apply(routes)

        files = {"exact": front.layout.exact_map, "wildcard": front.layout.wildcard_map}
        await front.order(*(order.format(**files) for order in orders))

        assert await front.proxy.survey()
        await front.proxy.apply(routes)
        assert not await front.proxy.survey()
        assert {(await front.ask("blog.test")).app for _ in range(4)} == {"r1"}
        assert (await front.ask("a.blog.test")).app == "r1"
        assert (await front.ask("foreign.test")).status == 404
        assert (await front.ask("shop.test")).app == "r2"
        assert await front.reloads() == 0


async def test_files_edited_by_hand_are_noticed_and_mended() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        good = front.layout.config.read_text()
        front.layout.config.write_text("nonsense\n")

        assert list(await front.proxy.survey()) == [route("blog").app]
        await front.proxy.apply(table(route("blog", app)))

        assert front.layout.config.read_text() == good
        assert not await front.proxy.survey()


async def test_an_agent_started_over_damaged_files_puts_them_right() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        await front.proxy.close()
        damaged = front.layout.config.read_text().replace("server r1 127.0.0.1:", "server r1 nowhere:")
        front.layout.config.write_text(damaged)
        front.layout.wildcard_map.write_bytes(b"\xff\xfe junk\n")

        front.proxy = front.another_agent()
        await front.proxy.start()
        await front.proxy.apply(table(route("blog", app)))

        assert (await front.ask("blog.test")).app == "r1"
        assert not await front.proxy.survey()


async def test_a_haproxy_started_by_hand_on_another_file_is_brought_to_the_right_one() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        config = front.layout.config.read_text()
        front.layout.config.write_text(config.replace("pushboat-frame=", "edited=").replace("timeout queue", "#"))
        await front.master.reload()
        await eventually(lambda: has_reloads(front, 1))

        assert list(await front.proxy.survey()) == [route("blog").app]
        await front.proxy.apply(table(route("blog", app)))

        assert await front.reloads() == 2
        assert (await front.ask("blog.test")).app == "r1"
        assert not await front.proxy.survey()


async def test_a_full_disk_refuses_the_change_and_leaves_what_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one)))

        with monkeypatch.context() as broken:
            broken.setattr(haproxy_files, "replace", no_space)
            with pytest.raises(Unavailable, match="No space left"):
                await front.proxy.apply(table(route("blog", two)))
            assert (await front.ask("blog.test")).app == "r1"
            assert not await front.proxy.is_drained(route("blog").app, one.upstream)

        await front.proxy.apply(table(route("blog", two)))
        assert (await front.ask("blog.test")).app == "r2"


async def test_a_cancelled_apply_leaves_nothing_that_the_next_does_not_mend() -> None:
    async with running_front() as front, running_app("r1") as one, running_app("r2") as two:
        for turn in range(30):
            apply = asyncio.create_task(front.proxy.apply(table(route(f"blog{turn % 3}", one if turn % 2 else two))))
            for _ in range(turn):
                await asyncio.sleep(0)
            apply.cancel()
            await asyncio.wait((apply,))

        await front.proxy.apply(table(route("blog", one)))

        assert (await front.ask("blog.test")).app == "r1"
        assert [(await front.ask(f"blog{number}.test")).status for number in range(3)] == [404] * 3
        assert not await front.proxy.survey()


async def test_a_taken_port_stops_the_start_and_tells_who_has_it() -> None:
    async with running_front() as front:
        folder = front.folder / "second"
        second = HaproxyProxy(folder, binds=[f"127.0.0.1:{front.port}"], is_supervised=True)

        with pytest.raises(Misconfigured, match=r"is held by haproxy \(process \d+\)") as caught:
            await second.start()

        assert caught.value.code == "proxy.port-taken"
        assert str(front.port) in caught.value.message
        assert not await shutdown(folder)


async def test_all_addresses_of_ipv4_and_of_ipv6_are_listened_on_at_one_port() -> None:
    port = free_port()
    binds = [f"0.0.0.0:{port}", f"[::]:{port}"]
    async with running_front(port=port, binds=binds) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))

        assert (await front.ask("blog.test")).app == "r1"


async def test_a_missing_program_stops_the_start_and_is_a_problem(tmp_path: Path) -> None:
    proxy = HaproxyProxy(tmp_path, binds=["127.0.0.1:1"], is_supervised=True, binary="/nonexistent/haproxy")

    with pytest.raises(Misconfigured, match="cannot be run"):
        await proxy.start()

    assert "not installed" in (await proxy.problems())[0][0]


async def test_haproxy_starts_and_reloads_where_no_memory_may_become_code(tmp_path: Path) -> None:
    guarded = tmp_path / "haproxy"
    guarded.write_text(GUARDED.format(python=sys.executable))
    guarded.chmod(0o755)
    async with running_front(binary=str(guarded), trusted=["127.0.0.2"]) as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        await front.proxy.apply(table(route("blog", app, balance="leastconn")))

        assert await front.reloads() == 1
        assert (await front.ask("blog.test")).app == "r1"


async def test_an_address_that_is_held_for_haproxy_is_served_at_through_reloads(tmp_path: Path) -> None:
    port, held = free_port(), free_port()
    given = tmp_path / "haproxy"
    given.write_text(HELD.format(python=sys.executable, port=port, held=held))
    given.chmod(0o755)
    async with running_front(binary=str(given), port=port) as front, running_app("r1") as app:
        for count, balance in enumerate(("roundrobin", "leastconn", "roundrobin")):
            await front.proxy.apply(table(route("blog", app, balance=balance)))
            assert await front.reloads() == count
            client = await Client.connect(held)
            assert (await client.ask("blog.test")).app == "r1"
            client.close()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(port)  # nobody opened the address itself
        assert not await front.proxy.survey()


async def test_a_file_that_haproxy_refuses_is_never_put_in_its_place(tmp_path: Path) -> None:
    flag = tmp_path / "refuse"
    picky = tmp_path / "haproxy"
    picky.write_text(PICKY.format(flag=flag))
    picky.chmod(0o755)
    async with running_front(binary=str(picky)) as front, running_app("r1") as one, running_app("r2") as two:
        await front.proxy.apply(table(route("blog", one)))
        good = front.layout.config.read_text()
        flag.touch()

        with pytest.raises(Unavailable, match="it refuses its configuration: too new"):
            await front.proxy.apply(table(route("blog", two, balance="leastconn")))

        assert front.layout.config.read_text() == good
        assert (await front.ask("blog.test")).app == "r1"
        flag.unlink()
        await front.proxy.apply(table(route("blog", two, balance="leastconn")))
        assert (await front.ask("blog.test")).app == "r2"


async def test_without_supervision_the_agent_starts_with_haproxy_down_and_never_starts_it() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        front.options["is_supervised"] = False
        agent = front.another_agent()
        await agent.start()
        await agent.apply(table(route("shop", app)))
        assert (await front.ask("shop.test")).app == "r1"
        await front.proxy.close()
        await shutdown(front.folder)

        with pytest.raises(Unavailable):
            await agent.apply(table(route("blog", app)))

        assert recall(front.layout) is None
        # What it could not switch is on disk, for whoever starts HAProxy.
        assert "blog.test" in front.layout.exact_map.read_text()
        await agent.close()


async def test_the_stop_program_ends_haproxy_once() -> None:
    async with running_front() as front:
        before = front.process()
        await front.proxy.close()

        said = [await run_stop(front.folder) for _ in range(2)]

        assert said == [b"HAProxy has ended.\n", b"There was no HAProxy to end.\n"]
        assert identify(before.pid) != before


async def test_a_stored_process_id_that_another_process_has_now_is_left_alone() -> None:
    async with running_front() as front:
        mine = identify(os.getpid())
        assert mine is not None
        await front.proxy.close()
        real = front.process()
        front.layout.identity.write_bytes(msgspec.json.encode(msgspec.structs.replace(mine, started=mine.started + 1)))

        assert await shutdown(front.folder)

        assert identify(real.pid) != real
        assert identify(os.getpid()) == mine


async def test_folders_and_sockets_are_closed_to_others() -> None:
    async with running_front(user="") as front:
        modes = {path.name: path.stat().st_mode & 0o777 for path in front.layout.sockets.iterdir()}

        assert front.layout.sockets.stat().st_mode & 0o777 == 0o700
        assert modes == {"master.sock": 0o600, "admin.sock": 0o600, "handover.sock": 0o600}


async def test_a_lost_folder_is_made_anew_from_the_table() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        await front.proxy.close()
        await shutdown(front.folder)
        shutil.rmtree(front.folder)

        front.proxy = front.another_agent()
        await front.proxy.start()
        await front.proxy.apply(table(route("blog", app)))

        assert (await front.ask("blog.test")).app == "r1"


async def test_a_connection_open_during_a_kill_is_the_only_loss() -> None:
    async with running_front() as front, running_app("r1") as app:
        await front.proxy.apply(table(route("blog", app)))
        client = await Client.connect(front.port)
        assert (await client.ask("blog.test")).app == "r1"

        os.kill(front.process().pid, signal.SIGKILL)

        assert await client.reader.read() == b""
        await eventually(lambda: serves(front, "blog.test", "r1"))


def no_space(path: Path, data: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))


async def has_reloads(front: Front, count: int) -> bool:
    return await front.reloads() == count


async def is_another(front: Front, pid: int) -> bool:
    identity = recall(front.layout)
    return identity is not None and identity.pid != pid


async def run_stop(folder: Path) -> bytes:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.proxies.haproxy.stop", "--folder", str(folder), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await program.communicate()
    assert program.returncode == 0
    return output
