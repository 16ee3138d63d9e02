"""Whose the data folder is: root acts in it as its owner, so that nothing lies there that the agent may not touch."""

from __future__ import annotations

import os
from pathlib import Path

from agent.errors import Misconfigured


def become_owner(folder: Path) -> None:
    """Give root's rights up for those of the owner of `folder`, for the rest of this process.

    Does nothing unless we are root and the folder is somebody else's. A folder that is not there yet is made by whoever
    asks; under systemd the agent gets it whole.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = folder.stat()
    except OSError:
        return
    if owner.st_uid != 0:
        if folder.is_absolute():
            os.chdir("/")  # Git, for one, wants a working folder that it may read.
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def check_owner(folder: Path) -> None:
    """Return if the data folder, and key file and database where they are there, are ours. Repeating is harmless.

    Raises:
        Misconfigured: ``data.not-owned``, one is somebody else's: root put a backup back, or starts the agent by hand.
    """
    for path in (folder, folder / "key", folder / "pushboat.db"):
        try:
            owner = path.stat().st_uid
        except FileNotFoundError:
            continue
        if owner == os.geteuid():
            continue
        raise Misconfigured(
            "data.not-owned",
            f"{path} belongs to user {owner}, and this runs as user {os.geteuid()}.",
            "Start the agent as the user who owns its data: systemctl start pushboat"
            if os.geteuid() == 0
            else f"Give the agent's user all of it: chown --recursive {os.geteuid()} {folder}",
        )
