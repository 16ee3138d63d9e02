"""What ``scripts/machine.sh`` does to a machine that lacks something, on one made of stand-ins; and that it repeats."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.house import processes
from scripts.house.processes import Process
from tests.support.shell_functions import Called, Machine

pytestmark = pytest.mark.slow

NEEDS = "need_packages haproxy:haproxy git:git setfacl:acl"
APT = "apt-get -y -o DPkg::Lock::Timeout=120"
INSTALL = f"{APT} install --no-install-recommends"
BRINGS_ACL = ': >"${0%/*}/setfacl"; chmod 755 "${0%/*}/setfacl"'
NEEDS_LISTS = '[[ $* != *update* ]] || { : >"${0%/*}/lists"; exit; }; [[ -e ${0%/*}/lists ]] || exit 100'
ROOT = "is_root() { true; }"
NOBODY = "is_root() { false; }"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    for name in ("haproxy", "git"):
        made.stand_in(name)
    return made


def packages(machine: Machine, *, given: str = ROOT) -> Called:
    return machine.step("Packages", NEEDS, given=given)


def test_nothing_is_installed_where_all_is_there(machine: Machine) -> None:
    machine.stand_in("setfacl")
    machine.stand_in("apt-get", "exit 1")
    done = packages(machine)
    assert done.status == 0 and "-----> Packages: all there" in done.out
    assert machine.calls("apt-get") == []


def test_what_is_missing_is_installed_by_its_packages_name_and_only_once(machine: Machine) -> None:
    machine.stand_in("apt-get", BRINGS_ACL)
    done = packages(machine)
    assert done.status == 0 and "Packages: installed acl" in done.out
    assert machine.calls("apt-get") == [f"{INSTALL} acl"]
    assert "all there" in packages(machine).out
    assert machine.calls("apt-get") == []


def test_old_lists_are_fetched_anew_and_only_then(machine: Machine) -> None:
    machine.stand_in("apt-get", f"{NEEDS_LISTS}\n{BRINGS_ACL}")
    assert packages(machine).status == 0
    assert machine.calls("apt-get") == [f"{INSTALL} acl", f"{APT} update", f"{INSTALL} acl"]


def test_an_apt_that_fails_ends_the_step_and_is_quoted(machine: Machine) -> None:
    machine.stand_in("apt-get", 'echo "E: Unable to locate package ${*: -1}" >&2; exit 100')
    done = packages(machine)
    assert done.status == 100
    assert "This step failed: Packages" in done.err and "E: Unable to locate package acl" in done.err
    assert "----->" not in done.out


@pytest.mark.parametrize(
    ("given", "has_apt", "said"),
    [(NOBODY, True, "apt-get install acl"), (ROOT, False, "There is no apt-get here")],
    ids=["not root", "not Debian"],
)
def test_who_cannot_install_is_told_what_is_missing(machine: Machine, given: str, has_apt: bool, said: str) -> None:
    if has_apt:
        machine.stand_in("apt-get")
    done = packages(machine, given=given)
    assert done.status == 1
    assert "Missing on this machine: acl." in done.err and said in done.err
    assert machine.calls("apt-get") == []


def test_python_without_venv_gets_debians_package_for_it(machine: Machine) -> None:
    machine.stand_in("python3", "[[ -e ${0%/*}/venv ]]")
    machine.stand_in("apt-get", ': >"${0%/*}/venv"')
    for expected in ([f"{INSTALL} python3-venv"], []):
        done = machine.step("Packages", "need_packages python3:python3 ensurepip:python3-venv", given=ROOT)
        assert done.status == 0
        assert machine.calls("apt-get") == expected


class Engine:
    """A machine whose engine answers once `up` is there, and what ``need_engine`` does about it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folder = machine.folder / "engine"
        self.up = machine.folder / "up"
        self.pidfile = machine.folder / "docker.pid"
        machine.stand_in("curl", f'[[ -e "{self.up}" ]]')
        machine.stand_in("pgrep", "exit 1")
        machine.stand_in("setsid", 'exec "$@"')
        machine.stand_in("systemctl", f': >"{self.up}"')

    def has_dockerd(self, script: str | None = None) -> None:
        """Have dockerd; started, it makes the engine answer and ends, or does what `script` says."""
        self.machine.stand_in("dockerd", f': >"{self.up}"' if script is None else script)

    def need(self, *, has_systemd: bool = False, given: str = ROOT, patience: int = 50) -> Called:
        """Need an engine. `patience`: seconds it may take; one that comes is waited for no longer than it takes."""
        systemd = f"has_systemd() {{ {str(has_systemd).lower()}; }}"
        own = f'docker_pidfile="{self.pidfile}"\nengine_patience={patience}'
        return self.machine.step("Docker engine", f"need_engine '{self.folder}'", given=f"{given}\n{systemd}\n{own}")

    def acts(self) -> list[str]:
        """Return what was done that changes something."""
        return self.machine.calls("apt-get", "systemctl", "dockerd")


@pytest.fixture
def engine(machine: Machine) -> Engine:
    return Engine(machine)


def test_an_engine_that_answers_is_left_alone(engine: Engine) -> None:
    engine.machine.stand_in("apt-get")
    engine.up.touch()
    done = engine.need(given=NOBODY)
    assert done.status == 0 and "Docker engine: answers" in done.out
    assert engine.acts() == []


def test_without_an_engine_debians_is_installed_and_started_by_hand_where_systemd_is_absent(engine: Engine) -> None:
    dockerd = f"#!{engine.machine.programs}/bash\necho dockerd >>{engine.machine.folder}/calls\n: >{engine.up}\n"
    (engine.machine.folder / "dockerd").write_text(dockerd)
    engine.machine.stand_in("apt-get", f'cp {engine.machine.folder}/dockerd "${{0%/*}}"; chmod 755 "${{0%/*}}/dockerd"')
    done = engine.need()
    assert done.status == 0 and "started dockerd, pid " in done.out
    assert engine.acts() == [f"{INSTALL} docker.io iptables", "dockerd"]
    pid = done.out.partition("pid ")[2].split()[0].rstrip(")")
    assert (engine.folder / "dockerd.process").read_text().split()[0] == pid
    assert "answers" in engine.need().out
    assert engine.acts() == []


def test_an_engine_that_is_there_and_stopped_is_started_and_not_displaced(engine: Engine) -> None:
    engine.has_dockerd()
    engine.machine.stand_in("apt-get")
    assert "started docker.service" in engine.need(has_systemd=True).out
    assert engine.acts() == ["systemctl start docker"]
    engine.up.unlink()
    assert "started dockerd" in engine.need().out
    assert engine.acts() == ["dockerd "]


def test_an_engine_that_is_starting_is_waited_for(engine: Engine) -> None:
    engine.has_dockerd()
    engine.machine.stand_in("pgrep", f': >"{engine.up}"')
    done = engine.need()
    assert done.status == 0 and "was still starting" in done.out
    assert engine.acts() == []


def test_an_engine_that_does_not_come_up_fails_the_step_with_its_own_last_words(engine: Engine) -> None:
    engine.has_dockerd('echo "failed to start daemon: no space left on device"; exit 1')
    done = engine.need(patience=1)
    assert done.status == 1
    assert "This step failed: Docker engine" in done.err and "no space left on device" in done.err


def test_who_is_not_root_starts_no_engine(engine: Engine) -> None:
    engine.has_dockerd()
    done = engine.need(given=NOBODY)
    assert done.status == 1 and "No Docker engine answers" in done.err
    assert engine.acts() == []


@pytest.fixture
def living_dockerd(tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "dockerd").symlink_to("/bin/sleep")
    log = tmp_path / "log"
    made = processes.spawn([str(tmp_path / "dockerd"), "60"], log=log, environment=dict(os.environ), folder=tmp_path)
    yield made
    processes.kill(made)


@pytest.mark.parametrize("held_by", ["nobody", "a stranger"])
def test_a_pid_file_that_a_dead_engine_left_does_not_stop_a_new_one(engine: Engine, held_by: str) -> None:
    engine.has_dockerd()
    engine.pidfile.write_text("4194305" if held_by == "nobody" else str(os.getpid()))
    assert engine.need().status == 0
    assert not engine.pidfile.exists()


def test_the_pid_file_of_a_living_engine_stays(engine: Engine, living_dockerd: Process) -> None:
    engine.has_dockerd()
    engine.pidfile.write_text(f"{living_dockerd.pid}\n")
    assert engine.need().status == 0
    assert engine.pidfile.read_text() == f"{living_dockerd.pid}\n"
