"""Log lines and transcripts on disk, behind ``agent.ports.logs``."""
