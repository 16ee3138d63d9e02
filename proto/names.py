"""Names and identifiers, each with its pattern and the reason for it.

A *name* is typed by people and may change; an *id* is made by the agent, is never reused, and is what
labels, folders, networks, routes and events carry. So a rename, or destroy + create under the same
name, can never hit the wrong app.
"""

from __future__ import annotations

import re
from typing import NewType

AppId = NewType("AppId", str)
"""Identifies one app for ever: ``a`` and 11 characters of ``a-z2-7``. Safe in paths, labels, HAProxy names."""

AppName = NewType("AppName", str)
"""What people call an app. See `app_name`."""

DeployId = NewType("DeployId", str)
"""Identifies one attempt to make something live: ``d`` and 11 characters of ``a-z2-7``."""

ReplicaId = NewType("ReplicaId", str)
"""Identifies one replica, from its planning to its removal: ``r`` and 11 characters of ``a-z2-7``."""

TaskId = NewType("TaskId", ReplicaId)
"""Identifies one task of one deploy: ``t`` and 11 characters of ``a-z2-7``. To those who run containers and keep logs a
task is a replica that runs once, so they take its id as one."""

ProcessType = NewType("ProcessType", str)
"""A line of the Procfile: ``web``, ``worker`` … See `process_type`."""

Fingerprint = NewType("Fingerprint", str)
"""``SHA256:…`` of a public key, as ``ssh-keygen -l`` prints it. Who signed, and nothing else, is who you are."""

SERVER = AppId("")
"""The server's own lane: keys, global domains, global config."""

WEB = ProcessType("web")
"""The process type that receives HTTP."""

MAX_APP_NAME = 63
"""Characters. An app's name becomes part of a domain name, whose labels RFC 1035 limits to 63."""

_APP_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PROCESS_TYPE = re.compile(r"[A-Za-z0-9_-]{1,63}")
_CONFIG_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

MAX_DOMAIN = 253
"""Characters of a domain name in text form (RFC 1035, 255 octets on the wire)."""


def app_name(text: str) -> AppName:
    """Return `text` as an app's name.

    Raises:
        ValueError: it is not dot-separated labels of ``a-z``, ``0-9`` and inner ``-``, 63 characters in all.
    """
    if len(text) > MAX_APP_NAME or not _APP_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not an app name")
    return AppName(text)


def process_type(text: str) -> ProcessType:
    """Return `text` as a process type.

    Raises:
        ValueError: it is not 1 to 63 of ``A-Za-z0-9_-`` (it names containers and log lines).
    """
    if not _PROCESS_TYPE.fullmatch(text):
        raise ValueError(f"{text!r} is not a process type")
    return ProcessType(text)


def is_config_key(text: str) -> bool:
    """Tell whether `text` can name an environment variable in every shell (POSIX, XBD 8.1)."""
    return _CONFIG_KEY.fullmatch(text) is not None


def domain_name(text: str) -> str:
    """Return `text` as a domain in lower case and A-label form; a leading ``*.`` is a wildcard.

    Raises:
        ValueError: it is not a host name of RFC 1123, or too long.
    """
    host = text.strip().rstrip(".").lower()
    bare = host.removeprefix("*.")
    if not bare.isascii():
        bare = bare.encode("idna").decode("ascii")
    labels = bare.split(".")
    if len(bare) > MAX_DOMAIN or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is not a domain name")
    return f"*.{bare}" if host.startswith("*.") else bare
