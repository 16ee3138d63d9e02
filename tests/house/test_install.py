"""What ``scripts/install`` writes below a folder of its own, and what it takes away again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent import settings

ROOT = Path(__file__).parent.parent.parent
SYSTEMD = Path("etc/systemd/system")


def install(stage: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "install"), "--root", str(stage), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files(stage: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(stage)): path.read_bytes()
        for path in sorted(stage.rglob("*"))
        if path.is_file() and "log" not in path.parts
    }


def test_an_installation_has_units_settings_and_one_current_version(tmp_path: Path) -> None:
    done = install(tmp_path, "--domain", "apps.example.com")
    assert done.returncode == 0, done.stderr
    units = {path.name for path in (tmp_path / SYSTEMD).iterdir()}
    assert units == {path.name for path in (ROOT / "systemd").glob("pushboat*.*") if path.suffix != ".toml"}
    read = settings.load(tmp_path / "etc/pushboat/pushboat.toml", {})
    assert read.domains.default == "apps.example.com"
    assert (tmp_path / "opt/pushboat/current").resolve().parent == tmp_path / "opt/pushboat"
    assert (tmp_path / "usr/local/bin/pushboat").is_symlink()


def test_installing_again_changes_nothing_and_keeps_the_operators_settings(tmp_path: Path) -> None:
    install(tmp_path)
    mine = tmp_path / "etc/pushboat/pushboat.toml"
    mine.write_text("[ssh]\nport = 2200\n")
    before = files(tmp_path)
    done = install(tmp_path, "--domain", "other.example.com")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == before


def test_an_upgrade_leaves_no_older_version_behind(tmp_path: Path) -> None:
    install(tmp_path)
    older = tmp_path / "opt/pushboat/0.0.1-000000000000"
    older.mkdir()
    done = install(tmp_path)
    assert done.returncode == 0, done.stderr
    assert not older.exists()
    assert (tmp_path / "opt/pushboat/current").resolve().is_dir()


def test_uninstalling_keeps_data_and_settings(tmp_path: Path) -> None:
    install(tmp_path)
    data = tmp_path / "var/lib/pushboat/pushboat.db"
    data.parent.mkdir(parents=True)
    data.write_text("rows")
    for _ in range(2):
        done = install(tmp_path, "--uninstall")
        assert done.returncode == 0, done.stderr
        assert set(files(tmp_path)) == {"etc/pushboat/pushboat.toml", "var/lib/pushboat/pushboat.db"}


def test_purging_leaves_nothing(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "var/lib/pushboat").mkdir(parents=True)
    for _ in range(2):
        done = install(tmp_path, "--uninstall", "--purge")
        assert done.returncode == 0, done.stderr
        assert files(tmp_path) == {}
        assert not (tmp_path / "var/lib/pushboat").exists()
        assert not (tmp_path / "usr/local/bin/pushboat").is_symlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--purge"], "--purge goes with --uninstall"),
        (["--frobnicate"], "--frobnicate is not an option"),
        (["--ssh-key", "/no/such/key.pub"], "/no/such/key.pub cannot be read"),
        (["--ssh-key", "/etc"], "/etc cannot be read"),
        (["--domain", "a domain"], "a domain is not a domain name"),
    ],
)
def test_a_wrong_option_changes_nothing_and_says_why(tmp_path: Path, options: list[str], said: str) -> None:
    done = install(tmp_path / "stage", *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "stage").exists()


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    done = install(tmp_path / "stage", "--ssh-key", str(key))
    assert done.returncode == 1
    assert "is a private key" in done.stderr
