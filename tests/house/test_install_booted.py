"""``scripts/install`` on a machine with systemd: install, push, again, upgrade, crash, remove, come back, purge."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.house.engine import Engine
from tests.support.booted import Booted, booted, clone
from tests.support.rig import BASE

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="the network of containers needs root")]

UNITS = (
    *("pushboat.service", "pushboat-proxy.service", "pushboat-proxy.socket", "pushboat-proxy.path"),
    *("pushboat-firewall.service", "pushboat-builds.service"),
)
AGENT, PROXY = UNITS[:2]
UNTIL_AGENT = "until pushboat version; do sleep 0.2; done"
SETTINGS = """[ssh]
host = "127.0.0.1"
port = {machine.ssh_port}
[http]
binds = ["127.0.0.1:{machine.http_port}"]
[domains]
default = "localhost"
[network]
pool = "{machine.pool}"
"""
PUSH = "GIT_SSH_COMMAND=ssh -i /root/key -o StrictHostKeyChecking=accept-new"
IDENTITY = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Booted]:
    engine = Engine()
    if not engine.has_image(BASE):
        engine.make_base(BASE)
    with booted(clone(tmp_path / "tree")) as made:
        made.must("mkdir", "-p", "/etc/pushboat", "/root/app")
        made.must("tee", "/etc/pushboat/pushboat.toml", stdin=SETTINGS.format(machine=made))
        made.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/key", "-C", "ann")
        yield made


def installed(machine: Booted, *options: str) -> str:
    """Install, upgrade or remove; return what was said."""
    done = machine.install(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def push(machine: Booted, text: str) -> None:
    """Push a page by plain git with the key that was let in."""
    dockerfile = f"FROM {BASE}\nCOPY . /www\nEXPOSE 5000\nCMD exec httpd -f -p $PORT -h /www\n"
    machine.must("tee", "/root/app/Dockerfile", stdin=dockerfile)
    machine.must("tee", "/root/app/index.html", stdin=text)
    machine.must("git", "-C", "/root/app", "init", "-q", "-b", "main")
    machine.must("git", "-C", "/root/app", "add", "--all")
    machine.must("git", "-C", "/root/app", *IDENTITY, "commit", "-qm", text)
    remote = f"ssh://pushboat@127.0.0.1:{machine.ssh_port}/blog"
    machine.must("env", PUSH, "git", "-C", "/root/app", "push", remote, "main")


def until_page(machine: Booted, text: str) -> None:
    """Wait until the app answers `text`; the limit of the test run ends what never does."""
    answer = None
    for _ in range(600):
        answer = machine.page("blog.localhost")
        if answer and answer.status == 200 and answer.text == text:
            return
        machine.run("sleep", "0.1")
    raise AssertionError(f"the app does not answer {text!r}, but {answer}")


@contextmanager
def asking(machine: Booted) -> Iterator[list[object]]:
    """Ask for the app's page without a pause meanwhile; collect what was no good answer."""
    bad: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = machine.page("blog.localhost")
            if answer is None or answer.status != 200:
                bad.append(answer)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield bad
    finally:
        stop.set()
        asker.join()


def versions(machine: Booted) -> set[str]:
    return set(machine.must("ls", "/opt/pushboat").split()) - {"current"}


def test_an_installation_from_the_first_start_to_its_end(machine: Booted) -> None:
    """One story, since each version costs a virtual environment."""
    said = installed(machine, "--ssh-key", "/root/key.pub")
    shown = machine.must("sh", "-c", f"ssh-keyscan -p {machine.ssh_port} 127.0.0.1 2>/dev/null | ssh-keygen -l -f -")
    assert f"Host key     {shown.split()[1]}\n" in said and "Pushboat runs" in said
    assert {machine.unit(unit, "ActiveState") for unit in UNITS} == {"active"}
    assert {machine.unit(unit, "UnitFileState") for unit in UNITS} == {"enabled"}
    assert machine.unit(PROXY, "CPUWeight") == machine.unit("pushboat.slice", "CPUWeight") == "1000"
    assert machine.unit(PROXY, "Slice") == "pushboat.slice"
    assert machine.must("stat", "-c", "%a %U", "/var/lib/pushboat").split() == ["700", "pushboat"]
    assert machine.must("ps", "-o", "user=", "-p", machine.unit(AGENT, "MainPID")).strip() == "pushboat"
    push(machine, "one")
    until_page(machine, "one")
    what_serves(machine)
    log_files(machine)
    again_and_a_newer_one(machine)
    a_new_key_with_the_old_comment(machine)
    a_version_that_does_not_start(machine)
    a_proxy_without_rights(machine)
    a_reload(machine)
    kills(machine)
    a_hang(machine)
    a_reboot(machine)
    a_wrong_setting(machine)
    removed_and_back(machine)
    purged(machine)


def what_serves(machine: Booted) -> None:
    """Replicas run beside the proxy, and apart from the engine's own work."""
    [replica] = Engine().containers(machine.must("cat", "/var/lib/pushboat/instance").strip())
    described = Engine().call("GET", f"/containers/{replica}/json")
    assert described["HostConfig"]["CgroupParent"].removeprefix("/") == "pushboat.slice"


def log_files(machine: Booted) -> None:
    """The agent, which is not root, reads the app's log out of Docker's own file; the others there are closed to it."""
    found = machine.must("ls", "-l", f"/proc/{machine.unit(AGENT, 'MainPID')}/fd").split()
    [log] = [word for word in found if word.endswith("-json.log")]
    as_agent = ("setpriv", "--reuid=pushboat", "--regid=pushboat", "--groups=docker")
    machine.must(*as_agent, "cat", log)
    folder = Path(log).parent
    assert machine.run(*as_agent, "cat", str(folder / "config.v2.json")).returncode != 0
    assert machine.run(*as_agent, "ls", str(folder.parent)).returncode != 0
    # What programs in containers read, whoever they run as.
    for name in ("resolv.conf", "hosts"):
        assert machine.must("stat", "-c", "%A", str(folder / name)).strip()[-3:] == "r--"
    assert "=====> Logs" not in machine.must("pushboat", "doctor")


def again_and_a_newer_one(machine: Booted) -> None:
    """Installing again adds nothing, from a newer tree it upgrades; the apps notice neither."""
    [first], proxy = versions(machine), machine.unit(PROXY, "MainPID")
    met = packets(machine)
    with asking(machine) as bad:
        assert "was there already" in installed(machine, "--ssh-key", "/root/key.pub")
        assert versions(machine) == {first}
        machine.must("sed", "-i", "$a # newer", "/root/pushboat/agent/__init__.py")
        installed(machine)
    assert bad == []
    [second] = versions(machine)
    assert second != first
    assert machine.must("readlink", "-f", "/opt/pushboat/current").strip() == f"/opt/pushboat/{second}"
    assert machine.unit(PROXY, "MainPID") == proxy, "the proxy was restarted"
    assert packets(machine) > met > 0, "the firewall rules were away for a moment"


def a_new_key_with_the_old_comment(machine: Booted) -> None:
    """A key that was made anew is let in beside the old one, by a name of its own."""
    machine.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/new", "-C", "ann")
    assert "added as ann-2; ann is another one" in installed(machine, "--ssh-key", "/root/new.pub")
    names = [line.split()[0] for line in machine.must("pushboat", "--quiet", "ssh-keys:list").splitlines()]
    assert {"ann", "ann-2"} <= set(names)


def a_version_that_does_not_start(machine: Booted) -> None:
    """It gives way to the one before, units and all; the app notices nothing, and neither does who asks the agent."""
    unit, current = "/etc/systemd/system/pushboat.service", "/opt/pushboat/current"
    before = machine.must("cat", unit), machine.must("readlink", current)
    source = "/root/pushboat/agent/bootstrap/running.py"
    machine.must("sed", "-i.good", "s/^    clock, ids = .*/    raise RuntimeError('broken')/", source)
    machine.must("sed", "-i", "$a # newer", "/root/pushboat/systemd/pushboat.service")
    with asking(machine) as bad:
        done = machine.install()
    assert done.returncode != 0
    assert "This step failed: Services" in done.stderr and "is back as it was" in done.stderr, done.stderr
    assert bad == []
    assert (machine.must("cat", unit), machine.must("readlink", current)) == before
    assert machine.unit(AGENT, "ActiveState") == "active"
    assert "blog" in machine.must("pushboat", "apps:list")
    # With its date of before, as where an older version is unpacked over a newer one; it is installed again below.
    machine.must("mv", f"{source}.good", source)


def packets(machine: Booted) -> int:
    """Return how many packets of containers the firewall's way in has counted since it was put there."""
    saved = machine.must("iptables-save", "--counters", "--table", "filter").splitlines()
    [line] = [line for line in saved if f" -A INPUT -s {machine.pool} " in line]
    return int(line.partition(":")[0].removeprefix("["))


def a_proxy_without_rights(machine: Booted) -> None:
    """HAProxy has no capability, and users of its own; what it listens at was given to it."""
    proxy = machine.unit(PROXY, "MainPID")
    status = machine.must("cat", f"/proc/{proxy}/status")
    for line in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert f"{line}:\t{'0' * 16}\n" in status
    assert "4294967295" not in machine.must("cat", f"/proc/{proxy}/uid_map"), "it sees root and its own user alone"
    assert f"127.0.0.1:{machine.http_port} (Stream)" in machine.unit("pushboat-proxy.socket", "Listen")
    assert machine.unit("pushboat-proxy.socket", "ActiveState") == "active"


def a_reload(machine: Booted) -> None:
    """A setting that HAProxy reads anew is taken over without a failed request."""
    proxy = machine.unit(PROXY, "MainPID")
    workers = machine.must("pgrep", "--parent", proxy)
    machine.must("sed", "-i", "s/^binds/keep_alive = 14.0\\nbinds/", "/etc/pushboat/pushboat.toml")
    with asking(machine) as bad:
        machine.must("systemctl", "restart", AGENT)
        machine.must("sh", "-c", f"until test \"$(pgrep --parent {proxy})\" != '{workers.strip()}'; do sleep 0.1; done")
        machine.must("sh", "-c", UNTIL_AGENT)
    assert bad == []
    assert machine.unit(PROXY, "MainPID") == proxy


def kills(machine: Booted) -> None:
    """Killed, agent and proxy come back by themselves; who comes meanwhile waits."""
    agent, proxy = machine.unit(AGENT, "MainPID"), machine.unit(PROXY, "MainPID")
    # The workers too: what one of them had accepted would go with it a moment later.
    machine.must("systemctl", "kill", "--signal=KILL", AGENT, PROXY)
    answer = machine.page("blog.localhost")
    assert answer is not None and answer.status == 200
    until_page(machine, "one")
    machine.must("sh", "-c", UNTIL_AGENT)
    push(machine, "two")
    until_page(machine, "two")
    assert machine.unit(AGENT, "MainPID") != agent and machine.unit(PROXY, "MainPID") != proxy


def a_hang(machine: Booted) -> None:
    """An agent that no longer says that its loop turns is ended by systemd, and the app serves meanwhile."""
    folder = "/run/systemd/system/pushboat.service.d"
    machine.must("mkdir", "-p", folder)
    machine.must("tee", f"{folder}/hang.conf", stdin="[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n")
    machine.must("systemctl", "daemon-reload")
    machine.must("systemctl", "restart", AGENT)
    hung = machine.unit(AGENT, "MainPID")
    machine.must("sleep", "4")
    assert machine.unit(AGENT, "MainPID") == hung, "one that has nothing to do says so too, for longer than that"
    with asking(machine) as bad:
        machine.must("kill", "-STOP", hung)
        machine.must("sh", "-c", f"while test -d /proc/{hung}; do sleep 0.2; done; {UNTIL_AGENT}")
    assert bad == []
    assert "Watchdog timeout" in machine.must("journalctl", "--unit", "pushboat", "--lines", "50")
    machine.must("rm", "-r", folder)
    machine.must("systemctl", "daemon-reload")
    machine.must("systemctl", "restart", AGENT)


def a_reboot(machine: Booted) -> None:
    """After a reboot all is back without a command, whichever of agent and proxy starts first."""
    instance = machine.must("cat", "/var/lib/pushboat/instance").strip()
    for order in ((PROXY, AGENT), (AGENT, PROXY)):
        # The path first: of several units systemctl has one stopped after the other, and a path that still looks would
        # start the proxy again, whose socket is just to be stopped.
        machine.must("systemctl", "stop", AGENT, *reversed(UNITS[1:4]), *UNITS[4:])
        subprocess.run(["docker", "stop", "--time=0", *Engine().containers(instance)], check=True, capture_output=True)
        assert machine.page("blog.localhost") is None
        for unit in (*UNITS[4:], *order, *UNITS[2:4]):
            machine.must("systemctl", "start", unit)
        until_page(machine, "two")


def a_wrong_setting(machine: Booted) -> None:
    """The start is refused once, and not tried again and again; the apps go on."""
    machine.must("sed", "-i", "1i frobnicate = 1", "/etc/pushboat/pushboat.toml")
    assert machine.run("systemctl", "restart", "pushboat").returncode != 0
    states = [machine.unit(AGENT, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert states == ["failed", "78", "0"]
    assert "frobnicate" in machine.must("journalctl", "--unit", "pushboat", "--lines", "20")
    until_page(machine, "two")
    machine.must("sed", "-i", "1d", "/etc/pushboat/pushboat.toml")


def removed_and_back(machine: Booted) -> None:
    """What was made is gone but for data, settings and images, which bring the app back."""
    instance = machine.must("cat", "/var/lib/pushboat/instance").strip()
    for _ in range(2):
        assert "data stays in" in installed(machine, "--uninstall")
        assert Engine().containers(instance) == []
        assert machine.page("blog.localhost") is None
        assert machine.run("ls", "/opt/pushboat").returncode != 0
        assert str(machine.pool) not in machine.must("iptables", "--list-rules")
        assert "pushboat" not in machine.must("ls", "/etc/systemd/system")
        left = machine.must("getfacl", "--absolute-names", *folders_of_logs())
        assert "group:docker" not in left and "default:" not in left
    other = f"127.0.0.2:{machine.http_port}"
    machine.must("sed", "-i", f's/^binds = \\[/&"{other}", /', "/etc/pushboat/pushboat.toml")
    installed(machine)
    until_page(machine, "two")
    assert machine.must("curl", "--silent", "--header", "Host: blog.localhost", f"http://{other}/") == "two"


def folders_of_logs() -> tuple[str, str]:
    root = Engine().call("GET", "/info")["DockerRootDir"]
    return root, f"{root}/containers"


def purged(machine: Booted) -> None:
    """Nothing is left; also after a removal, and also where there is nothing any more."""
    instance = machine.must("cat", "/var/lib/pushboat/instance").strip()
    installed(machine, "--uninstall")
    for _ in range(2):
        installed(machine, "--uninstall", "--purge")
        for path in ("/var/lib/pushboat", "/etc/pushboat", "/opt/pushboat", "/usr/local/bin/pushboat"):
            assert machine.run("ls", path).returncode != 0
        assert machine.run("id", "pushboat").returncode != 0
    images = ["docker", "images", "--quiet", "--filter", f"reference=pushboat-{instance}/*"]
    assert subprocess.run(images, capture_output=True, text=True, check=True).stdout == ""
