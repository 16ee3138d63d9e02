"""The key that ``scripts/install`` lets in: looked at first, named after its comment, never in the place of another."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from agent.lifecycle.keys import check_name
from tests.support.shell_functions import Called, Machine

pytestmark = pytest.mark.slow

FILES = ("machine.sh", "key.sh")
OWN = """
own() {{
  if [[ $1 == ssh-keys:list ]]; then
    cat '{known}'
  else
    printf '%s ' "$@" >'{asked}'
    cat >>'{asked}'
  fi
}}
"""
"""Stands in for the client that asks this machine's agent; what ``ssh-keys:list`` answers is in a file."""


class Keys:
    """Keys of people, and an agent that knows some."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._machine = Machine(folder)
        self._known: list[dict[str, str]] = []

    def make(self, comment: str, *, name: str = "key") -> Path:
        """Return the public half of a new key."""
        path = self._folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)
        return path.with_suffix(".pub")

    def know(self, name: str, key: Path) -> None:
        """Have the agent know a key."""
        told = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True).stdout
        self._known.append({"name": name, "fingerprint": told.split(" ")[1], "public": "", "added_at": ""})

    def add(self, key: Path) -> tuple[str, str]:
        """Add a key as the installer does; return what the agent was asked for, and the remark on it."""
        known, asked = self._folder / "known", self._folder / "asked"
        known.write_text(json.dumps(self._known))
        asked.write_text("")
        own = OWN.format(known=known, asked=asked)
        done = self._machine.run(f"{own}\nadd_key '{key}'\necho \"$note\"", files=FILES)
        assert done.status == 0, done.err
        return asked.read_text(), done.out.strip()

    def name(self, key: Path) -> str:
        """Return what the key would be called."""
        done = self._machine.run(f"key_name '{key}'", files=FILES)
        assert done.status == 0, done.err
        return done.out.removesuffix("\n")

    def check(self, key: Path) -> Called:
        """Look at a file as the installer does before it begins."""
        return self._machine.run(f"check_key '{key}'", files=FILES)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("ann", "ann"),
        ("ann@laptop.example.com", "ann@laptop.example.com"),
        ("", "admin"),
        ("Ann Smith (work)", "Ann-Smith-work"),
        ("  ", "admin"),
        ("-rf", "rf"),
        ("--format=json", "format-json"),
        ("@home", "home"),
        ("Zoë's key", "Zo-s-key"),
        ("李", "admin"),
        ("root", "admin"),
        ("Root", "admin"),
        ("root@web1", "root@web1"),
        ("$(reboot); `id` 'x' \"y\" \\", "reboot-id-x-y"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 300, "x" * 58),
    ],
)
def test_every_comment_makes_a_name_that_the_agent_takes(keys: Keys, comment: str, name: str) -> None:
    key = keys.make("placeholder")
    kind, blob, _ = key.read_text().split()
    key.write_text(f"{kind} {blob} {comment}\n" if comment else f"{kind} {blob}\n")
    assert keys.check(key).status == 0
    assert keys.name(key) == name
    check_name(name)


def test_a_file_with_remarks_blank_lines_and_carriage_returns_is_read(keys: Keys) -> None:
    key = keys.make("ann@laptop")
    key.write_bytes(b"# my key\r\n\r\n" + key.read_bytes().replace(b"\n", b"\r\n"))
    assert keys.check(key).status == 0
    assert keys.name(key) == "ann@laptop"


def test_a_key_is_added_as_it_is(keys: Keys) -> None:
    key = keys.make("ann")
    assert keys.add(key) == (f"ssh-keys:add ann {key.read_text()}", "added as ann")


def test_a_key_that_is_there_is_not_added_again_whatever_it_is_called(keys: Keys) -> None:
    key = keys.make("ann")
    keys.know("somebody", key)
    assert keys.add(key) == ("", "was there already, as somebody")


def test_a_new_key_with_the_comment_of_another_gets_a_name_of_its_own(keys: Keys) -> None:
    """A key that was made anew has the comment of the one before: user@machine. That one may still be in use."""
    new = keys.make("ann", name="new")
    keys.know("ann", keys.make("ann", name="old"))
    keys.know("ann-3", keys.make("ann", name="other"))
    asked, note = keys.add(new)
    assert asked == f"ssh-keys:add ann-2 {new.read_text()}"
    assert note == "added as ann-2; ann is another one, which goes by: pushboat ssh-keys:remove ann"
    keys.know("ann-2", keys.make("ann", name="third"))
    assert keys.add(new)[0].startswith("ssh-keys:add ann-4 ")


def test_names_that_are_patterns_are_taken_for_what_they_are(keys: Keys) -> None:
    keys.know("annXb", keys.make("x", name="old"))
    assert keys.add(keys.make("ann.b"))[1] == "added as ann.b"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not a public key"),
        ("# nothing\n\n", "is not a public key"),
        ("hello world\n", "is not a public key"),
        ('command="sh" ssh-ed25519 AAAA ann\n', "is not a public key"),
        ("ssh-ed25519\n", "is not a public key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 ann\n", "is damaged"),
        ("ssh-ed25519 AAAA ann\nssh-ed25519 BBBB bob\n", "has 2 keys in it"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a private key"),
        ("\0\1\2", "is not a public key"),
    ],
)
def test_what_is_no_key_is_refused_before_anything_is_changed(
    keys: Keys, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "given.pub"
    file.write_text(content)
    done = keys.check(file)
    assert done.status == 1
    assert f"{file} {said}" in done.err
