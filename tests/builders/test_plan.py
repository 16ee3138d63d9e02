"""Plans rendered: nothing leaves its line, and nothing stands unquoted that could."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.builders.plan import (
    BuildPlan,
    BuildStage,
    Cache,
    Command,
    Copy,
    CopyFrom,
    Env,
    Run,
    Step,
    Workdir,
    Write,
    render,
)


def rendered(*steps: Step, base: str = "debian:bookworm-slim", context: str = "", caches: str = "") -> list[str]:
    plan = BuildPlan(why=(), stages=(BuildStage(base=base, steps=steps),))
    text = render(plan, context=context, caches=caches)
    made, _, start, *lines, last = text.split("\n")
    assert (made, start, last) == ("# Made by Pushboat.", f"FROM {base}", "")
    return lines


def test_steps_read_as_one_would_write_them() -> None:
    assert rendered(Run(("a", "b"), (Cache("pip", "/c"),))) == ["RUN --mount=type=cache,target=/c a \\", "    && b"]
    assert rendered(Copy(("a", "b"), "x/")) == ["COPY a b x/"]
    assert rendered(CopyFrom("build", "/app", is_apps=True)) == ["COPY --from=build --chown=10001:10001 /app /app"]
    assert rendered(Env({"A": 'b "c"', "P": "/x:$PATH"})) == ['ENV A="b \\"c\\""', 'ENV P="/x:$PATH"']
    assert rendered(Command(("a b", '"'))) == ["ENTRYPOINT []", 'CMD ["a b", "\\""]']
    assert rendered(Write("/etc/x/y", ("it's",))) == [
        "RUN mkdir -p /etc/x && printf '%s\\n' \\",
        "    'it'\"'\"'s' \\",
        "    > /etc/x/y",
    ]


def test_in_a_build_the_apps_files_are_in_a_folder_and_caches_bear_a_name() -> None:
    assert rendered(Copy(), Copy(("a/b",), "a/"), context="source") == ["COPY source/ ./", "COPY source/a/b a/"]
    assert rendered(Run(("x",), (Cache("pip", "/c"),)), caches="a1") == ["RUN --mount=type=cache,id=a1-pip,target=/c x"]


@pytest.mark.parametrize("evil", ["a\nRUN evil", "$(evil)", "a b", "../x", "--from=x", "a;b", "'", '"', "a\\", "", "é"])
def test_what_could_leave_its_place_is_refused(evil: str) -> None:
    for step in (Copy((evil,)), Copy(folder=evil), Workdir(evil), CopyFrom("build", evil), CopyFrom(evil, "/a")):
        with pytest.raises(ValueError):
            rendered(step)
    with pytest.raises(ValueError):
        render(BuildPlan(why=(), stages=(BuildStage(base=evil),)))
    with pytest.raises(ValueError):
        rendered(Env({evil: "x"}))


@given(st.text())
def test_a_command_is_one_line_whatever_its_words(word: str) -> None:
    (entry, line) = rendered(Command((word,)))
    assert entry == "ENTRYPOINT []"
    assert line.isascii() and line.isprintable()


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_a_line_that_is_written_comes_through_the_shell_as_it_was(text: str) -> None:
    if not text.isprintable() or text.endswith("\\"):
        with pytest.raises(ValueError):
            rendered(Write("/x/y", (text,)))
        return
    _, line, _ = rendered(Write("/x/y", (text,)))
    assert shlex.split(line.removesuffix(" \\")) == [text]


@given(st.lists(st.text()))
def test_whatever_the_reasons_are_they_are_comments(why: list[str]) -> None:
    text = render(BuildPlan(why=tuple(why), stages=()))
    assert all(line.startswith("#") for line in text.splitlines())
    assert text.startswith("# Made by Pushboat.\n")
