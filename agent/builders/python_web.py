"""Which command serves a Python app: guessed from the framework it uses, where no Procfile says it.

Source files are searched with patterns, never parsed: they are hostile, and a parser is a large thing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from agent.builders.files import Files, is_plain
from agent.errors import UserError
from agent.manifests.procfile import argv

MAX_LOOKED_INTO: Final = 40
"""Source files that are searched for the app object."""

_USUAL: Final = ("app.py", "main.py", "wsgi.py", "asgi.py", "application.py", "server.py", "run.py", "api.py")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*\.py", re.ASCII)
_OBJECT = r"^([A-Za-z_]\w{0,60})[ \t]*(?::[^=\n]{1,80})?=[ \t]*(?:\w{1,40}\.)?%s\("
_FACTORY = re.compile(r"^def[ \t]+((?:create|make)_app)\([ \t]*\)?", re.MULTILINE)

WSGI: Final = {"flask": "Flask", "bottle": "Bottle", "falcon": "App"}
ASGI: Final = {"fastapi": "FastAPI", "starlette": "Starlette", "quart": "Quart", "litestar": "Litestar"}
_TITLES: Final = {"django": "Django", **WSGI, **ASGI, "falcon": "Falcon"}


class Web(msgspec.Struct, frozen=True):
    """What serves the app."""

    words: tuple[str, ...]
    why: str
    """``Django in shop/wsgi.py``."""


async def guess(files: Files, packages: frozenset[str], *, file: str, is_known: bool = True) -> Web:
    """Return what serves the app; `file` is where its packages are listed. `is_known`: whether `packages` are all.

    Raises:
        UserError: ``web.unknown``, with what to do about it.
    """
    if "django" in packages and files.has("manage.py"):
        return _django(files, packages, file=file)
    for frameworks, is_async in ((ASGI, True), (WSGI, False)):
        for package, made in frameworks.items():
            if package not in packages:
                continue
            found = await _object(files, re.compile(_OBJECT % made, re.MULTILINE))
            if found is None:
                raise _unknown(f"{_TITLES[package]} is used, but no file makes the app: app = {made}(…)")
            where, name = found
            why = f"{_TITLES[package]} in {where}"
            return _served(_module(where), name, packages, file=file, why=why, is_async=is_async)
    if not is_known:
        raise _unknown(f"which packages it has is known to its own build alone (dynamic dependencies in {file})")
    raise _unknown("no framework that is known here is among the packages")


def _django(files: Files, packages: frozenset[str], *, file: str) -> Web:
    is_async = "gunicorn" not in packages and "uvicorn" in packages
    wanted = "asgi.py" if is_async else "wsgi.py"
    places = sorted(
        (name for name in files.names if name.endswith(f"/{wanted}") and _MODULE.fullmatch(name)),
        key=lambda name: (name.count("/"), name),
    )
    if not places:
        raise _unknown(f"Django is used, but there is no {wanted}")
    return _served(
        _module(places[0]), "application", packages, file=file, why=f"Django in {places[0]}", is_async=is_async
    )


def _served(module: str, name: str, packages: frozenset[str], *, file: str, why: str, is_async: bool) -> Web:
    target = f"{module}:{name}"
    if is_async and "uvicorn" in packages:
        # Not read from the environment by uvicorn itself, unlike all else that it needs to know.
        factory = "--factory " if name.endswith("()") else ""
        app = target.removesuffix("()")
        line = f'uvicorn {factory}{app} --host 0.0.0.0 --port "${{PORT:-5000}}"'
        return Web(argv(line, environment={}), why)
    if is_async and "hypercorn" in packages:
        return Web(argv(f'hypercorn "{target}" --bind "0.0.0.0:${{PORT:-5000}}"', environment={}), why)
    if not is_async and "gunicorn" in packages:
        # Listens at $PORT, with as many workers as $WEB_CONCURRENCY says, by its own defaults.
        return Web(("gunicorn", target), why)
    server = "uvicorn" if is_async else "gunicorn"
    message = f"The app ({why}) has nothing to serve it: {server} is not among the packages of {file}."
    raise UserError("web.no-server", message, f"Add {server} to them, or say in a Procfile what to run: web: <command>")


async def _object(files: Files, pattern: re.Pattern[str]) -> tuple[str, str] | None:
    """Return the file that makes the app object, and the object's name or the call that makes it."""
    factory: tuple[str, str] | None = None
    for name in _places(files):
        text = await files.code(name)
        if match := pattern.search(text):
            return name, match[1]
        if factory is None and (match := _FACTORY.search(text)):
            factory = name, f"{match[1]}()"
    return factory


def _places(files: Files) -> list[str]:
    """Return the files that may make the app, the likely ones first."""
    modules = [name for name in files.names if _MODULE.fullmatch(name) and is_plain(name)]
    packages = [name for name in modules if name.endswith("/__init__.py")]
    near = [name for name in modules if name.count("/") <= 2 and not name.startswith(("test", "src/test"))]

    def rank(name: str) -> tuple[int, int, str]:
        base = name.rpartition("/")[2]
        return name.count("/"), _USUAL.index(base) if base in _USUAL else 2 * len(_USUAL), name

    return list(dict.fromkeys([*sorted(near, key=rank), *sorted(packages, key=rank)]))[:MAX_LOOKED_INTO]


def _module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").removeprefix("src/").replace("/", ".")


def _unknown(reason: str) -> UserError:
    return UserError(
        "web.unknown",
        f"What to run is not clear: there is no Procfile, and {reason}.",
        "Say it in a file named Procfile, for instance: web: gunicorn app:app",
    )
