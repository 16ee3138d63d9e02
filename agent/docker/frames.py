"""The multiplexed stream: stdout and stderr of a container without a tty, as frames on one connection.

Each frame is one byte of stream number, three of zero, four of length (big endian), and the payload ("Stream format" in
the docs of ``POST /containers/{id}/attach``, API 1.41).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

HEADER: Final = 8
STDERR: Final = 2
MAX_FRAME: Final = 16 << 20
"""The engine sends at most some 32 KiB at once; more is not a frame but a stream that we misread."""

OutputStream = Literal["stdout", "stderr"]


class FrameReader:
    """Takes the bytes of one multiplexed stream as they come, and gives the frames that are whole."""

    def __init__(self) -> None:
        self.rest = b""
        """The bytes after the last whole frame."""

    def feed(self, data: bytes) -> Iterator[tuple[OutputStream, bytes]]:
        """Yield each frame that `data` completes: its stream and its payload.

        Raises:
            ValueError: that is not a multiplexed stream.
        """
        data = self.rest + data if self.rest else data
        position, end = 0, len(data)
        while position + HEADER <= end:
            size = int.from_bytes(data[position + 4 : position + HEADER], "big")
            if size > MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes")
            stop = position + HEADER + size
            if stop > end:
                break
            yield "stderr" if data[position] == STDERR else "stdout", data[position + HEADER : stop]
            position = stop
        self.rest = data[position:]
