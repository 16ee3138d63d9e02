from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.builders.frontend import find_frontend
from agent.ports.images import BuildFailed


@pytest.mark.parametrize(
    ("content", "image", "without"),
    [
        (b"# syntax=docker/dockerfile:1\nFROM x\n", "docker/dockerfile:1", b"#\nFROM x\n"),
        (b"#syntax = docker.io/docker/dockerfile:1-labs\r\nFROM x", "docker.io/docker/dockerfile:1-labs", b"#\nFROM x"),
        (b"# SYNTAX=docker/dockerfile-upstream:master\nFROM x", "docker/dockerfile-upstream:master", b"#\nFROM x"),
        (b"\xef\xbb\xbf# syntax=docker/dockerfile\nFROM x", "docker/dockerfile", b"#\nFROM x"),
        (b"# syntax=docker/dockerfile:1\n# escape=`\nFROM x", "docker/dockerfile:1", b"# escape=`\n#\nFROM x"),
        (b"# escape=`\n# syntax=docker/dockerfile:1\nFROM x", "docker/dockerfile:1", b"# escape=`\n#\nFROM x"),
        (b"#!/usr/bin/env docker\n# syntax=docker/dockerfile:1\nFROM x", "docker/dockerfile:1",
         b"#!/usr/bin/env docker\n#\nFROM x"),
        (b"//syntax=docker/dockerfile:1\nFROM x", "docker/dockerfile:1", b"#\nFROM x"),
    ],
)  # fmt: skip
def test_docker_s_own_frontends_are_found_and_can_be_left_out(content: bytes, image: str, without: bytes) -> None:
    found = find_frontend(content, path="Dockerfile")
    assert found is not None
    assert (found.image, found.without) == (image, without)
    assert find_frontend(found.without, path="Dockerfile") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"FROM x\n# syntax=evil/x\n", b"# a comment\nFROM x", b"# syntax\nFROM x", b"RUN echo '# syntax=x'"],
)
def test_other_dockerfiles_ask_for_none(content: bytes) -> None:
    assert find_frontend(content, path="Dockerfile") is None


@pytest.mark.parametrize(
    "line",
    [b"# syntax=evil/frontend", b"#  SynTax  =evil/docker/dockerfile", b"# syntax=docker.io.evil.com/docker/dockerfile",
     b"# syntax=docker/dockerfile:1 evil", b"# syntax=docker/dockerfile/../../evil", b"# syntax=docker/dockerfilex:1",
     b"// syntax=evil/x", b"\n# syntax=evil/x", b"# syntax=", b"{\"syntax\": \"evil/x\"}", b" # syntax=evil/x",
     b"# a=b\n# syntax=docker/dockerfile:1\n# syntax=evil/x", b"\xef\xbb\xbf# syntax=evil/x"],
)  # fmt: skip
def test_all_others_are_refused(line: bytes) -> None:
    with pytest.raises(BuildFailed):
        find_frontend(line + b"\nFROM x\n", path="Dockerfile")


@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused(content: bytes) -> None:
    try:
        found = find_frontend(content, path="Dockerfile")
    except BuildFailed:
        return
    assert found is None or found.without.count(b"\n") == content.removeprefix(b"\xef\xbb\xbf").count(b"\n")
