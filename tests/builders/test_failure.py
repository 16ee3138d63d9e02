from __future__ import annotations

import pytest

from agent.builders.failure import Failure, explain
from agent.errors import Unavailable

_NO_HOST = (
    'failed to do request: Head "https://registry-1.docker.io/v2/library/node/manifests/20": '
    "dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host"
)


def told(failure: Failure, *, ignored: frozenset[str] = frozenset(), lost: str = "") -> str:
    return str(
        explain(
            failure,
            dockerfile="Dockerfile",
            ignored=ignored,
            lost_frontend=lost,
            app_name="blog",
            missing_secrets={"KEY"},
        )
    )


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (
            Failure(message="x", step="[internal] load metadata for docker.io/library/node:20", reason=_NO_HOST),
            "The base image docker.io/library/node:20 could not be had: its registry registry-1.docker.io cannot be",
        ),
        (
            Failure(message="x", step="[internal] load metadata for docker.io/a/b:1",
                    reason="pull access denied, repository does not exist or may require authorization"),
            "docker.io/a/b:1 could not be had: its registry has no such image, or wants to know who asks",
        ),
        (
            Failure(message="x", step="[internal] load metadata for ghcr.io/a/b:1",
                    reason="ghcr.io/a/b:1: manifest unknown"),
            "could not be had: its registry has no such image (",
        ),
        (
            Failure(message="x", step="[internal] load metadata for ghcr.io/a/b:1",
                    reason="unexpected status from HEAD request to https://ghcr.io/v2/a/b/manifests/1: 503 Service "
                    "Unavailable"),
            "could not be had: its registry ghcr.io is too busy, or out of order, or you have used up what it allows",
        ),
        (
            Failure(message="x", step="[2/3] RUN  make  all", reason="executor failed running [make]: exit code: 2",
                    last_lines=["a", "b"]),
            "The step [2/3] RUN make all failed: it ended with status 2. Its last lines:\n  a\n  b",
        ),
        (
            Failure(message="x", step="[2/3] RUN x", reason='process "/bin/sh -c x" did not complete successfully: '
                    "exit code: 137"),
            "that was killed, mostly for lack of memory.",
        ),
        (Failure(message="x", step="[2/3] RUN x", reason="[x]: exit code: 127"), "no such program in the image"),
        (
            Failure(message="x", step="[internal] load metadata for registry.example.com/a/b:1",
                    reason="failed to authorize: authorization failed: no basic auth credentials"),
            "To log in: registry:login blog registry.example.com <user> --password-stdin",
        ),
        (
            Failure(message="x", step="[2/2] RUN --mount=type=secret,id=KEY make", reason="secret KEY: not found"),
            "asks for the build secret KEY, which is not set. Set it, and deploy again: builder:secrets:set blog KEY=",
        ),
        (Failure(message="x", step="[2/2] RUN x", reason="secret OTHER: not found"), "The build failed: secret OTHER"),
        (
            Failure(message="failed to solve with frontend dockerfile.v0: failed to create LLB definition: "
                    "dockerfile parse error line 2: unknown instruction: FOO"),
            "Dockerfile: dockerfile parse error line 2: unknown instruction: FOO",
        ),
        (
            Failure(message="failed to solve with frontend dockerfile.v0: failed to create LLB definition: "
                    "target stage nope could not be found"),
            "The build failed: target stage nope could not be found",
        ),
        (Failure(message='failed to compute cache key: "/nope" not found: not found'),
         "A step needs nope, which is not in the build"),
    ],
)  # fmt: skip
def test_the_engine_s_words_become_a_sentence(failure: Failure, says: str) -> None:
    assert says in told(failure)


def test_a_file_that_dockerignore_keeps_out_is_named_so() -> None:
    failure = Failure(message='failed to compute cache key: "/dist" not found: not found')
    assert ".dockerignore keeps it out" in told(failure, ignored=frozenset({"dist/app.js"}))
    assert ".dockerignore" not in told(failure, ignored=frozenset({"distant"}))


def test_a_parse_error_names_the_frontend_that_was_left_out() -> None:
    failure = Failure(message="dockerfile parse error line 3: unknown instruction: TRUE")
    assert "without docker/dockerfile:1" in told(failure, lost="docker/dockerfile:1")


def test_a_full_disk_is_named_with_the_step_and_what_to_do() -> None:
    said = told(Failure(message="x", step="[2/2] RUN x", reason="write /y: no space left on device"))
    assert "ran out of disk space in the step [2/2] RUN x." in said and "disk:report" in said and "cleanup" in said


def test_a_program_that_finds_the_disk_full_is_believed() -> None:
    lines = ("cp: error writing '/big': No space left on device",)
    said = told(Failure(message="x", step="[2/2] RUN x", reason="exit code: 1", last_lines=lines))
    assert "ended with status 1: the disk is full" in said and "cleanup" in said and lines[0] in said


def test_a_session_that_is_lost_is_not_the_app_s_fault() -> None:
    failure = Failure(message="x", step="[2/2] RUN x", reason="no active sessions")
    assert isinstance(explain(failure, dockerfile="", ignored=frozenset(), lost_frontend=""), Unavailable)


def test_an_endless_reason_is_cut() -> None:
    assert len(told(Failure(message="x" * 1_000_000))) < 3_000
