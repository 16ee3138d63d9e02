"""What an administrator does while no agent runs, and settings that stop its start."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

NOBODY = 65_534
AS_USER = """
import os, sys
from agent.__main__ import main
os.setgroups([])
os.setgid({user})
os.setuid({user})
main()
"""
"""Python itself may lie where only root finds it."""


def agent(
    folder: Path, *words: str, stdin: str = "", user: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(("-m", "agent") if user is None else ("-c", AS_USER.format(user=user))), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PUSHBOAT_DATA_FOLDER": str(folder), **environment},
    )


def public_key(folder: Path) -> str:
    path = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def test_a_key_is_added_while_no_agent_runs_and_only_once(tmp_path: Path) -> None:
    key = public_key(tmp_path)
    added = agent(tmp_path / "data", "ssh-keys:add", "admin", stdin=key)
    assert added.returncode == 0 and "SHA256:" in added.stdout
    again = agent(tmp_path / "data", "ssh-keys:add", "other", stdin=key)
    assert again.returncode == 1 and "admin" in again.stderr
    assert agent(tmp_path / "data", "ssh-keys:add", "other", stdin="nonsense").returncode == 1
    with closing(sqlite3.connect(tmp_path / "data" / "pushboat.db")) as rows:
        records = rows.execute("SELECT user, command, status FROM invocations").fetchall()
    assert records == [("root", "ssh-keys:add", 0)]


@pytest.fixture
def folder_of_another() -> Iterator[Path]:
    """A data folder as ``scripts/install`` leaves it before the first start: there, empty, and not root's."""
    with tempfile.TemporaryDirectory(prefix="pb-owner-") as parent:
        os.chmod(parent, 0o711)
        folder = Path(parent) / "data"
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_what_root_adds_before_the_first_start_is_the_agents(folder_of_another: Path, tmp_path: Path) -> None:
    folder = folder_of_another
    key = public_key(tmp_path)
    added = agent(folder, "ssh-keys:add", "admin", stdin=key)
    assert added.returncode == 0, added.stderr
    assert agent(folder, "check").returncode == 0
    assert {path.name for path in folder.iterdir()} >= {"key", "pushboat.db"}
    assert {path.stat().st_uid for path in folder.rglob("*")} == {NOBODY}
    own = agent(folder, "ssh-keys:add", "other", stdin=key, user=NOBODY)
    assert own.returncode == 1 and "here already, as admin" in own.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_nobody_starts_on_what_is_somebody_elses(folder_of_another: Path, tmp_path: Path) -> None:
    folder = folder_of_another
    by_root = agent(folder, "run")
    assert by_root.returncode == 78 and "systemctl start pushboat" in by_root.stderr
    assert agent(folder, "ssh-keys:add", "admin", stdin=public_key(tmp_path)).returncode == 0
    os.chown(folder / "pushboat.db", 0, 0)
    refused = agent(folder, "run", user=NOBODY)
    assert refused.returncode == 78 and "Traceback" not in refused.stderr
    assert f"{folder}/pushboat.db belongs to user 0" in refused.stderr
    assert f"chown --recursive {NOBODY} {folder}" in refused.stderr


def test_a_key_that_is_added_offline_has_a_name_like_others(tmp_path: Path) -> None:
    key = public_key(tmp_path)
    for name in ("a b", "", "root"):
        refused = agent(tmp_path / "data", "ssh-keys:add", name, stdin=key)
        assert refused.returncode == 1 and "key" in refused.stderr and "Traceback" not in refused.stderr


def test_a_database_without_its_key_file_stops_the_start(tmp_path: Path) -> None:
    assert agent(tmp_path / "data", "ssh-keys:add", "admin", stdin=public_key(tmp_path)).returncode == 0
    (tmp_path / "data" / "key").unlink()
    refused = agent(tmp_path / "data", "run")
    assert refused.returncode == 78
    assert "key file" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PUSHBOAT_SSH_PRT", "1", "PUSHBOAT_SSH_PRT is not a setting"),
        ("PUSHBOAT_SSH_PORT", "99999", "ssh.port"),
        ("PUSHBOAT_NETWORK_POOL", "10.0.0.0/24", "too small"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(tmp_path: Path, name: str, value: str, told: str) -> None:
    refused = agent(tmp_path / "data", "check", **{name: value})
    assert refused.returncode == 78
    assert told in refused.stderr and "Traceback" not in refused.stderr
