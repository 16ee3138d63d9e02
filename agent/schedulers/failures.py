"""Why a container cannot be made or started, told apart: what the app's owner can mend, and the machine's trouble.

The engine tells both with the same statuses, and the words of runc with 400 or 500 by version. So the words decide.
(A program that is not in the image is no such failure: with an init process the container starts and exits with 127.)
"""

from __future__ import annotations

import re
from typing import Final

from agent.docker.engine import Faulted, Refused
from agent.docker.networks import Networks
from agent.errors import Unavailable
from agent.ports.scheduler import ContainerWish, StartFailed

_USERS_FAULT: Final = (
    (r"unable to find (user [^:]+|group [^:]+):", "The image is to run as {0}, which it does not have."),
    (r"no matching entries in (passwd|group) file", "The image is to run as a user that is not in its {0} file."),
    (r"mkdir:? (\S+) is not a directory|mkdir (\S+): not a directory", "The image's working folder {0} is a file."),
    (r"No command specified", "Neither the image nor the Procfile says which program to start."),
    (r"(Minimum memory limit allowed is \w+)", "{0}; the limit that is set is lower."),
    (r"(Range of CPUs is from [\d.]+ to [\d.]+)", "{0}; the limit that is set is outside of it."),
    (
        r"environment variable value can't contain null",
        "A config value contains a null byte, which no program can get.",
    ),
    (r"(argument list too long)", "Command and config together are too long for Linux to start a program with."),
)
"""What the engine and runc say (20.10 to 28), and the same for people. The first that matches is taken."""


def users_fault(message: str, *, status: int = 500) -> str | None:
    """Return why a container can never start as wished, for its owner; `None` if trying again may help.

    `status`: of the engine's answer. 400 means that repeating the call is pointless, even for words we do not know.
    """
    for pattern, words in _USERS_FAULT:
        if found := re.search(pattern, message):
            return words.format(*(group for group in found.groups() if group))
    return f"Docker cannot start it: {message.strip()}" if status == 400 else None


def is_stuck(fault: Faulted) -> bool:
    """Tell whether the engine will refuse to start this container for ever, though it lets it be removed.

    An engine that is killed while it starts a container leaves containerd a record of a task that it knows nothing of
    (measured with 20.10: "task <id>: already exists"; https://github.com/moby/moby/issues/36145).
    """
    return fault.detail.rstrip(". ").endswith(": already exists")


def not_started(error: Refused | Faulted, wish: ContainerWish, *, networks: Networks) -> Exception:
    """Return what it means for `wish` that the engine would not create or start its container."""
    status = error.status if isinstance(error, Refused) else 500
    words = error.detail
    if status == 404 and "image" in words:
        return Unavailable(
            "image.missing",
            f"The image of {wish.app_name} v{wish.release} is not on this machine any more.",
            "Get it back with: ps:rebuild, or deploy another release.",
        )
    if status == 404:
        networks.forget()
        return Unavailable("docker.unavailable", f"Docker lacks something it had: {words}")
    if reason := users_fault(words, status=status):
        return StartFailed(reason)
    if "Address already in use" in words:
        return Unavailable(
            "network.address-taken",
            f"An address of {wish.app_name} is used by a container that Pushboat did not make.",
            "Find it with: docker network inspect, and disconnect it from our network.",
        )
    return error if isinstance(error, Faulted) else Unavailable("docker.unavailable", f"Docker refused: {words}")
