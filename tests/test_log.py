"""The agent's own log: facts as keys, work named on each line, and no secret on any."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import msgspec
import pytest
import structlog

from agent.log import configure


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes during a test; afterwards logging is as it was."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    yield written
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [msgspec.json.decode(line, type=dict[str, object]) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_the_work_it_belongs_to(stream: io.StringIO) -> None:
    configure(format="json", stream=stream)
    with structlog.contextvars.bound_contextvars(app="ablog", handler="builder.build"):
        structlog.get_logger("agent.test").info("image.built", image="sha256:1", seconds=4.2)
    [line] = lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "image.built",
        "level": "info",
        "logger": "agent.test",
        "app": "ablog",
        "handler": "builder.build",
        "image": "sha256:1",
        "seconds": 4.2,
    }


@pytest.mark.parametrize("format", ["json", "console"])
def test_keys_that_name_secrets_are_dropped_at_any_depth(stream: io.StringIO, format: str) -> None:
    configure(format=format, stream=stream)
    structlog.get_logger().warning(
        "config.set", env={"A": "hunter2"}, Password="hunter2", wish={"token": "hunter2", "inner": {"value": "hunter2"}}
    )
    assert "hunter2" not in stream.getvalue()
    assert "config.set" in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_is_logged_without_what_the_code_worked_on(stream: io.StringIO, format: str) -> None:
    configure(format=format, stream=stream)

    def work(config: str) -> None:
        raise LookupError("no such key")

    password = "hunter" + str(2)
    try:
        work(password)
    except LookupError:
        structlog.get_logger().exception("handler.failed")
    assert "LookupError: no such key" in stream.getvalue()
    assert "in work" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_levels_are_kept_and_libraries_say_nothing_below_a_warning(stream: io.StringIO) -> None:
    configure(format="json", level="debug", stream=stream)
    structlog.get_logger().debug("seen")
    logging.getLogger("aiosqlite").debug("executing %s", "INSERT hunter2")
    logging.getLogger("asyncssh").warning("odd packet")
    assert [line["event"] for line in lines(stream)] == ["seen", "odd packet"]
    configure(format="json", level="error", stream=stream)
    structlog.get_logger().warning("unseen")
    assert len(lines(stream)) == 2
