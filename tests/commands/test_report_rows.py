"""Rows of reports are those that Dokku's scripts read, but for those that docs/reports.md gives a reason for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from agent.commands.catalogue import every_command
from tests.commands.desk import Desk

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "reports.txt"
"""Rows of Dokku's reports, by noun, for the nouns that it has in common with us."""
PAGE = ROOT / "docs" / "reports.md"
OWN = ("builder:secrets", "disk")
"""Nouns of reports that Dokku does not have."""


def wanted() -> Mapping[str, set[str]]:
    """Return the rows of each of Dokku's reports."""
    parts = re.split(r"^\[(.*)\]$", GOLDEN.read_text(), flags=re.MULTILINE)[1:]
    return {noun: set(rows.split()) for noun, rows in zip(parts[::2], parts[1::2], strict=True)}


def excused() -> Mapping[str, str]:
    """Return why there is no such row, by row (``ps-start-cmd``) or noun (``logs``)."""
    found = {}
    for line in re.split(r"\nThese rows[^\n]*\n", PAGE.read_text())[1].splitlines():
        if line.startswith("| `"):
            names, reason = line.strip("| ").split(" | ")
            found |= {name.removeprefix("--"): reason for name in re.findall(r"`([^`]+)`", names)}
    return found


async def rows(desk: Desk, noun: str, about: str = "blog") -> set[str]:
    """Return the rows of a report; each can be asked for by its name."""
    refused = await desk.give(f"{noun}:report {about} --no-such-row")
    return set(re.findall(r"--([a-z0-9_.-]+)", refused.err.partition("Rows: ")[2]))


async def test_each_report_has_the_rows_of_dokkus_or_says_why_not(desk: Desk) -> None:
    await desk.deployed("blog")
    await desk.give("resource:limit blog --process-type web --memory 64m")
    there = {entry.name.removesuffix(":report") for entry in every_command().entries() if ":report" in entry.name}
    missing = set()
    for noun, of_dokku in wanted().items():
        if noun in there:
            missing |= of_dokku - await rows(desk, noun)
        else:
            missing.add(noun)
    assert missing == set(excused())
    assert there - set(wanted()) == set(OWN)


def test_a_row_that_is_not_there_has_a_reason() -> None:
    assert len(excused()) > 15
    assert [row for row, reason in excused().items() if len(reason) < 20] == []


@pytest.mark.parametrize(
    ("line", "values"),
    {
        "ps:report blog": {"computed-restart-policy": "on-failure:10", "restart-policy": "", "ps-restart-policy": ""},
        "ps:report --global": {"global-restart-policy": ""},
        "git:report blog": {"computed-archive-max-files": "100000", "global-archive-max-size": str(1 << 30)},
        "git:report --global": {"global-archive-max-files": "100000"},
        "proxy:report blog": {"enabled": "true", "proxy-computed-disabled": "false", "computed-proxy-port": "80"},
    }.items(),
)
async def test_what_nobody_can_set_is_told_as_it_holds(desk: Desk, line: str, values: dict[str, str]) -> None:
    await desk.give("apps:create blog")
    told = msgspec.json.decode((await desk.give(f"{line} --format json")).out, type=dict[str, str])
    assert {key: told[key] for key in values} == values


async def test_the_servers_reports_have_rows_of_the_server_alone(desk: Desk) -> None:
    await desk.give("apps:create blog")
    for noun in ("ps", "git", "proxy", "checks", "builder"):
        assert not [row for row in await rows(desk, noun, "--global") if f"{noun}-global-" not in row], noun
