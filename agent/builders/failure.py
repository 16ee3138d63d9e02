"""Why a build failed, told so that its author can mend it: the engine's words, read and put into sentences."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from agent.docker.transfers import is_busy
from agent.errors import Unavailable
from agent.ports.images import BuildFailed
from agent.ports.registries import registry_of

MAX_REASON: Final = 2_000
"""Characters of the engine's own words that are passed on."""

_WRAPPING = re.compile(
    r"^(?:(?:failed to solve with frontend [\w.]+|failed to solve|failed to create LLB definition|rpc error"
    r"|code = \w+ desc =|ERROR)(?::\s*|\s+))+"
)
_EXIT = re.compile(r"(?:exit code:?|exit status) (\d+)\s*$")
_REGISTRY = re.compile(r"https?://([^/\s\"]{1,300})/v2/|dial tcp: lookup (\S{1,300}) on")
UNREACHABLE = re.compile(
    r"failed to do request|dial tcp|no such host|connection refused|i/o timeout|TLS handshake|context deadline exceeded"
)
_REFUSED = re.compile(r"pull access denied|authorization failed|unauthorized|insufficient_scope|403 Forbidden", re.I)
_ABSENT = re.compile(r"not found|manifest unknown|does not exist", re.I)
_MISSING_PATHS = (
    re.compile(r'"/?([^"]+)":? not found'),
    re.compile(r"(?:lstat|stat|open) (?:\S*/buildkit-mount\d+/)?(\S+): no such file"),
)
_SECRET = re.compile(r"secret (\S{1,200}?):? not found")
_PARSE = re.compile(r"parse error (?:on )?line (\d+)")

FRONTEND_STEP: Final = "resolve image config for "
_BASE_STEP: Final = "[internal] load metadata for "


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a failed build."""

    message: str
    """The engine's last word."""
    step: str = ""
    """Name of the step that failed."""
    reason: str = ""
    """That step's own error."""
    last_lines: Sequence[str] = ()

    @property
    def is_of_frontend(self) -> bool:
        """Whether the image of the ``# syntax=`` line could not be had."""
        return self.step.startswith(FRONTEND_STEP)

    @property
    def busy_base(self) -> str:
        """The base image that its registry could not give just now; empty: it is something else."""
        return self.step.rpartition(" ")[2] if self.is_of_base and is_busy(_reason(self)) else ""

    @property
    def is_of_base(self) -> bool:
        """Whether a base image could not be had."""
        return self.step.startswith(_BASE_STEP) or " FROM " in self.step.partition("]")[2][:6]


def explain(
    failure: Failure,
    *,
    dockerfile: str,
    ignored: frozenset[str],
    lost_frontend: str,
    app_name: str = "<app>",
    missing_secrets: Collection[str] = (),
) -> BuildFailed | Unavailable:
    """Return the error that tells the user what to do.

    `dockerfile`: its path. `ignored`: files that ``.dockerignore`` keeps out. `lost_frontend`: the frontend that was
    asked for and left out, if any. `app_name`: for hints. `missing_secrets`: that were asked for and are not set.
    """
    reason = _reason(failure)
    if "no space left on device" in reason:
        # Not tried again: what was written is gone with the step, and would be written once more.
        where = f" in the step {' '.join(failure.step.split())[:300]}" if failure.step else ""
        return BuildFailed(
            f"The build ran out of disk space{where}. See what takes it with disk:report, and make room with cleanup."
        )
    if failure.is_of_base:
        return BuildFailed(_base_image(failure.step.rpartition(" ")[2], reason, app_name=app_name))
    if "no active session" in reason:
        return Unavailable("docker.unavailable", "Docker lost the connection over which a build asks for secrets.")
    if (asked := _SECRET.search(reason)) and asked[1] in missing_secrets:
        return BuildFailed(_secret_missing(failure, asked[1], app_name=app_name))
    if failure.step and (status := _EXIT.search(reason)):
        return BuildFailed(_step_failed(failure, status=int(status[1])))
    if missing := next(filter(None, (pattern.search(reason) for pattern in _MISSING_PATHS)), None):
        return BuildFailed(_file_missing(failure, reason, missing[1], ignored))
    sentence = f"The build failed: {reason}"
    if _PARSE.search(reason):
        sentence = f"{dockerfile}: {reason}"
        if lost_frontend:
            sentence += (
                f" (it was read without {lost_frontend}; the engine's own reader may not know all of its syntax)"
            )
    return BuildFailed(sentence)


def _reason(failure: Failure) -> str:
    plain = _WRAPPING.sub("", failure.reason or failure.message).strip()
    return plain[:MAX_REASON]


def _base_image(image: str, reason: str, *, app_name: str) -> str:
    registry = _REGISTRY.search(reason)
    host = next(filter(None, registry.groups())) if registry else ""
    where = f"its registry {host}" if host else "its registry"
    hint = ""
    if is_busy(reason):
        cause = f"{where} is too busy, or out of order, or you have used up what it allows"
        hint = f" Try again later. To log in: registry:login {app_name} {registry_of(image)} <user> --password-stdin"
    elif UNREACHABLE.search(reason):
        cause = f"{where} cannot be reached from this machine"
    elif _REFUSED.search(reason):
        cause = f"{where} has no such image, or wants to know who asks"
        hint = f" To log in: registry:login {app_name} {registry_of(image)} <user> --password-stdin"
    elif _ABSENT.search(reason):
        cause = f"{where} has no such image"
    else:
        cause = "the engine says"
    return f"The base image {image} could not be had: {cause} ({reason}).{hint}"


def _secret_missing(failure: Failure, name: str, *, app_name: str) -> str:
    step = " ".join(failure.step.split())[:300]
    return (
        f"The step {step} asks for the build secret {name}, which is not set. "
        f"Set it, and deploy again: builder:secrets:set {app_name} {name}=…"
    )


def _step_failed(failure: Failure, *, status: int) -> str:
    cause = f"it ended with status {status}"
    if status == 137:
        cause += ", which is how a process ends that was killed, mostly for lack of memory"
    elif any("no space left on device" in line.lower() for line in failure.last_lines):
        cause += ": the disk is full (see what takes it with disk:report, and make room with cleanup)"
    elif status == 127:
        cause += ": there is no such program in the image"
    step = " ".join(failure.step.split())[:300]
    text = f"The step {step} failed: {cause}."
    if failure.last_lines:
        text += " Its last lines:\n" + "\n".join(f"  {line}" for line in failure.last_lines)
    return text


def _file_missing(failure: Failure, reason: str, path: str, ignored: frozenset[str]) -> str:
    step = f"The step {' '.join(failure.step.split())[:300]}" if failure.step else "A step"
    text = f"{step} needs {path}, which is not in the build: {reason}."
    if any(each == path or each.startswith(f"{path.rstrip('/')}/") for each in ignored):
        text += f" The repository has {path}, but .dockerignore keeps it out."
    return text
