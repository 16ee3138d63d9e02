"""What ``scripts/install`` writes below a folder of its own, and what it takes away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SYSTEMD = Path("etc/systemd/system")


def install(
    stage: Path, *options: str, tree: Path = ROOT, path: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script of `tree`, called from `folder`, with `path` before the usual programs."""
    command = [str(tree / "scripts" / "install"), "--root", str(stage), *options]
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A source tree whose agent's unit is another one, and so its version."""
    tree = tmp_path / "newer"
    for name in ("agent", "cli", "proto", "scripts", "systemd"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    with (tree / "systemd" / "pushboat.service").open("a") as unit:
        unit.write("# A newer one.\n")
    return tree


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


def test_an_upgrade_brings_its_own_units(tmp_path: Path, newer: Path) -> None:
    stage = tmp_path / "stage"
    install(stage)
    first = (stage / "opt/pushboat/current").readlink()
    done = install(stage, tree=newer)
    assert done.returncode == 0, done.stderr
    assert (stage / SYSTEMD / "pushboat.service").read_text().endswith("# A newer one.\n")
    assert (stage / "opt/pushboat/current").readlink() != first


@pytest.mark.parametrize(
    ("program", "when", "step"),
    [
        ("cp", "systemd", "Program"),
        ("install", "pushboat-firewall.service", "Files"),
        ("mv", "current", "Version"),
    ],
)
def test_an_upgrade_that_fails_leaves_what_runs_as_it_was(
    tmp_path: Path, newer: Path, program: str, when: str, step: str
) -> None:
    """A disk that is full at that moment, say: `program` fails the first time that it is about `when`."""
    stage, broken = tmp_path / "stage", tmp_path / "bin"
    install(stage)
    before, version = files(stage), (stage / "opt/pushboat/current").readlink()
    broken.mkdir()
    script = f"""#!/usr/bin/env bash
if [[ "$*" == *{when}* && ! -e {broken}/failed ]]; then
  echo "No space left on device" >&2
  : >{broken}/failed
  exit 1
fi
exec {shutil.which(program)} "$@"
"""
    (broken / program).write_text(script)
    (broken / program).chmod(0o755)
    done = install(stage, tree=newer, path=str(broken))
    assert done.returncode == 1
    assert f"This step failed: {step}" in done.stderr and "No space left on device" in done.stderr
    assert ("The version before" in done.stderr) == (step != "Program"), "nothing was touched until then"
    assert (stage / "opt/pushboat/current").readlink() == version
    kept = {name: text for name, text in files(stage).items() if name in before}
    assert kept == before
    again = install(stage, tree=newer, path=str(broken))
    assert again.returncode == 0, again.stderr
    assert (stage / "opt/pushboat/current").readlink() != version


def test_a_version_that_cannot_be_put_back_is_told(tmp_path: Path, newer: Path) -> None:
    stage, broken = tmp_path / "stage", tmp_path / "bin"
    install(stage)
    broken.mkdir()
    (broken / "install").write_text("#!/bin/false\n")
    (broken / "install").chmod(0o755)
    done = install(stage, tree=newer, path=str(broken))
    assert done.returncode == 1
    assert "This step failed: Files" in done.stderr and "did not come back either" in done.stderr


def test_paths_are_meant_from_where_it_is_called(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    done = install(Path("stage"), "--ssh-key", "key.pub", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stage/opt/pushboat/current").is_symlink()


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
