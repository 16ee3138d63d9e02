"""The two commands of the README and the installer on a Debian 12 that has nothing: neither Docker nor HAProxy nor pip.

Takes minutes, most of them Debian's packages: ``scripts/torture fresh`` runs it, ``scripts/test`` does not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fresh import TREE, Fresh, fresh

pytestmark = [pytest.mark.real, pytest.mark.machines, pytest.mark.timeout(1_800)]

ROOT = Path(__file__).parents[2]
"""What is committed of it is tried."""
FOREIGN = "foreign"
"""A container, a network, an image, a volume, a rule and a file that are somebody else's."""
CHANGE = """
cd .quickstart/hello
sed -i 's/version 1/version 2/' www/index.html
git -c user.name=Ann -c user.email=ann@example.com commit -qam 'Version 2'
git push pushboat main
"""
ASK = """
. .quickstart/env
curl --silent --show-error --fail --header "Host: hello.$PUSHBOAT_DOMAIN" "http://$PUSHBOAT_HOST:$PUSHBOAT_HTTP/"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Fresh]:
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(tmp_path / "tree")], check=True)
    with fresh(tmp_path / "tree") as made:
        yield made


def test_a_fresh_machine_comes_to_a_live_app_and_back_and_is_a_server_after_an_install(machine: Fresh) -> None:
    assert machine.run("sh", "-c", "command -v docker haproxy curl iptables pip").returncode != 0
    up = machine.must("scripts/quickstart")
    assert re.search(r"Packages: installed .*haproxy.*\(\d+\.\d s\)", up)
    assert re.search(r"Docker engine: started docker.service", up)
    assert "hello is live at" in up and "version 1" in machine.must("bash", "-c", ASK)
    changed = machine.run("bash", "-c", CHANGE)
    assert changed.returncode == 0 and "Application deployed" in changed.stderr, changed
    assert "version 2" in machine.must("bash", "-c", ASK)
    _a_second_time(machine)
    _down_and_only_that(machine)
    _installed(machine)


def _a_second_time(machine: Fresh) -> None:
    pid = machine.must("sh", "-c", "cat .quickstart/agent.process")
    again = machine.must("scripts/quickstart")
    assert "Packages: all there" in again and "Docker engine: answers" in again
    assert machine.must("sh", "-c", "cat .quickstart/agent.process") == pid
    assert "version 2" in machine.must("bash", "-c", ASK)


def _down_and_only_that(machine: Fresh) -> None:
    machine.must("docker", "network", "create", FOREIGN)
    machine.must("docker", "volume", "create", FOREIGN)
    machine.must("sh", "-c", f"tar -cC /usr/share/doc git | docker import - {FOREIGN}")
    machine.must("docker", "create", "--name", FOREIGN, "--network", FOREIGN, f"--volume={FOREIGN}:/v", FOREIGN, "/x")
    machine.must("iptables", "-A", "INPUT", "-s", "192.0.2.7", "-j", "DROP")
    machine.must("touch", FOREIGN)
    machine.must("scripts/quickstart", "--down")
    kept = machine.docker()
    assert [len(kept[kind]) for kind in ("containers", "volumes", "images")] == [1, 1, 1], kept
    assert len(kept["networks"]) == 4, "Docker's own three, and the foreign one"
    assert not any("pushboat" in rule.lower() for rule in machine.rules())
    assert "-A INPUT -s 192.0.2.7/32 -j DROP" in machine.rules()
    assert machine.files() == {f"?? {FOREIGN}"}
    assert "dockerd" in machine.programs() and "python" not in machine.programs()
    assert "Nothing to remove" in machine.must("scripts/quickstart", "--down")


def _installed(machine: Fresh) -> None:
    machine.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", "/root/key")
    said = machine.must("scripts/install", "--ssh-key", "/root/key.pub", "--domain", "apps.example.org")
    assert "Pushboat runs" in said and "SHA256:" in said
    ssh = ("ssh", "-i", "/root/key", "-p", "2222", "-o", "StrictHostKeyChecking=accept-new", "pushboat@localhost")
    assert "apps.example.org" in machine.must(*ssh, "domains:report", "--global")
    machine.must("scripts/install", "--uninstall", "--purge")
    left = "/opt/pushboat /etc/pushboat /var/lib/pushboat /var/log/pushboat-install /usr/local/bin/pushboat"
    assert machine.must("sh", "-c", f"ls -d {left} 2>/dev/null || true") == ""
    assert machine.run("id", "pushboat").returncode != 0
    assert len(machine.docker()["containers"]) == 1, f"the foreign one; {TREE} removed more, or left something"
