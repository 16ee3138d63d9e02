"""A clean clone becomes an app that answers, again and again, and nothing is left of it afterwards."""

from __future__ import annotations

import os
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.house import processes
from scripts.house.boat import Boat
from scripts.house.engine import Engine

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="installing and firewall rules need root")]

ROOT = Path(__file__).parent.parent.parent
SECONDS = 300


class Clone:
    """A clean clone of this repository, as a newcomer has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / ".quickstart"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        # What is not committed yet is tried too.
        changed = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        if changed:
            subprocess.run(["git", "apply"], cwd=folder, input=changed, check=True)

    def quickstart(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run it as a person does."""
        command = [str(self.folder / "scripts" / "quickstart"), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/")

    def env(self) -> dict[str, str]:
        """Return what a shell knows after reading the file that quickstart writes."""
        script = f"set -a; . {shlex.quote(str(self.home / 'env'))}; env -0"
        said = subprocess.run(["env", "-i", "sh", "-c", script], capture_output=True, text=True, check=True).stdout
        pairs = (entry.split("=", 1) for entry in said.split("\0") if entry.startswith("PUSHBOAT_"))
        return {name: value for name, value in pairs}

    def page(self) -> str:
        """Return what the example app answers."""
        env = self.env()
        request = urllib.request.Request(
            f"http://{env['PUSHBOAT_HOST']}:{env['PUSHBOAT_HTTP']}/",
            headers={"Host": f"hello.{env['PUSHBOAT_DOMAIN']}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def push(self, text: str) -> subprocess.CompletedProcess[str]:
        """Change the example's page and push it with plain git."""
        checkout = self.home / "hello"
        (checkout / "www" / "index.html").write_text(f"{text}\n")
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
        subprocess.run(["git", *identity, "commit", "--quiet", "-am", text], cwd=checkout, check=True)
        command = ["git", "push", "pushboat", "main"]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=SECONDS, check=False)

    def ssh(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ask the agent, with nothing but what the env file says."""
        env = self.env()
        options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        command = ["ssh", *options, "-i", env["PUSHBOAT_KEY"], "-p", env["PUSHBOAT_PORT"], env["PUSHBOAT_HOST"], *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    made = Clone(tmp_path / "clone")
    yield made
    made.quickstart("--down")


def test_from_a_clean_clone_to_an_app_that_answers_through_a_crash_and_away_again(clone: Clone) -> None:
    """One story, since each clone costs a virtual environment."""
    first = clone.quickstart()
    assert first.returncode == 0, first.stdout + first.stderr
    assert set(clone.env()) == {f"PUSHBOAT_{name}" for name in ("HOST", "PORT", "KEY", "HTTP", "DOMAIN")}
    assert "Hello from Pushboat" in first.stdout
    assert "SHA256:" in first.stdout
    assert "Hello from Pushboat" in clone.page()

    again = clone.quickstart()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Everything up-to-date" in again.stdout + again.stderr

    pushed = clone.push("Other words.")
    assert pushed.returncode == 0, pushed.stderr
    assert "Other words." in clone.page()
    assert "hello" in clone.ssh("apps:list").stdout

    for process in processes.naming(str(clone.home)):
        processes.kill(process)
    back = clone.quickstart()
    assert back.returncode == 0, back.stdout + back.stderr
    assert "Other words." in clone.page()

    engine = Engine()
    instances = engine.instances_in(Boat.moor(clone.home, python="").pool)
    assert len(instances) == 1
    down = clone.quickstart("--down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert not clone.home.exists()
    assert processes.naming(str(clone.home)) == []
    assert [engine.containers(instance) for instance in instances] == [[]]
    assert clone.quickstart("--down").returncode == 0


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "quickstart"), "--frobnicate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--frobnicate is not an option" in done.stderr
