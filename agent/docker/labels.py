"""The labels by which we know what is ours. Names are for people; nothing is ever found by name alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

INSTANCE: Final = "com.pushboat.instance"
"""On every container, network and image of ours: whose it is."""
KIND: Final = "com.pushboat.kind"
"""`REPLICA`, `TASK` or `RUN`, on containers."""
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
"""Of a one-off: the id of its row."""
BRIDGE: Final = "com.pushboat.bridge"
"""Of a network: its index."""

REPLICA: Final = "replica"
RUN: Final = "run"
TASK: Final = "task"


def filters(labels: Mapping[str, str]) -> str:
    """Return the ``filters`` parameter that selects what carries all of `labels`, each with its value."""
    wanted = [f"{name}={value}" for name, value in labels.items()]
    return msgspec.json.encode({"label": wanted}).decode()
