"""What the pages of the documentation tell people to type."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.commands.catalogue import every_command


def command_lines(text: str) -> Iterator[str]:
    """Yield what is given to ``pushboat``, or to the agent as ``noun:verb …`` in a table or in passing.

    ``APP`` and ``ID`` are left as they stand there.
    """
    given = re.findall(r"^(?:    |\$ )pushboat ([^<].*)$", text, re.MULTILINE)
    given += re.findall(r"`pushboat ([^`<][^`]*)`", text)
    nouns = "|".join(every_command().groups())
    given += re.findall(rf"`((?:{nouns})(?::[a-z-]+)?(?: [^`]*)?)`", text)
    for lines in given:
        for line in re.split(r" ; (?:pushboat )?", lines):
            yield re.split(r"\s+(?:#|<|>|\|)\s", line)[0]
