from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UserError
from agent.manifests.procfile import argv, parse_procfile


def test_process_types_keep_their_order_and_release_stands_apart() -> None:
    parsed = parse_procfile(b"\xef\xbb\xbf# ours\nweb: ./server --port $PORT\r\n\nworker:run\nrelease: ./migrate\n")
    assert list(parsed.processes.items()) == [("web", "./server --port $PORT"), ("worker", "run")]
    assert parsed.release == "./migrate"


def test_a_command_may_hold_colons() -> None:
    assert parse_procfile(b"web: nc -l 0.0.0.0:80").processes == {"web": "nc -l 0.0.0.0:80"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"web: x\nnonsense", "Line 2 of Procfile is not of the form"),
        (b"\n\nweb:   ", "Line 3 of Procfile gives no command for web"),
        (b"we b: x", "Line 1 of Procfile is not of the form"),
        (b"w.b: x", "Line 1 of Procfile has a process name"),
        (b"a" * 64 + b": x", "Line 1 of Procfile has a process name"),
        (b"web: x\nweb: y", "Line 2 of Procfile says again what web is"),
        (b"web: x\n<<<<<<< HEAD\n", "Line 2 of Procfile holds the mark of an unresolved merge"),
        (b"web: x\n=======\n", "Line 2 of Procfile holds the mark of an unresolved merge"),
        (b"web: x\x00y", "Line 1 of Procfile holds a control character"),
        (b"web: x\nb: \xff", "Line 2 of Procfile is not UTF-8"),
        (b"# nothing\n", "names no process"),
        (b"", "names no process"),
    ],
)
def test_a_mistake_is_named_with_its_line(content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        parse_procfile(content)
    assert refused.value.code == "procfile.invalid"


@given(st.binary(max_size=300))
def test_garbage_is_parsed_or_refused(content: bytes) -> None:
    try:
        parsed = parse_procfile(content)
    except UserError:
        return
    assert parsed.processes or parsed.release


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("./server --port $PORT", ("./server", "--port", "5000")),
        ("./server --port ${PORT}", ("./server", "--port", "5000")),
        ("./server 'two words' --x=1", ("./server", "two words", "--x=1")),
        ("./server $HOME", ("/bin/sh", "-c", "exec ./server $HOME")),
        ("./a && ./b $PORT", ("/bin/sh", "-c", "./a && ./b 5000")),
        ("A=1 ./server", ("/bin/sh", "-c", "A=1 ./server")),
        ("exec ./server", ("/bin/sh", "-c", "exec ./server")),
        ("cd /app", ("/bin/sh", "-c", "cd /app")),
        ("exec ./server > log", ("/bin/sh", "-c", "exec ./server > log")),
        ("./server *.conf", ("/bin/sh", "-c", "exec ./server *.conf")),
        ("echo 'open", ("/bin/sh", "-c", "exec echo 'open")),
        ("./server $PORTAL", ("/bin/sh", "-c", "exec ./server $PORTAL")),
    ],
)
def test_argv_needs_a_shell_only_for_what_a_shell_does(command: str, expected: tuple[str, ...]) -> None:
    assert argv(command, environment={"PORT": "5000"}) == expected


def test_what_argv_gives_does_what_the_line_says(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    for command, expected in {
        "printf '%s|' one 'two three'": "one|two three|",
        "printf '%s|' *.txt": "a.txt|",
        'printf "%s" "$NAME"': "set",
        "NAME=other; printf $NAME": "other",
        "true && printf yes": "yes",
        "{ printf grouped; }": "grouped",
    }.items():
        env = {"PATH": "/usr/bin:/bin", "NAME": "set"}
        ran = subprocess.run(argv(command, environment={}), cwd=tmp_path, env=env, capture_output=True, text=True)
        assert ran.stdout == expected, command
