"""Crowds that mean no harm, or do: many logins, silent connections, pushes at once, a large push beside commands.

How fast it is stands in ``bench/ssh``; here everybody must be served, whole, and nobody may wait for another's end.
"""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from agent.ssh import turnstile
from agent.ssh.door import Door, bind
from tests.ssh.conftest import Builder, House, eventually, run
from tests.support import bombs

pytestmark = pytest.mark.real

MIB = 1 << 20


async def ended(connection: socket.socket) -> bool:
    """Wait until the server has closed a connection; what it said before is left unread."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(connection, 4_096):
            pass
    except ConnectionError:
        pass
    return True


async def test_silent_connections_of_many_sources_keep_nobody_out_and_are_all_freed(
    open_house: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "PATIENCE", 1.5)
    monkeypatch.setattr(turnstile, "SILENCE", 0.2)
    house = await open_house(login_grace=1.5)
    loop = asyncio.get_running_loop()
    crowd = []
    try:
        for number in range(300):
            connection = socket.socket()
            crowd.append(connection)
            connection.setblocking(False)
            connection.bind((f"127.0.7.{1 + number % 20}", 0))
            await loop.sock_connect(connection, ("127.0.0.1", house.port))
        await eventually(lambda: house.listener.door.inside == 50, what="half of the places are theirs")
        done = await house.ssh("hello")
        assert (done.status, done.out) == (0, b"ann: hello"), done.err
        assert house.listener.door.inside <= 50
        async with asyncio.timeout(20):
            assert all(await asyncio.gather(*(ended(connection) for connection in crowd)))
    finally:
        for connection in crowd:
            connection.close()
    await eventually(lambda: house.listener.door.inside == house.listener.door.waiting == 0, what="nobody is left")


async def test_those_who_speak_and_then_do_nothing_make_place_for_a_good_login(open_house: Builder) -> None:
    """As many as may be inside, and for ten times as long as a client may wait."""
    house = await open_house(max_unauthenticated=6, max_unauthenticated_per_source=3, login_grace=50.0)
    loop = asyncio.get_running_loop()
    crowd = []
    try:
        for source in ("127.0.7.1", "127.0.7.2"):
            for _ in range(3):
                connection = socket.socket()
                crowd.append(connection)
                connection.setblocking(False)
                connection.bind((source, 0))
                await loop.sock_connect(connection, ("127.0.0.1", house.port))
                await loop.sock_sendall(connection, b"SSH-2.0-idle\r\n")
        await eventually(lambda: house.listener.door.inside == 6, what="all places are theirs")
        done = await house.ssh("hello")
        assert (done.status, done.out) == (0, b"ann: hello"), done.err
        assert house.listener.door.inside >= 5, "only who had to has left"
    finally:
        for connection in crowd:
            connection.close()
    await eventually(lambda: house.listener.door.inside == 0, what="nobody is left")


async def test_who_has_signed_in_just_now_is_not_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[socket.socket, asyncio.Future[bool]]] = []
    over = asyncio.Event()

    async def serve(connection: socket.socket, decided: asyncio.Future[bool]) -> None:
        served.append((connection, decided))
        await over.wait()
        connection.close()

    door = Door(bind("127.0.0.1", 0), serve, most=1, most_per_source=1)
    door.open()
    with socket.socket() as first, socket.socket() as second:
        for client, source in ((first, "127.0.7.1"), (second, "127.0.7.2")):
            client.bind((source, 0))
            await asyncio.to_thread(client.connect, ("127.0.0.1", door.port))
            client.sendall(b"SSH-2.0-x\r\n")
            await eventually(lambda: len(served) == 1, what="the first is served")
        await eventually(
            lambda: any(each.visitor.has_spoken for each in door._knocks.values()), what="the second waits"
        )
        monkeypatch.setattr(turnstile, "LINGERING", 0.0)
        served[0][1].set_result(False)
        door._turn()
        await eventually(lambda: len(served) == 2, what="the second is served")
        first.setblocking(False)
        with pytest.raises(BlockingIOError):
            first.recv(1)
    over.set()
    door.close()
    await door.wait_closed()


async def test_pushes_at_once_to_as_many_apps_all_arrive_whole(house: House) -> None:
    clones = [house.clone(f"work-{number}") for number in range(8)]
    tips = [clone.commit("noise", os.urandom(2 * MIB)) for clone in clones]
    pushed = await asyncio.gather(*(clone.push(path=f"app-{number}") for number, clone in enumerate(clones)))
    assert [one.status for one in pushed] == [0] * 8, [one.err for one in pushed]
    for number, tip in enumerate(tips):
        app = await house.app(f"app-{number}")
        assert await house.repos.tip(app.id, "main") == tip
        assert [deploy.commit_id for deploy in await house.deploys(f"app-{number}")] == [tip]
        checked = await run("git", "fsck", "--full", "--strict", cwd=house.repo(app))
        assert (checked.status, checked.out) == (0, b""), checked.err
    assert not list((house.folder / "repos").glob("*/objects/tmp_objdir-*"))


async def test_commands_are_answered_while_a_large_push_is_in_the_middle_of_its_pack(house: House) -> None:
    """Each piece but the first is sent only once a command, asked beside the piece before, was answered."""
    objects = [bombs.small(bombs.BLOB, os.urandom(3 * MIB), level=0) for _ in range(20)]
    tree = bombs.tree(*(("100644", f"{number:02}", each[0]) for number, each in enumerate(objects)))
    tip = bombs.commit(tree[0])
    sent = bombs.push(tip[0], [*objects, tree, tip])
    step = len(sent) // 20
    async with house.connect() as connection:
        push = await connection.create_process("git-receive-pack 'blog'", encoding=None)
        answers = []
        for number in range(20):
            piece = sent[number * step :] if number == 19 else sent[number * step : (number + 1) * step]
            push.stdin.write(piece)
            drained = asyncio.create_task(push.stdin.drain())
            answers.append(await command(house, f"hello {number}"))
            assert not push.stdout.at_eof() and push.exit_status is None
            await drained
        push.stdin.write_eof()
        async with asyncio.timeout(60):
            out = await push.stdout.read()
            await push.wait_closed()
    assert answers == [b"ann: hello %d" % number for number in range(20)]
    assert b"unpack ok" in out and b"ok refs/heads/main" in out
    assert push.exit_status == 0
    app = await house.app("blog")
    assert await house.repos.tip(app.id, "main") == tip[0]


async def command(house: House, line: str) -> bytes:
    """Ask for something over a connection of its own."""
    async with asyncio.timeout(60), house.connect() as connection:
        return bytes((await connection.run(line, encoding=None)).stdout)
