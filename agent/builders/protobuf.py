"""The wire format of protobuf (https://protobuf.dev/programming-guides/encoding), by hand.

What BuildKit is told and tells has few fields, all of them numbers, texts and messages: reading and writing them here
spares a code generator and a runtime. Unknown fields are skipped, as the format intends; what is cut off or malformed
raises `ValueError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10
"""Bytes of the longest variable-length number, 64 bits."""

Field = tuple[int, int | bytes]


def fields(message: bytes) -> Iterator[Field]:
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


def text(value: int | bytes | None) -> str:
    """Return the text of a field; empty where it is left out."""
    return "" if value is None else data(value).decode("utf-8", "replace")


def number(value: int | bytes | None) -> int:
    """Return the number of a field; 0 where it is left out."""
    if isinstance(value, bytes):
        raise ValueError("bytes where a number should be")
    return value or 0


def data(value: int | bytes) -> bytes:
    """Return the bytes of a field.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number where bytes should be")
    return value


def field(number: int, value: bytes | str | int) -> bytes:
    """Return one field as it is written: a number as a varint, all else with its length."""
    if isinstance(value, int):
        return _written(number << 3 | _VARINT) + _written(value)
    content = value.encode() if isinstance(value, str) else value
    return _written(number << 3 | _BYTES) + _written(len(content)) + content


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
