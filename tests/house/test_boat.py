"""What `Boat` writes is what the agent reads, and what it picks is free."""

from __future__ import annotations

import socket
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

from agent import settings
from agent.docker.firewall import doors_of
from scripts.house.addresses import FIRST_PORT, LAST_PORT, free_port
from scripts.house.boat import PLAIN_PATH, Boat


def boat(folder: Path) -> Boat:
    return Boat(folder, "/usr/bin/python3", 2222, 8080, IPv4Network("10.200.0.0/18"))


def test_the_agent_accepts_the_settings_that_are_written_for_it(tmp_path: Path) -> None:
    made = boat(tmp_path / "with space and 'quote'")
    made.folder.mkdir()
    made.settings = {"http": {"keep_alive": 2.0}, "git": {"creates_apps": False}}
    file = made.write_settings()
    read = settings.load(file, {})
    assert read.folder == made.data
    assert PLAIN_PATH.fullmatch(str(made.data))
    assert read.http.binds == ("127.0.0.1:8080",)
    assert read.http.keep_alive == 2.0
    assert read.git.creates_apps is False
    assert read.network.pool == "10.200.0.0/18"
    assert doors_of(read) == [], "what listens at loopback alone is no door for apps"


def test_ssh_understands_the_configuration_that_is_written_for_it(tmp_path: Path) -> None:
    made = boat(tmp_path / "with space")
    made.folder.mkdir()
    command = ["ssh", "-G", "-F", str(made.ssh_config), "pushboat"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "hostname 127.0.0.1" in said
    assert "port 2222" in said
    assert f"identityfile {made.key}" in said
    assert f"userknownhostsfile {made.known_hosts}" in said


def test_a_port_that_is_taken_is_not_picked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) != taken


def test_a_picked_port_is_none_that_the_system_gives_to_others() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert FIRST_PORT <= free_port() < LAST_PORT
    assert LAST_PORT < lowest
