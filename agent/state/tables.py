"""Every table, over one connection.

The same classes read the last committed state, read one snapshot, or write inside a transaction: what they may do
depends on the connection alone.
"""

from __future__ import annotations

from agent.state.outbox import Outbox
from agent.state.sql import Sql


class Tables:
    """What the agent remembers."""

    def __init__(self, sql: Sql) -> None:
        self.outbox = Outbox(sql)
