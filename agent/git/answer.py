"""What ``git receive-pack`` says, taken apart: its greeting and progress pass at once, its verdict is held back.

All of it is pkt-lines (gitprotocol-pack(5)). The greeting ends with the first flush. Then, with side-band-64k, each
packet says by its first byte what it is: 1 the verdict, 2 progress for people, 3 a last word. Without side-band there
is only the verdict, whose lines begin with a letter.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"[0-9a-f]{4}")
_VERDICT = b"\1"
_FOR_PEOPLE = (b"\2", b"\3")
_REFUSED = re.compile(rb"[0-9a-f]{4}ng refs/")
_HEAD = 4


class HeldAnswer:
    """Splits git's output, however it is cut. What it holds is small: some hundred bytes for each ref."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_greeting = True
        self._held = bytearray()
        self._verdict = bytearray()
        """What is held, without the packets of side-band around it."""

    def feed(self, data: bytes) -> bytes:
        """Take what git said; return what may pass now."""
        self._rest += data
        passed = bytearray()
        position = 0
        while size := self._size_at(position):
            packet = self._rest[position : position + size]
            position += size
            if self._is_greeting:
                passed += packet
                self._is_greeting = size > _HEAD
            elif packet[_HEAD : _HEAD + 1] in _FOR_PEOPLE:
                passed += packet
            else:
                self._held += packet
                self._verdict += packet.removeprefix(packet[:_HEAD] + _VERDICT)
        del self._rest[:position]
        return bytes(passed)

    @property
    def is_refusal(self) -> bool:
        """Whether what is held refuses a ref. Complete once git has ended."""
        return _REFUSED.search(self._verdict) is not None

    def release(self) -> bytes:
        """Return what was held back, and forget it."""
        held = bytes(self._held + self._rest)
        self._held.clear()
        self._rest.clear()
        return held

    def _size_at(self, position: int) -> int:
        """Return the size of the packet that begins there, or 0 while it is not whole."""
        head = self._rest[position : position + _HEAD]
        if not _LENGTH.fullmatch(head):
            return 0
        size = max(int(head, 16), _HEAD)
        return size if len(self._rest) >= position + size else 0
