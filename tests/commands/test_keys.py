from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.state.keys import Key
from proto.names import Fingerprint
from tests.commands.desk import Desk


def made_key(folder: Path, *options: str) -> tuple[str, str]:
    """Return a new public key, and its fingerprint as ssh-keygen tells it."""
    path = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(path), *options], check=True, stdin=subprocess.DEVNULL)
    told = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], check=True, capture_output=True, text=True).stdout
    return path.with_suffix(".pub").read_text(), told.split(" ")[1]


@pytest.mark.parametrize("options", [("-t", "ed25519"), ("-t", "ecdsa"), ("-t", "rsa", "-b", "2048")])
async def test_a_key_is_added_from_standard_input_and_removed(
    desk: Desk, tmp_path: Path, options: tuple[str, ...]
) -> None:
    public, fingerprint = made_key(tmp_path, *options)
    added = await desk.give("ssh-keys:add ada", public.encode())
    assert added.out == f"-----> Added the key ada: {fingerprint}\n"
    listed = (await desk.give("ssh-keys:list --format json")).json()
    assert [(key["name"], key["fingerprint"]) for key in listed] == [("ada", fingerprint)]
    assert listed[0]["public"] == " ".join(public.split()[:2]), "no comment is kept"
    assert (await desk.give(f"ssh-keys:remove --fingerprint {fingerprint}")).status == 0
    assert (await desk.give("ssh-keys:list --format json")).json() == []


async def test_a_key_is_added_once(desk: Desk, tmp_path: Path) -> None:
    public, _ = made_key(tmp_path, "-t", "ed25519")
    assert (await desk.give(f"ssh-keys:add ada {public}")).status == 0
    assert "here already, as ada" in (await desk.give("ssh-keys:add bob", public.encode())).err


async def test_fingerprints_that_differ_by_case_alone_are_two_keys(desk: Desk) -> None:
    lower, upper = (Fingerprint("SHA256:" + text * 43) for text in ("a", "A"))
    async with desk.database.transaction() as tx:
        for name, fingerprint in (("ada", lower), ("bob", upper)):
            await tx.keys.add(Key(fingerprint, name, "ssh-ed25519 AAAA", 1.0))
    for name, fingerprint in (("ada", lower), ("bob", upper)):
        found = await desk.database.read.keys.get(fingerprint)
        assert found is not None and found.name == name
    assert await desk.database.read.keys.get("SHA256:" + "aA" * 21 + "a") is None
    assert (await desk.give(f"ssh-keys:remove --fingerprint {upper}")).status == 0
    assert [key.name for key in await desk.database.read.keys.all()] == ["ada"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "No key was given"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "That is a private key"),
        ("ssh-ed25519 AAAA\nssh-ed25519 BBBB\n", "Several keys"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "not a public key of a known type"),
        ('command="sh" ssh-ed25519 AAAA', "not a public key of a known type"),
        ("ssh-ed25519 !!!!", "is not base64"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "damaged"),
        ("ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==", "damaged"),
        ("x" * 20_000, "too long"),
        ("\x00\xff", "not a public key"),
    ],
)
async def test_what_is_no_key_is_refused(desk: Desk, text: str, says: str) -> None:
    answer = await desk.give("ssh-keys:add ada", text.encode())
    assert answer.status == 1 and says in answer.err


async def test_a_short_rsa_key_is_refused(desk: Desk, tmp_path: Path) -> None:
    public, _ = made_key(tmp_path, "-t", "rsa", "-b", "1024")
    assert "at least 2048 bits" in (await desk.give("ssh-keys:add ada", public.encode())).err


@pytest.mark.parametrize("name", ["root", "Root", "ROOT"])
async def test_no_key_is_called_what_root_on_the_server_is(desk: Desk, tmp_path: Path, name: str) -> None:
    public, _ = made_key(tmp_path, "-t", "ed25519")
    answer = await desk.give(f"ssh-keys:add {name}", public.encode())
    assert answer.status == 1 and f"cannot be called {name}" in answer.err
    assert (await desk.give(f"ssh-keys:add {name}@laptop", public.encode())).status == 0


async def test_wrong_names_are_refused(desk: Desk) -> None:
    assert "cannot be the name" in (await desk.give("ssh-keys:add 'a b'", b"x")).err
    assert "There is no key" in (await desk.give("ssh-keys:remove nope")).err
    assert "needs a name" in (await desk.give("ssh-keys:remove")).err
