"""Processes are known by pid and start time, end when told, and strangers are never hit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.house import processes
from scripts.house.processes import Process


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    return processes.spawn(["sleep", "60"], log=tmp_path / "log", environment=dict(os.environ), folder=tmp_path)


def test_a_spawned_process_leads_a_session_of_its_own(sleeper: Process) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid
    processes.kill(sleeper)


def test_a_process_is_found_again_from_what_was_written_down(sleeper: Process, tmp_path: Path) -> None:
    sleeper.save(tmp_path / "process")
    assert processes.load(tmp_path / "process") == sleeper
    processes.kill(sleeper)
    assert processes.load(tmp_path / "process") is None


def test_a_process_that_heeds_sigterm_is_not_killed(sleeper: Process) -> None:
    assert processes.end(sleeper)
    assert not sleeper.is_alive


def test_a_process_that_ignores_sigterm_is_killed_in_the_end(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    stubborn = processes.spawn([sys.executable, "-c", program], log=log, environment=dict(os.environ), folder=tmp_path)
    while "up" not in log.read_text():
        assert stubborn.is_alive
    assert not processes.end(stubborn, seconds=0.2)
    assert not stubborn.is_alive


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.find(child.pid) is None
    child.wait()


def test_a_stranger_that_got_the_pid_meanwhile_is_never_hit(sleeper: Process) -> None:
    gone = Process(sleeper.pid, sleeper.started - 1)
    assert not gone.is_alive
    assert processes.end(gone)
    assert sleeper.is_alive
    processes.kill(sleeper)


def test_a_program_with_spaces_and_parentheses_in_its_name_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a ) b ("
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "60"])
    # Popen returns once execve has closed its pipe, a moment before the kernel shows the new command line.
    while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
        assert child.poll() is None
    found = processes.find(child.pid)
    assert found is not None
    assert processes.naming(str(program)) == [found]
    assert processes.naming(str(program), programs=("a )",)) == [found]
    assert processes.naming(str(program), programs=("haproxy", "b (")) == []
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_broken_note_of_a_process_means_that_none_is_known(tmp_path: Path) -> None:
    (tmp_path / "process").write_text("not a number\n")
    assert processes.load(tmp_path / "process") is None
    assert processes.load(tmp_path / "missing") is None


def test_a_process_listens_where_it_itself_does_and_nowhere_else(sleeper: Process) -> None:
    myself = processes.find(os.getpid())
    assert myself
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert processes.listens(myself, port)
        assert not processes.listens(sleeper, port), "somebody else has it"
    assert not processes.listens(myself, port)
    processes.kill(sleeper)
    assert not processes.listens(sleeper, port)
