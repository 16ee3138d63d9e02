"""PHP's extensions: which ones an app asks for, and how Debian and the official image come by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from agent.builders.plan import Run, apt

ALWAYS: Final = ("php-curl", "php-mbstring", "php-sqlite3", "php-xml")
"""What the official image has by itself, and Debian in packages."""

THERE: Final = frozenset(
    "core ctype curl date dom fileinfo filter ftp hash iconv json libxml mbstring mysqlnd openssl pcre pdo pdo_sqlite "
    "phar posix random readline reflection session simplexml sodium spl sqlite3 standard tokenizer xml xmlreader "
    "xmlwriter zlib".split()
)
"""Those need nothing more in either."""


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """How to get one."""

    debian: str = ""
    """Its package; empty: PHP's own have it."""
    libraries: tuple[str, ...] = ()
    """Debian packages that it is compiled with."""
    configure: str = ""
    """What docker-php-ext-configure is told."""
    is_pecl: bool = False
    """Whether it does not come with PHP's sources."""


EXTENSIONS: Final[Mapping[str, Extension]] = {
    "apcu": Extension(debian="php-apcu", is_pecl=True),
    "bcmath": Extension(debian="php-bcmath"),
    "calendar": Extension(),
    "exif": Extension(),
    "gd": Extension(
        debian="php-gd",
        libraries=("libfreetype6-dev", "libjpeg62-turbo-dev", "libpng-dev", "libwebp-dev"),
        configure="--with-freetype --with-jpeg --with-webp",
    ),
    "gettext": Extension(),
    "gmp": Extension(debian="php-gmp", libraries=("libgmp-dev",)),
    "imagick": Extension(debian="php-imagick", libraries=("libmagickwand-dev",), is_pecl=True),
    "intl": Extension(debian="php-intl", libraries=("libicu-dev",)),
    "ldap": Extension(debian="php-ldap", libraries=("libldap2-dev",)),
    "memcached": Extension(
        debian="php-memcached", libraries=("libmemcached-dev", "libssl-dev", "zlib1g-dev"), is_pecl=True
    ),
    "mongodb": Extension(debian="php-mongodb", libraries=("libssl-dev",), is_pecl=True),
    "mysqli": Extension(debian="php-mysql"),
    "opcache": Extension(),
    "pcntl": Extension(),
    "pdo_mysql": Extension(debian="php-mysql"),
    "pdo_pgsql": Extension(debian="php-pgsql", libraries=("libpq-dev",)),
    "pgsql": Extension(debian="php-pgsql", libraries=("libpq-dev",)),
    "redis": Extension(debian="php-redis", is_pecl=True),
    "soap": Extension(debian="php-soap", libraries=("libxml2-dev",)),
    "sockets": Extension(),
    "sysvsem": Extension(),
    "tidy": Extension(debian="php-tidy", libraries=("libtidy-dev",)),
    "xsl": Extension(libraries=("libxslt1-dev",)),
    "zip": Extension(debian="php-zip", libraries=("libzip-dev",)),
}


def debian_packages(names: Iterable[str]) -> tuple[str, ...]:
    """Return Debian's packages of the extensions that are known."""
    return tuple(dict.fromkeys(EXTENSIONS[name].debian for name in sorted(names) if EXTENSIONS[name].debian))


def compiled(names: Iterable[str]) -> tuple[Run, ...]:
    """Return how an official image gets the extensions that are known. Their libraries stay, as they run with them."""
    wanted = sorted(names)
    libraries = sorted({library for name in wanted for library in EXTENSIONS[name].libraries})
    own = [name for name in wanted if not EXTENSIONS[name].is_pecl]
    foreign = [name for name in wanted if EXTENSIONS[name].is_pecl]
    commands = [
        f"docker-php-ext-configure {name} {EXTENSIONS[name].configure}" for name in own if EXTENSIONS[name].configure
    ]
    if own:
        commands.append(f'docker-php-ext-install -j"$(nproc)" {" ".join(own)}')
    if foreign:
        commands += [f"pecl install {' '.join(foreign)}", f"docker-php-ext-enable {' '.join(foreign)}"]
    return (*((apt(*libraries),) if libraries else ()), *((Run(tuple(commands)),) if commands else ()))
