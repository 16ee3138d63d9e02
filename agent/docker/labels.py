"""The labels by which we know what is ours. Names are for people; nothing is ever found by name alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

INSTANCE: Final = "com.pushboat.instance"
"""On every container, network and image of ours: whose it is."""
KIND: Final = "com.pushboat.kind"
"""`REPLICA`, `TASK`, `RUN` or `BUILD`, on containers; `KEPT`, on volumes."""
APP_ID: Final = "com.pushboat.app-id"
APP_NAME: Final = "com.pushboat.app-name"
"""As it was when the container was made; for people."""
REPLICA_ID: Final = "com.pushboat.replica"
"""On replicas and tasks: the id of its row."""
PROCESS_TYPE: Final = "com.pushboat.process-type"
NUMBER: Final = "com.pushboat.number"
RELEASE: Final = "com.pushboat.release"
FINGERPRINT: Final = "com.pushboat.fingerprint"
ENTRY: Final = "com.pushboat.entry"
"""Of a one-off: the id of its row. Of a build: a random name."""
BRIDGE: Final = "com.pushboat.bridge"
"""Of a network: its index."""

BUILD: Final = "build"
KEPT: Final = "build-kept"
"""What builds of an app keep for the next one. Nothing that an app has stored."""
REPLICA: Final = "replica"
RUN: Final = "run"
TASK: Final = "task"


def filters(labels: Mapping[str, str]) -> str:
    """Return the ``filters`` parameter that selects what carries all of `labels`, each with its value."""
    wanted = [f"{name}={value}" for name, value in labels.items()]
    return msgspec.json.encode({"label": wanted}).decode()
