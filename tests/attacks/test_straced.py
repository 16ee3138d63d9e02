"""What strace has noted is read right: programs, and which of them are shells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.straced import is_shell, programs_in

RECORD = """\
12 execve("/usr/local/bin/git", ["git", "gc"], 0x7f /* 3 vars */) = -1 ENOENT (No such file or directory)
12 execve("/usr/bin/git", ["git", "-c", "a=\\"b, c\\"", "gc"], 0x7f /* 3 vars */) = 0
13 execve("/bin/sh", ["/bin/sh", "-c", "ssh -F x \\"$@\\""...], 0x7f /* 3 vars */ <unfinished ...>
13 <... execve resumed>)                   = 0
14 execveat(AT_FDCWD, "/bin/dash", ["dash"], 0x7f /* 1 var */, 0) = 0
15 +++ exited with 0 +++
"""


def test_programs_are_read_with_their_words() -> None:
    assert [(path, words[0]) for path, words in programs_in(RECORD)] == [
        ("/usr/bin/git", "git"),
        ("/bin/sh", "/bin/sh"),
        ("/bin/dash", "dash"),
    ]
    assert programs_in(RECORD)[0][1] == ["git", "-c", 'a=\\"b, c\\"', "gc"]
    assert [is_shell(*program) for program in programs_in(RECORD)] == [False, True, True]


@pytest.mark.parametrize(
    ("path", "words", "is_one"),
    [
        ("/bin/bash", ["bash"], True),
        ("/usr/bin/busybox", ["busybox", "sh", "-c", "id"], True),
        ("/usr/bin/busybox", ["sh"], True),
        ("/usr/bin/busybox", ["busybox", "true"], False),
        ("/proc/self/exe", ["-sh"], True),
        ("/usr/bin/git", ["git", "sh"], False),
        ("/usr/bin/ssh", ["ssh", "host"], False),
    ],
)
def test_a_shell_is_known_by_its_name(path: str, words: list[str], is_one: bool) -> None:
    assert is_shell(path, words) is is_one


def test_a_script_of_a_shell_is_one(tmp_path: Path) -> None:
    for first, is_one in (("#!/bin/sh", True), ("#! /usr/bin/env bash", True), ("#!/usr/bin/ssh -F", False)):
        script = tmp_path / "script"
        script.write_text(f"{first}\n")
        assert is_shell(str(script), [str(script)]) is is_one
