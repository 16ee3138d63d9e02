"""What measurements print: lines of JSON for programs on standard output, a table for people on standard error."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bench.measured import Figure, both, figure, report
from bench.switch_report import tell
from bench.visitors.tally import Tally

KEYS = ["measure", "unit", "ours", "reference", "ratio", "aim", "runs"]


def test_a_figure_is_one_line_with_the_medians_of_both_series() -> None:
    made = figure("push.answered", [0.5, 9.0, 0.6], [0.25, 0.3, 0.3], unit="s", aim="ratio <= 1.3")
    line = made.json()
    assert "\n" not in line
    assert list(json.loads(line)) == KEYS
    assert json.loads(line) == {
        "measure": "push.answered",
        "unit": "s",
        "ours": 0.6,
        "reference": 0.3,
        "ratio": 2.0,
        "aim": "ratio <= 1.3",
        "runs": 3,
    }


def test_what_counts_requests_tells_how_many_failed_also_when_none_did() -> None:
    for failed in (0, 7):
        line = both("ssh.logins", "s", (2.0, 4.0), "ratio <= 1", 200, failed=failed).json()
        assert list(json.loads(line)) == [*KEYS, "failed"]
        assert json.loads(line)["failed"] == failed


def test_beside_nothing_there_is_no_ratio() -> None:
    assert json.loads(Figure("cpu.1-app", "% of a core", 0.03, 0.0, "ours < 0.5 %", 3).json())["ratio"] is None


def test_lines_go_to_standard_output_and_the_table_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [
        Figure("push.answered", "s", 0.68, 0.69, "ratio <= 1.3", 10),
        Figure("switch.failed", "requests", 3, 0, "ours = 0", 1_000, 3),
    ]
    report(figures)
    said = capsys.readouterr()
    assert said.out == "".join(f"{one.json()}\n" for one in figures)
    assert said.err.splitlines() == [
        "measure        ours                  reference   ratio  aim           runs",
        "push.answered  0.68 s                0.69 s      0.99   ratio <= 1.3  10",
        "switch.failed  3 requests, 3 failed  0 requests         ours = 0      1000",
    ]


def test_every_count_of_requests_of_a_switch_has_its_failures(capsys: pytest.CaptureFixture[str]) -> None:
    ours = {
        "keep-alive": Tally(requests=1_000, milliseconds={"quiet": [1.0], "ours": [2.0]}),
        "POST": Tally(requests=500, failures=Counter({"status 502": 2})),
    }
    theirs = {"keep-alive": Tally(requests=900, failures=Counter({"closed without an answer": 4}))}
    assert tell(ours, theirs, changes=(20, 5)) == 1
    said = {line["measure"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name: line.get("failed") for name, line in said.items() if line["unit"] == "requests"} == {
        "switch.failed": 2,
        "switch.failed.keep-alive": 0,
        "switch.failed.POST": 2,
    }
    assert (said["switch.failed"]["ours"], said["switch.failed"]["reference"]) == (2, 4)
    assert said["switch.failed"]["runs"] == 1_500
