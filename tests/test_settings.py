"""Settings come from the file, then from the environment; one that is unknown or wrong stops the start and is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agent.bootstrap.validity import check
from agent.errors import Misconfigured
from agent.settings import NOT_SETTINGS, Settings, load

TEXT = """
[ssh]
port = 2200
idle = 60
[http]
binds = ["0.0.0.0:80", "[::]:80"]
[git]
creates_apps = false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pushboat.toml"
    path.write_text(TEXT)
    return path


def test_what_is_not_set_is_as_the_page_says() -> None:
    assert load(None, {}) == Settings()
    assert load(None, {"PATH": "/bin", "HOME": "/root"}) == Settings()


def test_the_environment_wins_over_the_file(file: Path) -> None:
    environment = {
        "PUSHBOAT_SSH_PORT": "2300",
        "PUSHBOAT_HTTP_BINDS": "127.0.0.1:8080, [::1]:8080",
        "PUSHBOAT_GIT_CREATES_APPS": "true",
        "PUSHBOAT_BUS_GRACE": "2.5",
        "PUSHBOAT_DATA_FOLDER": "/srv/pushboat",
        "PUSHBOAT_HTTP_TRUSTED_PROXIES": "",
    }
    before, after = load(file, {}), load(file, environment)
    assert (before.ssh.port, before.ssh.idle, before.git.creates_apps) == (2200, 60.0, False)
    assert before.http.binds == ("0.0.0.0:80", "[::]:80")
    assert (after.ssh.port, after.ssh.idle, after.git.creates_apps) == (2300, 60.0, True)
    assert after.http.binds == ("127.0.0.1:8080", "[::1]:8080")
    assert (after.bus.grace, after.folder, after.http.trusted_proxies) == (2.5, Path("/srv/pushboat"), ())


def test_every_setting_can_be_given_by_the_environment() -> None:
    for table in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(table.type):
            value = getattr(getattr(Settings(), table.name), field.name)
            text = ",".join(value) if isinstance(value, tuple) else str(value).lower() if value is True else str(value)
            name = f"PUSHBOAT_{table.name}_{field.name}".upper()
            assert load(None, {name: text.lower() if isinstance(value, bool) else text}) == Settings(), name


def test_variables_of_the_client_are_no_settings() -> None:
    assert load(None, dict.fromkeys(NOT_SETTINGS, "x")) == Settings()


WRONG = {
    "a table that is none": ("[sssh]\nport = 1", "[sssh] is no table of settings."),
    "a key at the top": ("port = 1", "[port] is no table of settings."),
    "a key that is none": ("[ssh]\nprot = 1", "ssh.prot is not a setting."),
    "a text for a number": ('[ssh]\nport = "x"', "The setting ssh.port is wrong: expected `int`, got `str`."),
    "a port out of range": ("[ssh]\nport = 70000", "The setting ssh.port is wrong"),
    "a negative limit": ("[git]\nmax_files = -1", "The setting git.max_files is wrong"),
    "a time that never comes": ("[ssh]\nlogin_grace = inf", "The setting ssh.login_grace is wrong"),
    "a time that is none": ("[ssh]\nlogin_grace = nan", "The setting ssh.login_grace is wrong"),
    "no time at all": ("[ssh]\nlogin_grace = 0", "The setting ssh.login_grace is wrong"),
    "a format that is none": ('[logs]\nformat = "xml"', "The setting logs.format is wrong"),
    "a number for a table": ("ssh = 3", "The setting ssh is wrong"),
    "a port in a list that is none": ('[network]\nopen_ports = ["http"]', "The setting network.open_ports"),
    "a text for a list": ('[http]\nbinds = "0.0.0.0:80"', "The setting http.binds is wrong"),
    "TOML that is none": ("[ssh\n", "cannot be read"),
    "a small pool": ('[network]\npool = "10.0.0.0/24"', "network.pool 10.0.0.0/24 is too small."),
    "a pool that is none": ('[network]\npool = "10.0.0.1/16"', "network.pool is not an IPv4 network"),
    "nowhere to listen": ("[http]\nbinds = []", "no address to listen on"),
    "a bind that is none": ('[http]\nbinds = ["nonsense"]', "cannot listen on 'nonsense'"),
    "a proxy that is none": ('[http]\ntrusted_proxies = ["junk"]', "'junk' is not a network that can be trusted"),
    "proxies among the apps": (
        '[http]\ntrusted_proxies = ["10.213.16.0/20"]',
        "http.trusted_proxies names 10.213.16.0/20, where apps have their addresses (network.pool 10.213.0.0/16).",
    ),
    "a domain that is none": ('[domains]\ndefault = "a domain!"', "domains.default 'a domain!' is not a domain name."),
    "a socket that is none": ('[engine]\nsocket = "tcp://1.2.3.4:5"', "engine.socket 'tcp://1.2.3.4:5' is no socket."),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(Misconfigured) as refused:
        check(load(tmp_path / "file", {}))
    assert says in refused.value.message
    assert refused.value.hint and refused.value.status == 78


@pytest.mark.parametrize("networks", ["10.0.0.0/8", "0.0.0.0/0,::/0", "127.0.0.0/8,10.212.0.1,192.168.0.0/16,fd00::/8"])
def test_networks_that_hold_more_than_apps_may_be_trusted(networks: str) -> None:
    check(load(None, {"PUSHBOAT_HTTP_TRUSTED_PROXIES": networks}))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PUSHBOAT_SSH_PROT", "1", "PUSHBOAT_SSH_PROT is not a setting."),
        ("PUSHBOAT_SSSH_PORT", "1", "PUSHBOAT_SSSH_PORT is not a setting."),
        ("PUSHBOAT_NONSENSE", "1", "PUSHBOAT_NONSENSE is not a setting."),
        ("PUSHBOAT_SSH_PORT", "x", "The setting ssh.port is wrong"),
        ("PUSHBOAT_HTTP_IS_SUPERVISED", "maybe", "The setting http.is_supervised is wrong"),
        ("PUSHBOAT_LOGS_BUDGET_BYTES", "1.5", "The setting logs.budget_bytes is wrong"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load(None, {name: value})
    assert says in refused.value.message


@pytest.mark.slow
def test_the_agent_says_what_is_wrong_and_ends_with_78(file: Path, tmp_path: Path) -> None:
    def agent(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "agent", "--config", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    assert agent(str(file), "check").returncode == 0
    file.write_text("[ssh]\nprot = 1\n")
    for word in ("check", "run"):
        refused = agent(str(file), word)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert refused.stderr.startswith(" !     ssh.prot is not a setting.\n       See docs/settings.md")
    missing = agent(str(tmp_path / "none.toml"), "check")
    assert missing.returncode == 78 and "none.toml cannot be read" in missing.stderr


def test_a_variable_beside_a_table_that_is_none_leaves_that_to_be_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ssh = 3")
    with pytest.raises(Misconfigured, match="The setting ssh is wrong"):
        load(tmp_path / "file", {"PUSHBOAT_SSH_PORT": "2200"})


def test_every_variable_that_the_client_reads_is_no_setting() -> None:
    files = (Path(__file__).parents[1] / "cli").glob("*.py")
    read = {name for path in files for name in re.findall(r"PUSHBOAT_[A-Z_]+", path.read_text())}
    assert read and read <= NOT_SETTINGS
