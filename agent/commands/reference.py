"""Writes ``docs/commands.md`` from the commands: ``python -m agent.commands.reference > docs/commands.md``."""

from __future__ import annotations

import sys

from agent.commands.catalogue import every_command
from agent.commands.helping import markdown


def text() -> str:
    """Return the whole page."""
    return markdown(every_command())


if __name__ == "__main__":
    sys.stdout.write(text())
