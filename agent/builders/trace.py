"""What BuildKit tells about a build: ``moby.buildkit.v1.StatusResponse``, a protobuf message.

The Engine API passes it through as the ``aux`` of ``moby.buildkit.trace``. The few fields that are shown are read by
hand (`agent.builders.protobuf`); their numbers are those of ``api/services/control/control.proto`` of moby/buildkit. A
message that is cut off or malformed raises `ValueError` and nothing else.
"""

from __future__ import annotations

import msgspec

from agent.builders import protobuf


class Vertex(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the build; told again whenever it changes."""

    digest: str = ""
    name: str = ""
    is_cached: bool = False
    started: float | None = None
    """Unix seconds."""
    completed: float | None = None
    error: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Progress within a step: a layer being fetched, a file being written."""

    id: str = ""
    vertex: str = ""
    current: int = 0
    total: int = 0
    """Bytes; 0 when unknown."""
    completed: float | None = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What a step wrote."""

    vertex: str = ""
    data: bytes = b""


class Warning(msgspec.Struct, frozen=True, kw_only=True):
    """What the reader of the Dockerfile finds worth saying."""

    vertex: str = ""
    short: str = ""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One message."""

    vertexes: tuple[Vertex, ...] = ()
    statuses: tuple[Status, ...] = ()
    outputs: tuple[Output, ...] = ()
    warnings: tuple[Warning, ...] = ()


def read_trace(message: bytes) -> Trace:
    """Return what `message` says.

    Raises:
        ValueError: it is no such message.
    """
    parts: dict[int, list[bytes]] = {1: [], 2: [], 3: [], 4: []}
    for number, value in protobuf.fields(message):
        if number in parts:
            parts[number].append(protobuf.data(value))
    return Trace(
        vertexes=tuple(_vertex(part) for part in parts[1]),
        statuses=tuple(_status(part) for part in parts[2]),
        outputs=tuple(_output(part) for part in parts[3]),
        warnings=tuple(_warning(part) for part in parts[4]),
    )


def _vertex(message: bytes) -> Vertex:
    fields = dict(protobuf.fields(message))
    return Vertex(
        digest=protobuf.text(fields.get(1)),
        name=protobuf.text(fields.get(3)),
        is_cached=bool(protobuf.number(fields.get(4))),
        started=_time(fields.get(5)),
        completed=_time(fields.get(6)),
        error=protobuf.text(fields.get(7)),
    )


def _status(message: bytes) -> Status:
    fields = dict(protobuf.fields(message))
    return Status(
        id=protobuf.text(fields.get(1)),
        vertex=protobuf.text(fields.get(2)),
        current=protobuf.number(fields.get(4)),
        total=protobuf.number(fields.get(5)),
        completed=_time(fields.get(8)),
    )


def _output(message: bytes) -> Output:
    fields = dict(protobuf.fields(message))
    return Output(vertex=protobuf.text(fields.get(1)), data=protobuf.data(fields.get(4, b"")))


def _warning(message: bytes) -> Warning:
    fields = dict(protobuf.fields(message))
    return Warning(vertex=protobuf.text(fields.get(1)), short=protobuf.text(fields.get(3)))


def _time(value: int | bytes | None) -> float | None:
    """Read a ``google.protobuf.Timestamp``: 1 seconds, 2 nanoseconds."""
    if value is None:
        return None
    fields = dict(protobuf.fields(protobuf.data(value)))
    return protobuf.number(fields.get(1)) + protobuf.number(fields.get(2)) / 1e9
