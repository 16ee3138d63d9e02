"""The agent's own log: structlog to standard error, as JSON for collectors or as lines for people.

Facts are keys, event names are constant. What a piece of work belongs to is bound once, where it is known first, and is
on each line from there on: ``app``, ``deploy``, ``handler`` and ``event_id`` for what reacts to events; ``user``,
``command``, ``app`` and ``deploy`` for what people ask for, git's services included. Keys that usually name secrets
never get through.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog

SECRET_KEYS = frozenset(
    {"env", "environment", "config", "value", "values", "password", "passphrase", "token", "secret", "secrets"}
)
"""Keys that are dropped at any depth. Config keys are logged under ``name`` or ``keys``, values never."""

DROPPED = "[not logged]"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_CHATTY = ("aiosqlite", "asyncio", "asyncssh", "aiodocker", "aiohttp")
"""Libraries that below WARNING log statements with their parameters, packets or each connection."""


def configure(*, format: str = "console", level: str = "info", stream: TextIO | None = None) -> None:
    """Send the log of the agent, and that of its libraries, to `stream` (standard error).

    `format`: ``json`` or ``console``; `level`: ``debug``, ``info``, ``warning`` or ``error``. Repeating is harmless.
    """
    stream = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        drop_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(format, is_tty=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, _LEVELS[level]))


@contextmanager
def piece_of_work(**facts: str) -> Iterator[None]:
    """Have `facts` on each line that is logged in the block. What is bound in it is gone after it, too."""
    before = structlog.contextvars.get_contextvars()
    structlog.contextvars.bind_contextvars(**facts)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**before)


def drop_secrets(logger: object, method: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what stands under a key of `SECRET_KEYS`, at any depth, by a mark. A processor of structlog."""
    for name, fact in facts.items():
        facts[name] = _without_secrets(name, fact)
    return facts


def _without_secrets(name: str, fact: object) -> object:
    if name.lower() in SECRET_KEYS:
        return DROPPED
    if isinstance(fact, Mapping):
        return {inner: _without_secrets(str(inner), value) for inner, value in fact.items()}
    return fact


def _renderers(format: str, *, is_tty: bool) -> list[structlog.typing.Processor]:
    if format == "json":
        # Tracebacks as text without local variables: those hold whatever the code worked on.
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=is_tty, exception_formatter=structlog.dev.plain_traceback)]
