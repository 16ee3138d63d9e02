"""What memory a process has, and the most that it had since somebody began to look."""

from __future__ import annotations

import re
from pathlib import Path


def memory(pid: int, word: str) -> int:
    """Return a process's memory in bytes: VmRSS now, VmHWM at most. Format: proc(5)."""
    found = re.search(rf"^{word}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10


class Growth:
    """By how much the memory of a process grows from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = memory(pid, "VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew

    @property
    def most(self) -> int:
        """Bytes by which it was larger at most, at any moment since then."""
        return memory(self._pid, "VmHWM") - self._before
