"""Who is at the other end: the key that signed, and nothing else."""

from __future__ import annotations

import asyncio
import inspect

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_OPEN, MSG_USERAUTH_REQUEST
from asyncssh.packet import Boolean, String, UInt32

from agent.ports.session import User
from agent.ssh.gate import Gate
from agent.ssh.hostkey import LOCAL_KEY, fingerprint_of
from proto.names import Fingerprint
from tests.ssh.conftest import Builder, House, eventually

Packets = list[tuple[int, *tuple[bytes, ...]]]


async def whoami(house: House, key: asyncssh.SSHKey | None = None, **options: object) -> str:
    async with house.connect(key, **options) as connection:
        done = await connection.run("whoami", encoding=None, check=True)
        return bytes(done.stdout).decode()


async def test_the_name_is_that_of_the_key_and_no_login_name_counts(house: House) -> None:
    bob = asyncssh.generate_private_key("ssh-ed25519")
    await house.add_key("bob", bob)
    for login in ("ann", "root", "git", "x" * 200):
        assert await whoami(house, bob, username=login) == "bob: whoami"


@pytest.mark.parametrize(("kind", "options"), [("ssh-rsa", {"key_size": 2048}), ("ecdsa-sha2-nistp256", {})])
async def test_other_kinds_of_keys_sign_in_too(house: House, kind: str, options: dict[str, int]) -> None:
    key = asyncssh.generate_private_key(kind, **options)
    await house.add_key("carol", key)
    assert await whoami(house, key) == "carol: whoami"


async def test_an_unknown_key_is_refused(house: House) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        await whoami(house, asyncssh.generate_private_key("ssh-ed25519"))
    assert house.dispatcher.seen == []


@pytest.mark.parametrize(
    "options",
    [
        {"client_keys": None, "password": "secret"},
        {"client_keys": None, "password": ""},
        {"client_keys": None, "preferred_auth": "keyboard-interactive", "password": "x"},
        {"client_keys": None, "preferred_auth": "none"},
        {"client_keys": None, "preferred_auth": "hostbased"},
    ],
)
async def test_nothing_but_a_key_signs_in(house: House, options: dict[str, object]) -> None:
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.DisconnectError)):
        async with house.connect(**options) as connection:
            await connection.run("whoami")
    assert house.dispatcher.seen == []


class Probing(asyncssh.SSHClient):
    """Offers keys as the test says: asyncssh asks about each before it signs."""

    def __init__(self, keys: list[asyncssh.SSHKey | asyncssh.SSHKeyPair]) -> None:
        self._keys = keys

    def public_key_auth_requested(self) -> asyncssh.SSHKey | asyncssh.SSHKeyPair | None:
        return self._keys.pop(0) if self._keys else None


def forge(victim: asyncssh.SSHKey) -> asyncssh.SSHKeyPair:
    """Return a pair whose public half is the victim's and whose private half is not: the question passes."""
    (pair,) = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])
    pair.public_data = victim.public_data
    return pair


async def test_asking_about_one_key_and_signing_with_another_makes_the_second_the_user(house: House) -> None:
    """The probe: "would root's key do?" is answered yes, and proves nothing."""
    admin, mallory = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    await house.add_key("admin", admin)
    await house.add_key("mallory", mallory)
    forged = forge(admin)
    seen = await whoami(house, client_factory=lambda: Probing([forged, mallory]), client_keys=None)
    assert seen == "mallory: whoami"


async def test_a_forged_signature_signs_nobody_in(house: House) -> None:
    admin = asyncssh.generate_private_key("ssh-ed25519")
    await house.add_key("admin", admin)
    forged = forge(admin)
    with pytest.raises(asyncssh.PermissionDenied):
        await whoami(house, client_factory=lambda: Probing([forged]), client_keys=None)


def test_a_key_is_required_before_anything_can_wait() -> None:
    """A slow or false begin_auth lets everybody in without a key; before asyncssh 2.24.1 a slow one raced as well."""
    assert not inspect.iscoroutinefunction(Gate.begin_auth)
    assert tuple(int(part) for part in asyncssh.__version__.split(".")) >= (2, 24, 1)


class Hasty(Probing):
    """Sends `packets` while the server still thinks about the key that was offered before."""

    def __init__(self, keys: list[asyncssh.SSHKey | asyncssh.SSHKeyPair], packets: Packets) -> None:
        super().__init__(keys)
        self._packets = packets

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    def public_key_auth_requested(self) -> asyncssh.SSHKey | asyncssh.SSHKeyPair | None:
        for kind, *parts in self._packets:
            self._connection.send_packet(kind, *parts)
        self._packets = []
        return super().public_key_auth_requested()


def question(key: asyncssh.SSHKey) -> tuple[int, *tuple[bytes, ...]]:
    """Return the packet that asks whether a key would do (RFC 4252, 7)."""
    words = [String("root"), String("ssh-connection"), String("publickey"), Boolean(False)]
    return (MSG_USERAUTH_REQUEST, *words, String(key.algorithm), String(key.public_data))


async def test_a_question_that_is_answered_late_does_not_change_who_signed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asks for the admin's key and signs with another at once; the look-up of the admin's ends last."""
    admin, mallory = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    slow = await house.add_key("admin", admin)
    await house.add_key("mallory", mallory)
    find, other = house.listener._find_user, asyncio.Event()

    async def find_slowly(fingerprint: Fingerprint) -> User | None:
        if fingerprint == slow:
            await other.wait()
        else:
            asyncio.get_running_loop().call_soon(other.set)
        return await find(fingerprint)

    monkeypatch.setattr(house.listener, "_find_user", find_slowly)
    seen = await whoami(house, client_factory=lambda: Hasty([mallory], [question(admin)]), client_keys=None)
    assert seen == "mallory: whoami"


SESSION = (MSG_CHANNEL_OPEN, String("session"), UInt32(0), UInt32(1 << 20), UInt32(1 << 15))
WITHOUT_KEY = (MSG_USERAUTH_REQUEST, String("root"), String("ssh-connection"), String("none"))


@pytest.mark.parametrize("then", [[SESSION], [WITHOUT_KEY], [WITHOUT_KEY, SESSION]])
async def test_nobody_gets_in_while_a_key_is_looked_up(
    house: House, monkeypatch: pytest.MonkeyPatch, then: Packets
) -> None:
    """The race: a session is asked for, or a login without a key, while the server waits for its database."""
    admin = asyncssh.generate_private_key("ssh-ed25519")
    await house.add_key("admin", admin)
    asked, answer = asyncio.Event(), asyncio.Event()
    find = house.listener._find_user

    async def find_slowly(fingerprint: Fingerprint) -> User | None:
        asked.set()
        await answer.wait()
        return await find(fingerprint)

    monkeypatch.setattr(house.listener, "_find_user", find_slowly)
    packets = [question(admin), *then]
    login = asyncio.create_task(whoami(house, client_factory=lambda: Hasty([forge(admin)], packets), client_keys=None))
    await eventually(lambda: asked.is_set() or login.done(), what="the key is looked up, or the client sent away")
    answer.set()
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.DisconnectError)):
        await login
    assert house.dispatcher.seen == []
    assert house.listener._sessions == set()


async def test_a_key_that_is_removed_during_its_login_does_not_get_in(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = asyncssh.generate_private_key("ssh-ed25519")
    fingerprint = await house.add_key("bob", bob)
    find = house.listener._find_user

    async def find_and_remove(offered: Fingerprint) -> User | None:
        user = await find(offered)
        if offered == fingerprint and user is not None:
            await house.remove_key(fingerprint)
        return user

    monkeypatch.setattr(house.listener, "_find_user", find_and_remove)
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.DisconnectError)):
        await whoami(house, bob)
    assert house.dispatcher.seen == []


async def test_failed_logins_count_against_their_source_and_good_ones_do_not(house: House) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    for _ in range(3):
        with pytest.raises(asyncssh.PermissionDenied):
            await whoami(house, stranger)
        assert await whoami(house) == "ann: whoami"
    await eventually(lambda: house.listener.door.inside == 0, what="nobody is inside any more")
    assert house.listener.door._turnstile._sources["127.0.0.1"].failures == 3


async def test_the_local_key_is_root_on_this_machine(house: House) -> None:
    seen: list[bool] = []

    async def look(line: str, session: object) -> int:
        seen.append(session.user.is_local)  # type: ignore[attr-defined]
        return 0

    house.dispatcher.commands["look"] = look
    async with house.connect(str(house.folder / LOCAL_KEY)) as connection:
        assert (await connection.run("look")).exit_status == 0
    async with house.connect() as connection:
        assert (await connection.run("look")).exit_status == 0
    assert seen == [True, False]


async def test_removing_a_key_ends_its_connections_and_no_others(house: House) -> None:
    bob = asyncssh.generate_private_key("ssh-ed25519")
    fingerprint = await house.add_key("bob", bob)
    started, left = asyncio.Event(), asyncio.Event()

    async def wait(line: str, session: object) -> int:
        started.set()
        await session.gone()  # type: ignore[attr-defined]
        left.set()
        return 0

    house.dispatcher.commands["wait"] = wait
    async with house.connect() as ann, house.connect(bob) as connection:
        running = await connection.create_process("wait")
        async with asyncio.timeout(10):
            await started.wait()
            await house.remove_key(fingerprint)
            await connection.wait_closed()
            await left.wait()
            await running.wait_closed()
        assert (await ann.run("hello", encoding=None)).stdout == b"ann: hello"
    with pytest.raises(asyncssh.PermissionDenied):
        await whoami(house, bob)


async def test_a_connection_may_offer_only_so_many_keys(open_house: Builder) -> None:
    house = await open_house(max_tries=3)
    good = asyncssh.generate_private_key("ssh-ed25519")
    await house.add_key("good", good)
    wrong = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(10)]
    with pytest.raises(asyncssh.DisconnectError, match="Too many keys"):
        await whoami(house, client_factory=lambda: Probing([*wrong[:3], good]), client_keys=None)
    assert await whoami(house, client_factory=lambda: Probing([*wrong[:2], good]), client_keys=None) == "good: whoami"


async def test_a_client_that_only_asks_is_sent_away(open_house: Builder) -> None:
    house = await open_house(max_tries=2)
    admin = asyncssh.generate_private_key("ssh-ed25519")
    await house.add_key("admin", admin)
    forged = forge(admin)
    with pytest.raises(asyncssh.DisconnectError, match="Too many keys"):
        await whoami(house, client_factory=lambda: Probing([forged] * 20), client_keys=None)


async def test_a_login_that_takes_too_long_is_ended(open_house: Builder) -> None:
    house = await open_house(login_grace=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"SSH-2.0-slow\r\n")
    async with asyncio.timeout(10):
        greeting = await reader.readline()
        assert greeting.startswith(b"SSH-2.0-Pushboat")
        await reader.read()
    writer.close()
    await eventually(lambda: house.listener.door.inside == 0, what="its place is free")


async def test_the_fingerprint_that_is_announced_is_the_one_that_clients_see(house: House) -> None:
    async with house.connect() as connection:
        assert fingerprint_of(connection.get_server_host_key()) == house.keys.fingerprint
