"""Words that outlive a process: stored in the database, or spoken between client and agent."""

VERSION = "0.1.0"
"""Of Pushboat, agent and client alike."""
