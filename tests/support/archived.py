"""A source tree of a dictionary whose archive is a real tar stream."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncGenerator, Mapping

from tests.fakes.source import FakeTree


class ArchivedTree(FakeTree):
    """Fulfils ``SourceTree`` for builders that really read it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__("1" * 40, files)
        self._contents = files

    async def archive(self, *, folder: str = "") -> AsyncGenerator[bytes, None]:
        """Yield all files; `folder` is for trees that have some."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in self._contents.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
        yield buffer.getvalue()
