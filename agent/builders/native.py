"""Debian packages that packages of other languages are known to need: libraries in C, to build and to run with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec


class Libraries(msgspec.Struct, frozen=True):
    """Names of Debian packages."""

    build: tuple[str, ...] = ()
    run: tuple[str, ...] = ()


_POSTGRES: Final = Libraries(("libpq-dev",), ("libpq5",))
_MYSQL: Final = Libraries(("default-libmysqlclient-dev",), ("libmariadb3",))
_SQLITE: Final = Libraries(("libsqlite3-dev",), ("libsqlite3-0",))

GEMS: Final[Mapping[str, Libraries]] = {
    "image_processing": Libraries(run=("libvips42",)),
    "mini_magick": Libraries(run=("imagemagick",)),
    "mysql2": _MYSQL,
    "pg": _POSTGRES,
    "ruby-vips": Libraries(run=("libvips42",)),
    "sqlite3": _SQLITE,
}
CRATES: Final[Mapping[str, Libraries]] = {
    "libsqlite3-sys": _SQLITE,
    "mysqlclient-sys": _MYSQL,
    "openssl-sys": Libraries(("libssl-dev",), ("libssl3",)),
    "pq-sys": _POSTGRES,
}


def libraries(known: Mapping[str, Libraries], names: Iterable[str]) -> Libraries:
    """Return what those of `names` that are known need together."""
    found = [known[name] for name in sorted(set(names) & known.keys())]
    return Libraries(
        tuple(dict.fromkeys(package for each in found for package in each.build)),
        tuple(dict.fromkeys(package for each in found for package in each.run)),
    )
