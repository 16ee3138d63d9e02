"""The agent's own keys."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from agent.errors import Misconfigured
from agent.ssh.hostkey import HOST_KEY, LOCAL_KEY, open_keys


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    first, second = open_keys(tmp_path), open_keys(tmp_path)
    assert first.fingerprint == second.fingerprint
    assert first.local.public_data == second.local.public_data != first.host.public_data


def test_private_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    open_keys(tmp_path)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (HOST_KEY, LOCAL_KEY)}
    assert modes == {HOST_KEY: 0o600, LOCAL_KEY: 0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [HOST_KEY, f"{HOST_KEY}.pub", LOCAL_KEY, f"{LOCAL_KEY}.pub"]
    )


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    keys = open_keys(tmp_path)
    printed = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / f"{HOST_KEY}.pub")], capture_output=True, check=True, text=True
    )
    assert keys.fingerprint in printed.stdout and "ED25519" in printed.stdout


def test_a_key_that_others_may_read_stops_the_start(tmp_path: Path) -> None:
    open_keys(tmp_path)
    (tmp_path / LOCAL_KEY).chmod(0o640)
    with pytest.raises(Misconfigured, match="Others than the agent may read") as caught:
        open_keys(tmp_path)
    assert "chmod 600" in caught.value.hint


def test_a_damaged_key_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    open_keys(tmp_path)
    (tmp_path / HOST_KEY).write_text("rubbish")
    with pytest.raises(Misconfigured, match="cannot be read"):
        open_keys(tmp_path)
    assert (tmp_path / HOST_KEY).read_text() == "rubbish"


def test_a_folder_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        open_keys(tmp_path / "nowhere")
