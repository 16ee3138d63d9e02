"""HAProxy's files on disk: what it starts from, after a crash of its own, of the agent or of the machine.

Each file is replaced whole (written beside, synced, renamed). The configuration file goes first: with it and the old
map, a new app is not routed yet and a removed one answers "not ready"; no pairing routes to a stranger (see `slots`).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from agent.proxies.haproxy.config import Layout, read_maps, read_slots, render_map
from agent.proxies.haproxy.pages import load_pages
from agent.proxies.haproxy.plan import Maps, Plan, read_back

CANDIDATE: Final = "haproxy.cfg.candidate"
"""A configuration that is being checked."""


class Files:
    """The files below one folder. Every method blocks: call them in a thread."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._writing = threading.Lock()
        self._generation = 0

    def prepare(self) -> None:
        """Make the folders and the pages. Repeating is harmless."""
        self._layout.folder.mkdir(parents=True, exist_ok=True)
        self._layout.sockets.mkdir(mode=0o700, exist_ok=True)
        self._layout.sockets.chmod(0o700)
        self._layout.pages.mkdir(exist_ok=True)
        for name, page in load_pages().items():
            path = self._layout.pages / f"{name}.http"
            if _read(path) != page:
                replace(path, page)
        for path in (self._layout.exact_map, self._layout.wildcard_map):
            if not path.exists():
                replace(path, b"")

    def read(self) -> Plan:
        """Return the plan that is on disk; an empty one if there is none."""
        with self._writing:
            config, exact, wildcards = (
                _read(path).decode("ascii", "replace")
                for path in (self._layout.config, self._layout.exact_map, self._layout.wildcard_map)
            )
        return read_back(read_slots(config), read_maps(exact, wildcards))

    def holds(self, config: str, maps: Maps) -> bool:
        """Tell whether the files on disk are exactly these."""
        return all(_read(path) == data for path, data in self._contents(config, maps))

    def write(self, config: str, maps: Maps, *, generation: int) -> None:
        """Put these files on disk, unless those of a later `generation` are there.

        A write whose caller was cancelled goes on in its thread; the generation keeps it from undoing a newer one.
        """
        with self._writing:
            if generation < self._generation:
                return
            self._generation = generation
            for path, data in self._contents(config, maps):
                if _read(path) != data:
                    replace(path, data)

    def write_candidate(self, config: str) -> Path:
        """Put a configuration beside the real one, to be checked; return where."""
        path = self._layout.folder / CANDIDATE
        path.write_text(config)
        return path

    def _contents(self, config: str, maps: Maps) -> list[tuple[Path, bytes]]:
        return [
            (self._layout.config, config.encode()),
            (self._layout.exact_map, render_map(maps.exact.items()).encode()),
            (self._layout.wildcard_map, render_map(maps.wildcards).encode()),
        ]


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of the file at `path`: all of it or, after a crash, the former one."""
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
