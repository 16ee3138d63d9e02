"""What the agent's core asks of the world, as Protocols. Adapters implement them; the core never sees more.

Each method says when it is called and what must hold afterwards. ``tests/contracts`` has one suite per port
that runs against every implementation, the fakes of the simulation included.
"""
