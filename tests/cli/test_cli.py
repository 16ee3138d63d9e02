"""The client as a program, with a stand-in for ssh that tells how it was called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli import linking, places, ssh, toml
from cli.places import Place
from cli.ssh import Terminals
from cli.trouble import Trouble

ROOT = Path(__file__).parents[2]

STUB = """#!{python}
import json, os, sys
kept = {{name: value for name, value in os.environ.items() if name.startswith("PUSHBOAT_") or name == "TZ"}}
with open({log!r}, "a") as file:
    file.write(json.dumps({{"argv": sys.argv, "environment": kept}}) + "\\n")
sys.stdout.write(os.environ.get("STUB_OUTPUT", ""))
sys.exit(int(os.environ.get("STUB_STATUS", "0")))
"""


class Shell:
    """A home, a folder and a PATH of its own, from which the client is started."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.folder = folder / "work"
        self.log = folder / "ssh.log"
        for each in (self.home, self.folder, folder / "bin"):
            each.mkdir()
        stub = folder / "bin" / "ssh"
        stub.write_text(STUB.format(python=sys.executable, log=str(self.log)))
        stub.chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PUSHBOAT_DATA": str(folder / "no-agent-here"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CEILING_DIRECTORIES": str(folder),
        }

    def pushboat(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the client."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def git(self, *words: str) -> None:
        """Run git."""
        subprocess.run(["git", *words], cwd=self.folder, env=self.environment, check=True, capture_output=True)

    def calls(self) -> list[dict[str, object]]:
        """Return how ssh was called."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A fresh home and folder."""
    return Shell(tmp_path)


def test_without_a_server_it_says_how_to_name_one(shell: Shell) -> None:
    bare = shell.pushboat()
    assert bare.returncode == 0 and "pushboat link <server>" in bare.stdout
    asked = shell.pushboat("apps:list")
    assert asked.returncode == 1
    assert asked.stderr.startswith(" !     I do not know which server") and "pushboat link" in asked.stderr
    assert shell.calls() == []


def test_the_git_remote_tells_server_and_app(shell: Shell) -> None:
    shell.git("init")
    linked = shell.pushboat("link", "box.example.com", "blog")
    assert linked.returncode == 0 and "ssh://pushboat@box.example.com:2222/blog" in linked.stdout
    assert shell.pushboat("config:set", "TITLE=My blog", "QUOTE='").returncode == 0
    (call,) = shell.calls()
    argv = call["argv"]
    assert isinstance(argv, list)
    assert argv[1:3] == ["-p", "2222"] and argv[-2] == "box.example.com" and argv[-3] == "--"
    assert argv[-1] == """config:set 'TITLE=My blog' 'QUOTE='"'"''"""
    assert call["environment"]["PUSHBOAT_APP"] == "blog"  # type: ignore[index]


def test_link_again_changes_the_remote(shell: Shell) -> None:
    shell.git("init")
    shell.pushboat("link", "one.example.com", "blog")
    again = shell.pushboat("link", "two.example.com:22", "shop")
    assert "ssh://pushboat@two.example.com:22/shop" in again.stdout
    assert shell.pushboat("link", "three.example.com").stdout.startswith(
        "-----> pushboat is ssh://pushboat@three.example.com:2222/work"
    )


def test_link_outside_a_repository_is_refused(shell: Shell) -> None:
    refused = shell.pushboat("link", "box.example.com", "blog")
    assert refused.returncode == 1 and "in no git repository" in refused.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("link",), "needs a server"),
        (("link", "-oProxyCommand=x", "blog"), "needs a server"),
        (("link", "a b", "blog"), "is not a server"),
        (("link", "box:99999", "blog"), "is not a server"),
        (("link", "box", "Blog!"), "cannot be the name"),
        (("completion", "tcsh"), "needs a shell"),
    ],
)
def test_wrong_words_are_refused(shell: Shell, words: tuple[str, ...], says: str) -> None:
    shell.git("init")
    refused = shell.pushboat(*words)
    assert refused.returncode == 1 and says in refused.stderr and "Traceback" not in refused.stderr


def test_the_environment_wins_over_the_remote(shell: Shell) -> None:
    shell.git("init")
    shell.pushboat("link", "box.example.com", "blog")
    shell.pushboat("logs", PUSHBOAT_HOST="other.example.com", PUSHBOAT_PORT="2200", PUSHBOAT_KEY="~/key")
    (call,) = shell.calls()
    argv = call["argv"]
    assert isinstance(argv, list)
    assert argv[2] == "2200" and argv[-2] == "other.example.com"
    assert argv[argv.index("-i") + 1] == str(shell.home / "key")
    assert "PUSHBOAT_APP" not in call["environment"], "another server's apps are others"  # type: ignore[operator]


def test_another_remote_can_be_named(shell: Shell) -> None:
    shell.git("init")
    shell.git("remote", "add", "staging", "deploy@staging.example.com:shop.git")
    shell.pushboat("urls", PUSHBOAT_GIT_REMOTE="staging")
    (call,) = shell.calls()
    argv = call["argv"]
    assert isinstance(argv, list)
    assert argv[2] == "22" and argv[-2] == "staging.example.com" and "deploy" in argv
    assert call["environment"]["PUSHBOAT_APP"] == "shop"  # type: ignore[index]


def test_the_settings_file_tells_the_server(shell: Shell) -> None:
    folder = shell.home / ".config" / "pushboat"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('# mine\nhost = "box.example.com"\nport = 2300\n')
    shell.pushboat("apps:list")
    assert shell.calls()[0]["argv"][2] == "2300"  # type: ignore[index]
    (folder / "config.toml").write_text('hots = "box"\n')
    refused = shell.pushboat("apps:list")
    assert refused.returncode == 1 and "'hots'" in refused.stderr


def test_root_on_the_server_signs_in_with_the_local_key(shell: Shell) -> None:
    data = shell.folder / "data"
    data.mkdir()
    (data / "local_key").write_text("key")
    (data / "ssh_host_key.pub").write_text("ssh-ed25519 AAAA pushboat host key\n")
    shell.pushboat("ssh-keys:list", PUSHBOAT_DATA=str(data))
    argv = shell.calls()[0]["argv"]
    assert isinstance(argv, list)
    assert argv[-2] == "127.0.0.1" and str(data / "local_key") in argv
    assert "KnownHostsCommand=/bin/echo pushboat-local ssh-ed25519 AAAA" in argv


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ('[ssh]\nhost = "10.0.0.5"\nport = 2_200\n', ("10.0.0.5", 2200)),
        ('ssh.host = "::"\nssh.port = 2200\n', ("::1", 2200)),
        ('[ssh]\nhost = "0.0.0.0"\n', ("127.0.0.1", 2222)),
        ("", ("127.0.0.1", 2222)),
    ],
)
def test_root_on_the_server_goes_where_its_agent_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, address: tuple[str, int]
) -> None:
    (tmp_path / "pushboat.toml").write_text(settings)
    (tmp_path / "local_key").write_text("key")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "AGENT_SETTINGS", str(tmp_path / "pushboat.toml"))
    found = places.find({"PUSHBOAT_DATA": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
    assert found and (found.host, found.port) == address


def test_its_status_is_that_of_the_command(shell: Shell) -> None:
    assert shell.pushboat("run", "false", PUSHBOAT_HOST="box", STUB_STATUS="20").returncode == 20


def test_a_command_that_is_too_long_is_told_of(shell: Shell) -> None:
    refused = shell.pushboat("config:set", "A=" + "x" * 100_000, "B=" + "y" * 100_000, PUSHBOAT_HOST="box")
    assert refused.returncode == 1 and "config:import" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "stdin", "stdout", "expected"),
    [
        (["run", "bash"], True, True, "-t"),
        (["run", "bash"], False, True, "-T"),
        (["run", "bash"], True, False, "-T"),
        (["--app", "blog", "run", "bash"], True, True, "-t"),
        (["run", "--no-tty", "bash"], True, True, "-T"),
        (["run", "--force-tty", "bash"], False, False, "-tt"),
        (["enter"], True, True, "-t"),
        (["logs", "-t"], True, True, "-t"),
        (["logs"], True, False, "-T"),
        (["apps:list"], True, True, "-T"),
        (["apps:destroy", "--force-tty"], True, True, "-T"),
        ([], True, True, "-T"),
    ],
)
def test_a_pty_is_asked_for_when_it_helps(words: list[str], stdin: bool, stdout: bool, expected: str) -> None:
    assert ssh.terminal_flag(words, Terminals(stdin=stdin, stdout=stdout)) == expected


def test_connections_are_shared_where_a_socket_can_be(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    short = Path("/tmp")
    assert ssh.control_folder({"XDG_RUNTIME_DIR": str(short)}) != str(short), "others may write there"
    line = ssh.command_line(
        Place("box", 2222), ["apps:list"], terminals=Terminals(False, False), control_folder="/run/user/1000"
    )
    assert "ControlPath=/run/user/1000/pushboat-00000000-%C" in line and "ControlMaster=auto" in line
    assert not [
        word
        for word in ssh.command_line(
            Place("box", 2222), ["apps:list"], terminals=Terminals(False, False), control_folder=""
        )
        if "Control" in word
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://pushboat@box:2222/blog", ("box", 2222, "pushboat", "blog")),
        ("ssh://box/blog.git", ("box", 22, "pushboat", "blog")),
        ("ssh://me@[::1]:2222/~/blog", ("::1", 2222, "me", "blog")),
        ("dokku@box.example.com:blog", ("box.example.com", 22, "dokku", "blog")),
        ("https://example.com/blog.git", None),
        ("/srv/git/blog", None),
        ("", None),
    ],
)
def test_urls_are_read_as_git_reads_them(url: str, expected: tuple[str, int, str, str] | None) -> None:
    found = places.read_url(url)
    assert (found and (found.host, found.port, found.user, found.app)) == expected


def test_a_server_with_an_address_of_version_6_can_be_linked() -> None:
    assert linking.url_of("[::1]:2222", app="blog") == "ssh://pushboat@[::1]:2222/blog"


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(Trouble):
        places.find({"PUSHBOAT_HOST": "box", "PUSHBOAT_PORT": "99999", "HOME": "/nonexistent"})


def test_the_part_of_toml_that_is_needed_is_read() -> None:
    text = "a = \"x\" # y\n[ssh]\nhost = '0.0.0.0'\nport = 2222\nlist = [1, 2]\n[http]\nport = 80\n"
    assert toml.read(text) == {"a": "x", "ssh.host": "0.0.0.0", "ssh.port": "2222", "http.port": "80"}


def test_completion_asks_the_server_once_a_day(shell: Shell) -> None:
    environment = {"PUSHBOAT_HOST": "box", "STUB_OUTPUT": "apps:create\napps:list\nlogs\n"}
    assert shell.pushboat("__complete", "pushboat app", **environment).stdout == "apps:create\napps:list\n"
    assert shell.pushboat("__complete", "pushboat l", **environment).stdout == "link\nlogs\n"
    assert len(shell.calls()) == 1
    shell.pushboat("__complete", "pushboat logs --ta", **environment)
    assert shell.calls()[1]["argv"][-1] == "complete -- logs --ta"  # type: ignore[index]


def test_completion_without_a_server_knows_its_own_commands(shell: Shell) -> None:
    assert shell.pushboat("__complete", "pushboat ").stdout == "completion\nlink\n"
    assert shell.pushboat("__complete", "pushboat co", PUSHBOAT_PORT="x").stdout == "completion\n"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid(shell: Shell, name: str) -> None:
    script = shell.pushboat("completion", name).stdout
    assert "pushboat __complete" in script
    if found := shutil.which(name):
        checked = subprocess.run([found, "-n"], input=script, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_bash_completes_a_command_with_a_colon(shell: Shell) -> None:
    script = shell.pushboat("completion", "bash").stdout
    ask = (
        "pushboat() { printf 'apps:create\\napps:list\\n'; }\n"
        + script
        + "COMP_WORDBREAKS=' :' COMP_LINE='pushboat apps:' COMP_POINT=14\n"
        + "_pushboat\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    answered = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert answered.stdout == "create\nlist\n"


def test_the_client_imports_nothing_heavy() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", "import sys, cli.__main__; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"msgspec", "asyncio", "argparse", "tomllib", "typing_extensions", "structlog", "agent", "pathlib", "json"}
    assert not heavy & set(asked.stdout.split())
