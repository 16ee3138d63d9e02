"""What a push leaves behind in the repositories of tests/ssh/conftest.py."""

from __future__ import annotations

from tests.ssh.conftest import House


def leftovers(house: House) -> list[str]:
    """Return what no push may leave behind: quarantines, and repositories that are aside."""
    repos = house.folder / "repos"
    return [str(path) for path in (*repos.glob("*/objects/tmp_objdir-*"), *repos.glob(".*"))]
