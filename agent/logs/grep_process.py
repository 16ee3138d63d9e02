"""The process that `matching` starts: reads a pattern, then batches of lines; answers one byte for each line.

A script of its own, run by path with ``python -I -S``: it imports nothing of Pushboat. Texts come as four bytes of
length and UTF-8; the lines of a batch are separated by newlines. The answer is a 1 for each line in which
the pattern is found, else a 0. Ends when its input does.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from typing import BinaryIO

MEMORY_BYTES = 512 * 1024 * 1024
"""Address space. The interpreter takes a tenth of it."""

BATCH_SECONDS = 10
"""After so long in one batch the kernel ends this process (SIGALRM): the agent, which waits less, must have died."""

NICENESS = 10
"""Searching yields to serving."""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer batch by batch until `requests` ends."""
    pattern = _receive(requests)
    if pattern is None:
        return
    search = re.compile(pattern).search
    while (batch := _receive(requests)) is not None:
        signal.alarm(BATCH_SECONDS)
        answers.write(bytes(search(line) is not None for line in batch.split("\n")))
        answers.flush()
        signal.alarm(0)


def _receive(requests: BinaryIO) -> str | None:
    size = requests.read(4)
    if len(size) < 4:
        return None
    return requests.read(int.from_bytes(size, "big")).decode("utf-8", "replace")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
