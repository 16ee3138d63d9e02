"""A clean clone becomes an app that answers, again and again, and nothing is left of it afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from scripts.house import processes, quickstart
from scripts.house.boat import Boat
from scripts.house.engine import Engine
from scripts.house.quickstart import LOCAL_BASE
from tests.support.docker import token
from tests.support.rig import BASE, rig, small_app

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
    engine = Engine()
    had_base = engine.has_image(LOCAL_BASE)
    first = clone.quickstart()
    assert first.returncode == 0, first.stdout + first.stderr
    it_tells_its_story(clone, first)
    assert set(clone.env()) == {f"PUSHBOAT_{name}" for name in ("HOST", "PORT", "KEY", "HTTP", "DOMAIN")}
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

    pool = Boat.moor(clone.home, python="").pool
    instances = engine.instances_in(pool)
    assert len(instances) == 1
    chain = [line for line in firewall().splitlines() if line.startswith(f"-A PUSHBOAT-{pool}".replace("/", "-"))]
    assert chain != []
    assert [line for line in chain if "RETURN" in line and "LOCAL" in line] == [], "nothing of it is public"
    down = clone.quickstart("--down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert not clone.home.exists()
    assert processes.naming(str(clone.home)) == []
    assert [engine.containers(instance) for instance in instances] == [[]]
    assert str(pool.network_address) not in firewall()
    assert engine.has_image(LOCAL_BASE) is had_base
    assert clone.quickstart("--down").returncode == 0


def it_tells_its_story(clone: Clone, first: subprocess.CompletedProcess[str]) -> None:
    """What a newcomer reads: a line for each step with its seconds, the host's key, the push, and how to go on."""
    steps = [line for line in first.stdout.splitlines() if line.startswith("-----> ")]
    for name in ("Packages", "Docker engine", "Python packages", "Firewall", "Agent", "Key", "Example app"):
        [line] = [line for line in steps if line.startswith(f"-----> {name}: ")]
        assert re.search(r" \(\d+\.\d s\)$", line), line
    assert len(steps) == 7
    own = ["ssh-keygen", "-l", "-f", str(clone.home / "data" / "ssh_host_key")]
    host_key = subprocess.run(own, capture_output=True, text=True, check=True).stdout.split()[1]
    assert f"; the host's key is {host_key} (" in first.stdout
    assert "-----> Building hello" in first.stderr
    assert "Hello from Pushboat" in first.stdout
    env, here = clone.env(), os.path.relpath(clone.home, clone.folder)
    pushboat = f"ssh -F {here}/ssh_config pushboat"
    live, *words = first.stdout.partition("=====> ")[2].splitlines()
    assert live == f"hello is live at http://hello.{env['PUSHBOAT_DOMAIN']}:{env['PUSHBOAT_HTTP']}/"
    assert dict(re.split(r"  +", line.strip(), maxsplit=1) for line in words) == {
        "Change it": f'cd {here}/hello; edit www/index.html; git commit -am "Other words"; git push pushboat main',
        "Follow it": f"{pushboat} logs hello -t",
        "Go back": f"{pushboat} releases:rollback hello",
        "What else?": f"{pushboat} help",
        "In scripts": f"source {here}/env",
        "End it all": "scripts/quickstart --down",
    }


def firewall() -> str:
    """Return all rules of this machine's filter table."""
    command = ["iptables-save", "--table", "filter"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
async def foreign(tmp_path: Path) -> AsyncIterator[Foreign]:
    engine = Engine()
    made = Foreign(engine, tmp_path / "boat")
    try:
        made.make()
        yield made
    finally:
        made.remove()


class Foreign:
    """What others have in the same engine and on the same machine, as much like Pushboat's own as can be."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self.name = f"pushboat-foreign-{token()}"
        self.process: subprocess.Popen[bytes] | None = None
        self._labels = {
            "com.pushboat.instance": "iforeignfore",
            "com.pushboat.app-name": "hello",
            "com.pushboat.quickstart": str(folder.parent),
        }

    def make(self) -> None:
        """Have a container, a network and an image with Pushboat's labels, and a program that reads a file of its."""
        if not self._engine.has_image(BASE):
            self._engine.make_base(BASE)
        self._engine.make_base(f"{self.name}:latest", labels=[f"{name}={text}" for name, text in self._labels.items()])
        network = {"Name": self.name, "Labels": self._labels}
        self._engine.call("POST", "/networks/create", json.dumps(network).encode())
        body = {"Image": BASE, "Cmd": ["sleep", "600"], "Labels": self._labels, "NetworkMode": self.name}
        self._engine.call("POST", "/containers/create", json.dumps(body).encode(), name=self.name)
        self._engine.call("POST", f"/containers/{self.name}/start")
        self.process = subprocess.Popen(["tail", "-f", "/dev/null", str(self._folder / "data" / "key")])

    def left(self) -> dict[str, bool]:
        """Return what is there still."""
        container = self._engine.call("GET", f"/containers/{self.name}/json")
        return {
            "container": bool(container and container["State"]["Running"]),
            "network": self._engine.call("GET", f"/networks/{self.name}") is not None,
            "image": self._engine.has_image(f"{self.name}:latest"),
            "process": self.process is not None and self.process.poll() is None,
        }

    def remove(self) -> None:
        """Remove it again, what there is of it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._engine.call("DELETE", f"/containers/{self.name}", force=1)
        self._engine.call("DELETE", f"/networks/{self.name}")
        self._engine.call("DELETE", f"/images/{self.name}:latest", force=1)


async def test_down_removes_only_what_up_made(tmp_path: Path, foreign: Foreign) -> None:
    """The half of it that acts, on a Pushboat with an app; others' things carry labels like its own."""
    async with rig(tmp_path) as pushboat:
        assert (await pushboat.git_push(pushboat.checkout("hello", small_app()))).status == 0
        engine, folder, pool = pushboat.boat.engine, pushboat.boat.folder, pushboat.boat.pool
        [instance] = engine.instances_in(pool)
        assert engine.containers(instance) != []
        proxies = pushboat.proxy_pids()
        assert proxies != []
        assert await asyncio.to_thread(quickstart.down, folder) == 0
        assert engine.containers(instance) == [] and engine.instances_in(pool) == set()
        assert not folder.exists()
        assert [pid for pid in proxies if processes.find(pid)] == []
        assert foreign.left() == dict.fromkeys(("container", "network", "image", "process"), True)


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "quickstart"), "--frobnicate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--frobnicate is not an option" in done.stderr
