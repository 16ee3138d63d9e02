"""The documentation tells what the code does, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.house import settings_page

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])


def test_the_page_of_settings_is_made_from_the_code() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run: python -m scripts.house.settings_page"


def test_every_setting_says_what_it_does() -> None:
    rows = [line.split("|") for line in settings_page.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row[1].strip() for row in rows if not row[4].strip()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs" / "index.md").read_text()
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert len(decisions) >= 7
    assert [name for name in decisions if f"adr/{name}" not in listed] == []
