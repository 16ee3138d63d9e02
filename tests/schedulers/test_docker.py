"""Replicas on the real Docker engine: what the contract leaves to it, and what it does when calls go wrong."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from agent.docker import labels
from agent.docker.spec import container_name
from agent.errors import Unavailable
from agent.ports.scheduler import ReplicaWish, Resources, StartFailed
from agent.schedulers.docker import DockerScheduler
from tests.fakes.terminal import FakeTerminal
from tests.support.cutting import cutter
from tests.support.docker import Corner, corner, remove_group, token, until
from tests.support.scripted_engine import http

pytestmark = pytest.mark.real


@pytest.fixture
def scheduler(docker: Corner) -> DockerScheduler:
    return DockerScheduler(docker.engine, bridges=docker.bridges)


def say(line: str) -> None:
    """Nobody watches."""


async def inside(docker: Corner, scheduler: DockerScheduler, wish: ReplicaWish, *command: str) -> str:
    """Return what a command prints inside a replica."""
    terminal = FakeTerminal()
    terminal.type(b"")
    await scheduler.enter(wish.replica, command, terminal)
    return (terminal.out + terminal.err).decode()


async def test_a_replica_runs_in_the_slice_of_what_serves(docker: Corner) -> None:
    """In the kernel's own words, since an engine's driver decides what becomes of the name."""
    slice_name = f"pushboat_{token()}.slice"
    scheduler = DockerScheduler(docker.engine, bridges=docker.bridges, group=slice_name)
    try:
        wish = docker.wish()
        await scheduler.converge(docker.app, [wish], say)
        (row,) = await docker.containers.find({labels.REPLICA_ID: wish.replica})
        detail = await docker.engine.json("GET", f"containers/{row.id}/json")
        lines = Path(f"/proc/{detail['State']['Pid']}/cgroup").read_text().splitlines()
        assert [line for line in lines if ":cpu" in line and f"/{slice_name}/" not in line] == []
        assert any(f"/{slice_name}/" in line for line in lines)
    finally:
        for row in await docker.containers.find({labels.APP_ID: docker.app}):
            await docker.containers.remove(row.id)
        remove_group(slice_name)


async def test_a_replica_is_confined(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish(resources=Resources(memory_bytes=32 << 20, cpus=0.5, pids=64))
    await scheduler.converge(docker.app, [wish], say)
    status = await inside(docker, scheduler, wish, "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    # CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE SETFCAP
    # by their numbers in linux/capability.h; neither NET_RAW (13) nor MKNOD (27).
    kept = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31))
    assert int(fields["CapBnd"], 16) == kept
    (row,) = await docker.containers.find({labels.REPLICA_ID: wish.replica})
    detail = await docker.engine.json("GET", f"containers/{row.id}/json")
    host = detail["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        32 << 20,
        32 << 20,
        500_000_000,
        64,
    )
    assert host["RestartPolicy"]["Name"] == "no" and not host["AutoRemove"]
    assert detail["Mounts"] == [] and not host["PortBindings"]


async def test_a_fork_bomb_gets_as_many_processes_as_the_limit_and_not_one_more(
    docker: Corner, scheduler: DockerScheduler
) -> None:
    wish = docker.wish(resources=Resources(pids=20))
    await scheduler.converge(docker.app, [wish], say)
    bomb = "while :; do sleep 600 & done"
    assert "can't fork" in await inside(docker, scheduler, wish, "sh", "-c", bomb)
    (row,) = await docker.containers.find({labels.REPLICA_ID: wish.replica})
    running = await docker.engine.json("GET", f"containers/{row.id}/top")
    assert len(running["Processes"]) == 20 - 1, "all but the shell, which ended as it could not have one more"


async def test_apps_on_one_bridge_do_not_reach_each_other(docker: Corner, scheduler: DockerScheduler) -> None:
    server, other = docker.wish("httpd", "-f", "-p", "5000"), docker.wish()
    await scheduler.converge(docker.app, [server, other], say)

    async def host_reaches() -> bool:
        try:
            _, writer = await asyncio.open_connection(server.address, 5000)
        except OSError:
            return False
        writer.close()
        return True

    await until(host_reaches)
    request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {server.address} 5000"
    assert "404" in await inside(docker, scheduler, server, "sh", "-c", request), "it reaches itself"
    assert "404" not in await inside(docker, scheduler, other, "sh", "-c", request), "and nobody else does"


async def test_a_restart_by_hand_keeps_the_address(docker: Corner, scheduler: DockerScheduler) -> None:
    wishes = [docker.wish(), docker.wish()]
    first, second = await scheduler.converge(docker.app, wishes, say)
    # Stopped in one order and started in the other: dynamic addresses would change places.
    for status in (first, second):
        await docker.containers.stop(status.container, seconds=0)
    for status in (second, first):
        await docker.containers.start(status.container)
    await docker.engine.json("POST", f"containers/{first.container}/restart", params={"t": 0})
    seen = {status.replica: status for status in await scheduler.survey()}
    assert [seen[wish.replica].address for wish in wishes] == [wish.address for wish in wishes]
    assert [seen[wish.replica].phase for wish in wishes] == ["running", "running"]


async def test_a_replica_that_fails_is_restarted_by_the_engine_once_it_is_entrusted_with_that(
    docker: Corner, scheduler: DockerScheduler
) -> None:
    script = (
        "test -e /tmp/again && exec sleep 1000; touch /tmp/again; while ! test -e /tmp/fail; do sleep 0.1; done; exit 3"
    )
    early, late = docker.wish("sh", "-c", "exit 3"), docker.wish("sh", "-c", script)
    await scheduler.converge(docker.app, [early, late], say)

    async def has_ended() -> bool:
        status = await scheduler.look(early.replica)
        return status is not None and (status.phase, status.exit_code, status.restarts) == ("exited", 3, 0)

    await until(has_ended)
    await scheduler.entrust(late.replica)
    await scheduler.entrust(late.replica)
    await inside(docker, scheduler, late, "touch", "/tmp/fail")

    async def is_back() -> bool:
        status = await scheduler.look(late.replica)
        return status is not None and status.phase == "running" and status.restarts == 1

    await until(is_back)
    assert await has_ended()


async def test_what_failed_and_was_stopped_is_not_restarted(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish("sh", "-c", "exit 3")
    await scheduler.converge(docker.app, [wish], say)

    async def has_failed() -> bool:
        status = await scheduler.look(wish.replica)
        return status is not None and (status.phase, status.exit_code) == ("exited", 3)

    await until(has_failed)
    await scheduler.stop(wish.replica, seconds=1)
    assert await has_failed()
    (row,) = await docker.containers.find({labels.REPLICA_ID: wish.replica})
    detail = await docker.engine.json("GET", f"containers/{row.id}/json")
    assert detail["HostConfig"]["RestartPolicy"]["Name"] == "no"


async def test_an_oom_kill_is_told(docker: Corner, scheduler: DockerScheduler) -> None:
    command = ("sh", "-c", "x=a; while :; do x=$x$x; done")
    wish = docker.wish(*command, resources=Resources(memory_bytes=16 << 20))
    await scheduler.converge(docker.app, [wish], say)

    async def was_killed() -> bool:
        status = await scheduler.look(wish.replica)
        return status is not None and (status.is_oom_killed or status.exit_code == 137)

    await until(was_killed)


async def test_one_that_ignores_sigterm_is_killed_after_the_grace(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    await scheduler.converge(docker.app, [wish], say)
    await scheduler.stop(wish.replica, seconds=0.2)
    status = await scheduler.look(wish.replica)
    assert status is not None and (status.phase, status.exit_code) == ("exited", 137)


@pytest.mark.parametrize("call", [b"POST /v1.41/containers/create", b"POST /v1.41/containers/"])
async def test_an_answer_that_was_lost_is_found_again(tmp_path: Path, call: bytes) -> None:
    async with cutter(tmp_path) as (socket, cut), corner(socket) as made:
        scheduler = DockerScheduler(made.engine, bridges=made.bridges)
        await scheduler.converge(made.app, [made.wish()], say)
        wish = made.wish()
        cut.armed = call
        with pytest.raises(Unavailable):
            await scheduler.converge(made.app, [wish], say)
        (status,) = await scheduler.converge(made.app, [wish], say)
        assert cut.cut == 1
        assert status.phase == "running"
        assert len(await scheduler.survey()) == 2


async def test_a_container_that_the_engine_can_never_start_gives_way_to_a_new_one(tmp_path: Path) -> None:
    async with cutter(tmp_path) as (socket, cut), corner(socket) as made:
        scheduler = DockerScheduler(made.engine, bridges=made.bridges)
        # What an engine says that was killed while it started this container (measured with 20.10).
        cut.armed, cut.forged = b"/start ", http(500, b'{"message": "task 0bcc824cd218: already exists"}')
        (status,) = await scheduler.converge(made.app, [made.wish()], say)
        assert cut.cut == 1
        assert status.phase == "running"
        assert len(await scheduler.survey()) == 1


async def test_a_create_that_comes_true_late_is_adopted(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    # What an earlier call made after this one has looked: the list does not show it yet, but the name is taken.
    await scheduler.converge(docker.app, [wish], say)
    (first,) = await scheduler.survey()
    created = await scheduler._create(wish, network=f"pushboat-{docker.engine.instance}-0")
    assert created == first.container
    assert len(await scheduler.survey()) == 1


async def test_a_foreign_container_of_our_name_is_not_touched_and_in_nobodys_way(
    docker: Corner, scheduler: DockerScheduler
) -> None:
    wish = docker.wish()
    body = {"Image": docker.image, "Cmd": ["sleep", "1000"]}
    foreign = await docker.engine.json("POST", "containers/create", params={"name": container_name(wish)}, data=body)
    try:
        (status,) = await scheduler.converge(docker.app, [wish], say)
        assert status.phase == "running"
        assert status.name == f"{container_name(wish)}.{wish.replica}"
        untouched = await docker.containers.inspect(foreign["Id"])
        assert untouched is not None and untouched.state.status == "created"
    finally:
        await docker.containers.remove(foreign["Id"])


async def test_two_agents_on_one_engine_do_not_see_each_other(docker: Corner, scheduler: DockerScheduler) -> None:
    await scheduler.converge(docker.app, [docker.wish()], say)
    async with corner() as other:
        theirs = DockerScheduler(other.engine, bridges=other.bridges)
        assert list(await theirs.survey()) == []
        await theirs.release(docker.app)
        await theirs.tidy()
    assert len(await scheduler.survey()) == 1


async def test_two_containers_of_one_replica_become_one(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    (kept,) = await scheduler.converge(docker.app, [wish], say)
    twin = msgspec.structs.replace(wish, address=docker.wish().address, number=900)
    later = await scheduler._create(twin, network=f"pushboat-{docker.engine.instance}-0")
    assert [seen.container for seen in await scheduler.survey()] == [later, kept.container]
    looked = await scheduler.look(wish.replica)
    assert looked is not None and looked.container == later
    (status,) = await scheduler.converge(docker.app, [wish], say)
    assert status.container == kept.container
    assert len(await scheduler.survey()) == 1


async def test_a_frozen_replica_goes_on(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    (status,) = await scheduler.converge(docker.app, [wish], say)
    await docker.engine.json("POST", f"containers/{status.container}/pause")
    assert [seen.phase for seen in await scheduler.survey()] == ["exited"]
    (status,) = await scheduler.converge(docker.app, [wish], say)
    assert status.phase == "running"


async def test_a_half_removed_container_is_ended_and_removed(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    (status,) = await scheduler.converge(docker.app, [wish], say)
    root = Path((await docker.engine.json("GET", "info"))["DockerRootDir"])
    with held_on_disk(root / "containers" / status.container):
        with pytest.raises(Unavailable):
            await scheduler.remove(wish.replica)
        (left,) = await scheduler.survey()
        assert left.phase == "exited"
        await scheduler.entrust(wish.replica)
        await scheduler.stop(wish.replica, seconds=1.0)
    await scheduler.remove(wish.replica)
    assert await scheduler.survey() == []


@contextmanager
def held_on_disk(folder: Path) -> Iterator[None]:
    """Have one file in `folder` that not even root can remove: who tries leaves the container half removed."""
    held = folder / "held"
    held.touch()
    subprocess.run(["chattr", "+i", held], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", held], check=True)


async def test_a_bridge_removed_by_hand_is_made_again(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish()
    await scheduler.converge(docker.app, [wish], say)
    await scheduler.remove(wish.replica)
    (network,) = await docker.engine.json(
        "GET", "networks", params={"filters": labels.filters({labels.INSTANCE: docker.engine.instance})}
    )
    await docker.engine.json("DELETE", f"networks/{network['Id']}")
    with pytest.raises(Unavailable):
        await scheduler.converge(docker.app, [wish], say)
    (status,) = await scheduler.converge(docker.app, [wish], say)
    assert status.phase == "running"


async def test_limits_that_the_machine_cannot_give_are_the_apps_affair(
    docker: Corner, scheduler: DockerScheduler
) -> None:
    with pytest.raises(StartFailed, match="Minimum memory limit"):
        await scheduler.converge(docker.app, [docker.wish(resources=Resources(memory_bytes=1_000))], say)
    with pytest.raises(StartFailed, match="CPUs"):
        await scheduler.converge(docker.app, [docker.wish(resources=Resources(cpus=10_000.0))], say)


async def test_descriptions_hide_the_values_of_the_environment(docker: Corner, scheduler: DockerScheduler) -> None:
    wish = docker.wish(command=("sleep", "1000", "--token=hunter2"), env={"SECRET": "hunter2"})
    await scheduler.converge(docker.app, [wish], say)
    (description,) = await scheduler.describe(docker.app)
    assert "SECRET=*******" in str(description) and "hunter2" not in str(description)
