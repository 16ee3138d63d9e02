"""The front door: asyncssh listens, keys decide who, one session is one git push or one command."""
