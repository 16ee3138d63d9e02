"""What git says when a fetch fails, in words that say what to do. Git's texts are not translated (``LC_ALL=C``)."""

from __future__ import annotations

import re

from agent.errors import Unavailable, UserError
from agent.git.process import GitFailed
from agent.ports.remotes import Address
from agent.sanitise import quoted

_LINE = re.compile(r"(?:fatal|error|ssh|remote): *(.*)")
_OWN = re.compile(r"^(?:fatal|error): (.*)", re.MULTILINE)
_DIED = ["fetch-pack: invalid index-pack output"]
"""All that is said when the kernel ended the git that stores what comes, at one of its limits."""
_TOO_LARGE = re.compile(
    r"died of signal (?:25|6)\b|File too large|Out of memory|memory exhausted|cannot allocate memory", re.I
)
_REFUSED = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|terminal prompts disabled|Permission denied"
    r"|requested URL returned error: 40[13]|Access denied|Too many authentication failures"
)
_REDIRECT = re.compile(r"unable to update url base|requested URL returned error: 30\d|redirect", re.I)
_NOTHING_THERE = re.compile(
    r"repository .* not found|requested URL returned error: 404|does not appear to be a git repository"
    r"|Repository not found|no such repository|project you were looking for could not be found",
    re.I,
)
_NO_REF = re.compile(r"couldn't find remote ref|not our ref|unadvertised object|no such remote ref", re.I)
_CERTIFICATE = re.compile(r"certificate|SSL routines|gnutls_handshake|TLS", re.I)
_HOST_KEY = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|host key is known", re.I)
_FULL = "No space left on device"


def explained(error: GitFailed, *, address: Address, ref: str, max_bytes: str) -> UserError:
    """Return what a failed fetch of `ref` means. `max_bytes`: how much may come, for people."""
    text = error.error
    where = address.url
    if is_of_full_disk(error):
        return disk_full()
    if _TOO_LARGE.search(text) or _OWN.findall(text.replace("\r", "\n")) == _DIED:
        message = f"{where} has more than {max_bytes}, or unfolds to more than git may hold."
        return UserError("source.too-large", message, "Take large files out of its history (git filter-repo).")
    if _HOST_KEY.search(text):
        return UserError(
            "git.host-changed",
            f"{address.place} shows another key than the one that is known. Somebody may be in between.",
            f"If its owners say that it has changed: git:allow-host {address.place} --replace",
        )
    if address.scheme == "https" and _CERTIFICATE.search(text):
        hint = "If it is an authority of your own: settings [git], ca_file."
        return UserError("git.certificate", f"The certificate of {address.place} is not trusted.", hint)
    if _REFUSED.search(text):
        return UserError("git.refused", f"{address.place} does not let Pushboat read {where}.", _way_in(address))
    if _REDIRECT.search(text):
        message = f"{where} leads on to another address, which is not followed."
        return UserError("git.redirected", message, "Give the address where the repository is now.")
    if _NO_REF.search(text):
        return no_ref(address, ref)
    if _NOTHING_THERE.search(text):
        hint = f"Look at the address; some servers say so, too, where they let nobody in: {_way_in(address)}"
        return UserError("git.no-repository", f"There is no repository at {where}.", hint)
    reason = _reason(text)
    return UserError("git.unreachable", f"{where} cannot be fetched: {reason}", "Look whether it answers this server.")


def is_of_full_disk(error: GitFailed) -> bool:
    """Tell whether git found no room."""
    return _FULL in error.error


def disk_full() -> Unavailable:
    """Return the error of a full disk."""
    return Unavailable("disk.full", "The server's disk is full.", "Make space; doctor says where.")


def no_ref(address: Address, ref: str) -> UserError:
    """Return the error of a ref that is not there."""
    what = f"has no branch, tag or commit {quoted(ref)}" if ref else "does not say which branch is its main one"
    return UserError("git.no-ref", f"{address.url} {what}.", "Name one: git:sync APP URL BRANCH")


def _way_in(address: Address) -> str:
    if address.scheme == "https":
        return f"Give it a name and a token: git:auth {address.place} USER < token-file"
    return "Make the app a key (git:generate-deploy-key APP) and add it there."


def _reason(text: str) -> str:
    lines = _OWN.findall(text) or [match[1] for line in text.splitlines() if (match := _LINE.match(line)) and match[1]]
    return (lines[0] if lines else "it gave no reason")[:300]
