"""The agent's log, kept: what each line says, with what was bound when it was written."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.testing import LogCapture

Line = MutableMapping[str, Any]


@contextmanager
def captured() -> Iterator[list[Line]]:
    """Keep what is logged in the block, as the agent's own log would have it but for time and logger."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    try:
        yield capture.entries
    finally:
        structlog.reset_defaults()
