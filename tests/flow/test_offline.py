"""What an administrator does while no agent runs, and settings that stop its start."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def agent(folder: Path, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
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
