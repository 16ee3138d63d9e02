"""The small part of TOML that two settings files need: tables, and keys with a string or a whole number.

Python's own `tomllib` takes as long to import as the whole rest of the client (10 ms).
"""

from __future__ import annotations

import re

_TABLE = re.compile(r"\[([A-Za-z0-9_.-]+)\]")
_PAIR = re.compile(r"""([A-Za-z0-9_.-]+)\s*=\s*(?:"([^"\\]*)"|'([^']*)'|(\d[\d_]*))\s*(?:\#.*)?""")


def read(text: str) -> dict[str, str]:
    """Return values as text by ``table.key``, or ``key`` above all tables. What is not understood is left out."""
    values: dict[str, str] = {}
    prefix = ""
    for line in map(str.strip, text.splitlines()):
        if table := _TABLE.match(line):
            prefix = f"{table[1]}."
        elif pair := _PAIR.fullmatch(line):
            values[prefix + pair[1]] = next(value for value in pair.groups()[1:] if value is not None)
    return values
