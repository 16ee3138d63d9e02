"""Waking up when a file changes (inotify(7)), so that whoever reads one need not look again and again.

The packages for this start a program when they are imported (`ctypes.util.find_library`), and make an object of every
event; here each wish is good for one event, so that a file which is written a hundred thousand times a second costs as
little as one that is written once.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_MODIFIED: Final = 0x00000002
_MOVED: Final = 0x00000800
_ONCE: Final = 0x80000000
_EVENT: Final = struct.Struct("iIII")
_READ: Final = 65_536


class FileChanges:
    """The files that somebody waits for. One of it serves all; it is opened when it is first needed."""

    def __init__(self) -> None:
        self._file = -1
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def watching(self, path: Path, woken: asyncio.Event) -> Iterator[None]:
        """Set `woken` once the file at `path` is written to or renamed, if that is after this has been entered.

        Raises:
            OSError: there is no such file, or the machine has no watch left (``fs.inotify.max_user_watches``).
        """
        watch = self._watch(path)
        self._waiting[watch].add(woken)
        try:
            yield
        finally:
            waiting = self._waiting.get(watch, set())
            waiting.discard(woken)
            if not waiting and self._waiting.pop(watch, None) is not None and self._file >= 0:
                # Fails where it has fired just now.
                _LIBC.inotify_rm_watch(self._file, watch)

    def close(self) -> None:
        """Wake nobody any more. Repeating is harmless."""
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _watch(self, path: Path) -> int:
        if self._file < 0:
            self._file = _checked(_LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
            asyncio.get_running_loop().add_reader(self._file, self._take)
        return _checked(_LIBC.inotify_add_watch(self._file, os.fsencode(path), _MODIFIED | _MOVED | _ONCE))

    def _take(self) -> None:
        data = os.read(self._file, _READ)
        position = 0
        while position < len(data):
            watch, _, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            # A negative one says that events were dropped: then everybody looks.
            for known in [watch] if watch >= 0 else list(self._waiting):
                for woken in self._waiting.pop(known, set()):
                    woken.set()


def _checked(answer: int) -> int:
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return answer
