"""The reference of ``bench/commands``: an asyncssh server that answers every command with one line, and knows nothing.

It acknowledges at once as ours does, since the 40 ms that this saves would hide what our commands cost.
``python -m bench.echo_server FOLDER`` listens on a free port of loopback, lets FOLDER/key.pub in, and prints the port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncssh

from agent.ssh.acknowledging import acknowledge_at_once
from scripts.house.addresses import LOOPBACK


class Echo(asyncssh.SSHServer):
    """Lets one key in."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Do as the agent does."""
        acknowledge_at_once(conn)

    def begin_auth(self, username: str) -> bool:
        """Ask everybody for a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are all there is."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Compare with the one that is let in."""
        return key == self._key


async def _answer(process: asyncssh.SSHServerProcess[str]) -> None:
    process.stdout.write(f"{process.command}\n")
    process.exit(0)


async def serve(folder: Path) -> None:
    """Serve until killed."""
    key = asyncssh.read_public_key(folder / "key.pub")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        lambda: Echo(key),
        LOOPBACK,
        0,
        server_host_keys=[host_key],
        process_factory=_answer,
        encryption_algs=["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"],
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
