"""The documentation tells what the code does, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.commands.catalogue import every_command
from agent.commands.parsing import HelpWanted, parse
from agent.commands.words import split
from agent.errors import UserError
from scripts.house import settings_page
from tests.support.pages import command_lines

ROOT = Path(__file__).parent.parent.parent
OF_THE_CLIENT = ("completion", "link")
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that say how it is now, not how it became so."""


def test_the_page_of_settings_is_made_from_the_code() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run: python -m scripts.house.settings_page"


def test_every_setting_says_what_it_does_and_why_its_default_is_so() -> None:
    rows = [line.split(" | ") for line in settings_page.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if len(row) != 5 or len(row[3]) < 10 or len(row[4].strip(" |")) < 10] == []


def test_every_amount_has_a_unit() -> None:
    """What is no count of things says seconds, bytes or percent, by its name or in its text."""
    amounts = re.compile(r"_(bytes|seconds|percent)$")
    for line in settings_page.page().splitlines():
        if not line.startswith("| `"):
            continue
        name, kind, _, text, _ = line.strip("| ").split(" | ")
        unit = amounts.search(name.strip("`"))
        if unit and not kind.startswith("seconds"):
            assert unit[1].lower() in text.lower(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_page_names_can_be_given(page: Path) -> None:
    registry = every_command()
    for line in command_lines(page.read_text()):
        line = line.replace(":why ID", ":why 1").replace("APP", "blog")
        words = [word for word in split(line) if word != "…"]
        if words[0] in OF_THE_CLIENT or (registry.get(words[0]) and len(words) == 1):
            continue
        # In a folder that is linked to an app, pages leave it out where it is plain.
        assert _can_be_given(words) or _can_be_given(words, linked_app="blog"), line


def _can_be_given(words: list[str], *, linked_app: str = "") -> bool:
    try:
        parse(words, registry=every_command(), linked_app=linked_app)
    except HelpWanted:
        return True
    except UserError:
        return False
    return True


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs" / "index.md").read_text()
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert len(decisions) >= 7
    assert [name for name in decisions if f"adr/{name}" not in listed] == []
