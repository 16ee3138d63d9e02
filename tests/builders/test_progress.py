from __future__ import annotations

import pytest

from agent.builders.progress import MAX_LINE, Progress
from agent.builders.trace import Output, Status, Trace, Vertex, Warning


class Watched:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.progress = Progress(self.lines.append, monotonic=lambda: self.now)

    def vertex(self, digest: str, name: str, *, error: str = "", is_cached: bool = False, started: float | None = 1.0,
               completed: float | None = None) -> None:  # fmt: skip
        told = Vertex(digest=digest, name=name, error=error, is_cached=is_cached, started=started, completed=completed)
        self.progress.show(Trace(vertexes=(told,)))

    def prints(self, digest: str, data: bytes) -> None:
        self.progress.show(Trace(outputs=(Output(vertex=digest, data=data),)))

    def measures(self, digest: str, layer: str, current: int, total: int) -> None:
        status = Status(id=layer, vertex=digest, current=current, total=total)
        self.progress.show(Trace(statuses=(status,)))


def test_a_step_is_told_with_its_output_and_its_time() -> None:
    watched = Watched()
    watched.vertex("a", "[1/2] FROM base", started=None)
    watched.vertex("a", "[1/2] FROM base", is_cached=True, completed=1.0)
    watched.vertex("b", "[2/2] RUN  make\n all")
    watched.prints("b", b"one\ntw")
    watched.prints("b", b"o\n\nhalf")
    watched.vertex("b", "[2/2] RUN  make\n all", completed=4.25)
    watched.vertex("c", "[internal] load build definition", completed=9.0)
    assert watched.lines == [
        "       [1/2] FROM base  CACHED",
        "       [2/2] RUN make all",
        "         one",
        "         two",
        "",
        "         half",
        "         done in 3.2 s",
    ]


def test_steps_that_speak_in_turns_are_told_apart() -> None:
    watched = Watched()
    watched.vertex("a", "[a 1/1] RUN x")
    watched.vertex("b", "[b 1/1] RUN y")
    watched.prints("a", b"from a\n")
    watched.prints("b", b"from b\n")
    watched.vertex("a", "[a 1/1] RUN x", completed=3.0)
    assert watched.lines == [
        "       [a 1/1] RUN x",
        "       [b 1/1] RUN y",
        "       [a 1/1] RUN x (goes on)",
        "         from a",
        "       [b 1/1] RUN y (goes on)",
        "         from b",
        "         [a 1/1] done in 2.0 s",
    ]


def test_a_progress_bar_shows_only_what_stood_there_last() -> None:
    watched = Watched()
    watched.vertex("a", "RUN x")
    watched.prints("a", b" 1%\r 50%\r 100%\r\nnext\n")
    assert watched.lines[1:] == ["          100%", "         next"]


def test_endless_lines_are_cut_and_memory_is_bounded() -> None:
    watched = Watched()
    watched.vertex("a", "RUN x")
    for _ in range(50):
        watched.prints("a", b"x" * 5_000)
    watched.vertex("a", "RUN x", completed=1.0)
    assert max(len(line) for line in watched.lines) <= MAX_LINE + 9
    assert sum(line.count("x") for line in watched.lines[1:]) == 250_000


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_of_10_000_characters_is_one_and_a_longer_one_two(end: bytes) -> None:
    watched = Watched()
    watched.vertex("a", "RUN x")
    watched.prints("a", b"x" * MAX_LINE + end)
    watched.prints("a", b"" if end else b"\n")
    watched.prints("a", b"y" * (MAX_LINE + 1) + end)
    watched.vertex("a", "RUN x", completed=1.0)
    assert [line.strip() for line in watched.lines[1:]] == ["x" * MAX_LINE, "y" * MAX_LINE, "y"]


def test_the_first_failure_counts_and_its_last_lines_are_kept() -> None:
    watched = Watched()
    watched.vertex("a", "[1/2] RUN a")
    watched.prints("a", b"".join(b"line %d\n" % number for number in range(100)))
    watched.vertex("b", "[2/2] RUN b", error="context canceled", completed=2.0)
    watched.vertex("a", "[1/2] RUN a", error="exit code: 3", completed=2.0)
    watched.vertex("c", "[2/2] RUN c", error="exit code: 4", completed=2.0)
    assert watched.progress.failed is not None
    assert watched.progress.failed.error == "exit code: 3"
    assert watched.progress.last_lines("a") == [f"line {number}" for number in range(85, 100)]
    assert watched.progress.last_lines("unknown") == []


def test_downloads_and_the_export_say_now_and_then_how_far_they_are() -> None:
    watched = Watched()
    watched.vertex("a", "[1/2] FROM big")
    watched.measures("a", "layer1", 10_000_000, 50_000_000)
    watched.measures("a", "layer2", 5_000_000, 10_000_000)
    watched.vertex("e", "exporting to image")
    for watched.now in (1.0, 4.9, 5.0, 6.0, 10.0):
        watched.progress.tick()
    assert watched.lines == [
        "       [1/2] FROM big",
        "       [1/2] FROM big  15.0 MB of 60.0 MB (5.0 s so far)",
        "       Storing the image (5.0 s so far)",
        "       [1/2] FROM big  15.0 MB of 60.0 MB (10 s so far)",
        "       Storing the image (10 s so far)",
    ]


def test_a_silent_step_is_said_to_be_running_once_a_minute() -> None:
    watched = Watched()
    watched.vertex("a", "[1/1] RUN sleep")
    for second in range(0, 131, 5):
        watched.now = float(second)
        watched.progress.tick()
    watched.vertex("a", "[1/1] RUN sleep", completed=140.0)
    watched.now = 500.0
    watched.progress.tick()
    assert watched.lines[1:] == [
        "         (still running, 1 min 0 s so far)",
        "         (still running, 2 min 0 s so far)",
        "         done in 2 min 19 s",
    ]


def test_warnings_are_passed_on() -> None:
    watched = Watched()
    watched.progress.show(Trace(warnings=(Warning(short="FromAsCasing: 'as' and 'FROM' differ"),)))
    assert watched.lines == [" !     FromAsCasing: 'as' and 'FROM' differ"]


def test_a_base_image_that_was_looked_up_and_is_then_fetched_tells_how_far_it_is() -> None:
    watched = Watched()
    watched.vertex("a", "[1/2] FROM base")
    watched.vertex("a", "[1/2] FROM base", completed=1.01)
    watched.vertex("a", "[1/2] FROM base", started=1.02)
    watched.measures("a", "layer", 3_000_000, 12_000_000)
    watched.now = 6.0
    watched.progress.tick()
    watched.vertex("a", "[1/2] FROM base", started=1.02, completed=9.02)
    assert watched.lines == [
        "       [1/2] FROM base",
        "       [1/2] FROM base  3.0 MB of 12.0 MB (6.0 s so far)",
        "         done in 8.0 s",
    ]
