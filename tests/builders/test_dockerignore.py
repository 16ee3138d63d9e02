from __future__ import annotations

import posixpath
import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.builders.dockerignore import parse_ignore
from agent.errors import UserError

PATHS = [
    ".git/config", "Dockerfile", "README.md", "a.log", "docs/README.md", "docs/a/b.md", "node_modules/x/index.js",
    "src/a.log", "src/main.py", "src/node_modules/y.js", "src/sub/a.log", "tmp/keep", "tmp/x", "weird[1].txt", "ä.txt",
]  # fmt: skip


def left(*lines: str) -> list[str]:
    ignored = parse_ignore("\n".join(lines).encode()).ignored(PATHS)
    return [path for path in PATHS if path in ignored]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), []),
        (("# *", "", "  "), []),
        (("*.log",), ["a.log"]),
        (("**/*.log",), ["a.log", "src/a.log", "src/sub/a.log"]),
        (("**.log",), []),
        (("src/**/a.log",), ["src/a.log", "src/sub/a.log"]),
        (("node_modules",), ["node_modules/x/index.js"]),
        (("/node_modules/",), ["node_modules/x/index.js"]),
        (("**/node_modules",), ["node_modules/x/index.js", "src/node_modules/y.js"]),
        (("./src/../tmp/x",), ["tmp/x"]),
        (("tmp", "!tmp/keep"), ["tmp/x"]),
        (("tmp", "!tmp/keep", "tmp/*"), ["tmp/keep", "tmp/x"]),
        (("!tmp/keep", "tmp"), ["tmp/keep", "tmp/x"]),
        (("*", "!src"), [path for path in PATHS if not path.startswith("src/")]),
        (("*", "!**/*.md"), [path for path in PATHS if not path.endswith(".md")]),
        (("**", "! src/main.py"), [path for path in PATHS if path != "src/main.py"]),
        (("docs/**",), ["docs/README.md", "docs/a/b.md"]),
        (("?.log",), ["a.log"]),
        (("[a-c].log",), ["a.log"]),
        (("[^a-c].log",), []),
        (("weird\\[1\\].txt",), ["weird[1].txt"]),
        (("[ä].txt",), ["ä.txt"]),
        (("*/*/a.log",), ["src/sub/a.log"]),
        (("READ*",), ["README.md"]),
        (("*E*",), ["README.md"]),
        (("src*a.log",), []),
        (("src**a.log",), ["src/a.log", "src/sub/a.log"]),
        (("src/**a.log",), ["src/a.log", "src/sub/a.log"]),
    ],
)
def test_patterns_mean_what_docker_says(lines: tuple[str, ...], expected: list[str]) -> None:
    assert left(*lines) == expected


def test_line_ends_of_windows_and_a_byte_order_mark_are_read_over() -> None:
    ignored = parse_ignore(b"\xef\xbb\xbftmp\r\n!tmp/keep\r\n").ignored(PATHS)
    assert ignored == {"tmp/x"}


@pytest.mark.parametrize(
    ("line", "says"),
    [("!", "has nothing after the !"), ("a[b", "has a \\[ that is not closed"), ("[z-a]", "runs backwards"),
     ("a\\", "lone backslash"), ("a**b*c*d*e*f", "more than 4 wildcards"),
     ("*" * 50 + "b", "more than 4 wildcards")],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(line: str, says: str) -> None:
    with pytest.raises(UserError, match=f"Line 2 of .dockerignore {says}|Line 2 of .dockerignore .*{says}"):
        parse_ignore(f"ok\n{line}\n".encode())


def reference(pattern: str) -> re.Pattern[str]:
    """Translate as moby/patternmatcher does, with no thought for time. For patterns without [ and backslash."""
    text, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            position += 2 + pattern.startswith("/", position + 2)
            text += ".*" if position >= len(pattern) else "(.*/)?"
        else:
            text += {"*": "[^/]*", "?": "[^/]"}.get(pattern[position], re.escape(pattern[position]))
            position += 1
    return re.compile(text)


_patterns = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "**", "?", "*a", "a*", "*a*b", "a?", "**a"]), min_size=1, max_size=4
)
_paths = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "abab"]), min_size=1, max_size=5)


@settings(max_examples=200)
@given(_patterns, _paths)
def test_every_pattern_matches_as_the_plain_translation_does(parts: list[str], path_parts: list[str]) -> None:
    pattern, path = "/".join(parts), "/".join(path_parts)
    assume("**a" not in parts or sum(part.count("*") for part in parts) <= 4)
    expression = reference(posixpath.normpath(pattern))
    folders = ["/".join(path_parts[:end]) for end in range(1, len(path_parts) + 1)]
    expected = any(expression.fullmatch(each) for each in folders)
    assert (path in parse_ignore(pattern.encode()).ignored([path])) == expected


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 30 + "b", "**/a/" * 30 + "b", "**/*a*a*a*a/" * 10 + "b", "**" * 2 + "b", "?*" * 30 + "b", "**/" * 40 + "b"],
)
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    """A backtracking translation would take longer than anyone waits; the time itself is not asserted."""
    paths = ["a" * 255, "/".join(["a"] * 99), "/".join(["aaaa" * 10] * 99)]
    started = time.perf_counter()
    assert parse_ignore(pattern.encode()).ignored(paths) == frozenset()
    print(f"{pattern[:20]}: {time.perf_counter() - started:.3f} s")


@given(st.binary(max_size=60))
def test_garbage_is_parsed_or_refused(content: bytes) -> None:
    try:
        parse_ignore(content).ignored(["a/b", "c"])
    except UserError as refused:
        assert refused.code == "dockerignore.invalid"
