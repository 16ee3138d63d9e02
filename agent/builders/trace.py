"""What BuildKit tells about a build: ``moby.buildkit.v1.StatusResponse``, a protobuf message.

The Engine API passes it through as the ``aux`` of ``moby.buildkit.trace``. The few fields that are shown are read by
hand from the wire format (https://protobuf.dev/programming-guides/encoding), which spares a code generator and a
runtime; the field numbers are those of ``api/services/control/control.proto`` of moby/buildkit. Unknown fields are
skipped, as the format intends; a message that is cut off or malformed raises `ValueError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10
"""Bytes of the longest variable-length number, 64 bits."""

Field = tuple[int, int | bytes]


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
    for number, value in _fields(message):
        if number in parts:
            parts[number].append(_bytes(value))
    return Trace(
        vertexes=tuple(_vertex(part) for part in parts[1]),
        statuses=tuple(_status(part) for part in parts[2]),
        outputs=tuple(_output(part) for part in parts[3]),
        warnings=tuple(_warning(part) for part in parts[4]),
    )


def _vertex(message: bytes) -> Vertex:
    fields = dict(_fields(message))
    return Vertex(
        digest=_text(fields.get(1)),
        name=_text(fields.get(3)),
        is_cached=bool(_number(fields.get(4))),
        started=_time(fields.get(5)),
        completed=_time(fields.get(6)),
        error=_text(fields.get(7)),
    )


def _status(message: bytes) -> Status:
    fields = dict(_fields(message))
    return Status(
        id=_text(fields.get(1)),
        vertex=_text(fields.get(2)),
        current=_number(fields.get(4)),
        total=_number(fields.get(5)),
        completed=_time(fields.get(8)),
    )


def _output(message: bytes) -> Output:
    fields = dict(_fields(message))
    return Output(vertex=_text(fields.get(1)), data=_bytes(fields.get(4, b"")))


def _warning(message: bytes) -> Warning:
    fields = dict(_fields(message))
    return Warning(vertex=_text(fields.get(1)), short=_text(fields.get(3)))


def _fields(message: bytes) -> Iterator[Field]:
    """Yield each field's number and value: an unsigned number, or bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if position + size > len(message):
            raise ValueError("a field that is longer than its message")
        yield number, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT):
        if position + index >= len(message):
            raise ValueError("a number that breaks off")
        byte = message[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a number of more than 64 bits")


def _time(value: int | bytes | None) -> float | None:
    """Read a ``google.protobuf.Timestamp``: 1 seconds, 2 nanoseconds."""
    if value is None:
        return None
    fields = dict(_fields(_bytes(value)))
    return _number(fields.get(1)) + _number(fields.get(2)) / 1e9


def _text(value: int | bytes | None) -> str:
    return "" if value is None else _bytes(value).decode("utf-8", "replace")


def _number(value: int | bytes | None) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number should be")
    return value or 0


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes should be")
    return value
