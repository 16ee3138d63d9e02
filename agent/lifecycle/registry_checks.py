"""What may be said of registries: names as distribution/reference has them, a little narrower.

Each returns the value as it is stored, or raises ValueError with what would be right, as the end of a sentence.
"""

from __future__ import annotations

import re

from agent.ports.registries import canonical

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(
    r"(?=.{1,200}\Z)[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_APP_NAME = re.compile(r"\{\{ *\.AppName *\}\}")
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
"""Of distribution/reference, but for those that begin with a digit: numbers are releases."""


def server(value: str) -> str:
    """Return the one name of a registry."""
    host, path = canonical(value), value.partition("://")[2] or value
    if path.partition("/")[2].strip("/") not in ("", "v1", "v2"):
        raise ValueError("the registry's name alone; what stands after its / belongs to image-repo")
    if not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
        raise ValueError("a registry's name, such as registry.example.com or ghcr.io")
    return host


def repository(value: str) -> str:
    """Return the name of a repository."""
    if not _REPOSITORY.fullmatch(value):
        raise ValueError("a repository's name without registry and tag, such as shop/blog")
    return value


def template(value: str) -> str:
    """Return the name of a repository with the app's in it."""
    name = _APP_NAME.search(value)
    if name is None or not _REPOSITORY.fullmatch(_APP_NAME.sub("app", value)):
        raise ValueError("a repository's name with the app's in it, such as shop/{{ .AppName }}")
    return _APP_NAME.sub("{{ .AppName }}", value)


def tags(value: str) -> str:
    """Return tags, each once."""
    tags = [tag.strip() for tag in value.split(",")]
    if not all(_TAG.fullmatch(tag) for tag in tags):
        raise ValueError("tags with commas between that begin with a letter, such as latest,stable")
    return ",".join(dict.fromkeys(tags))
