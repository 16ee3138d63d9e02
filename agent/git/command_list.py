"""The first thing a pushing client sends: which refs it wants where. Read and judged before git sees a byte of it.

The list is a run of pkt-lines up to a flush (gitprotocol-pack(5), "Reference Update Request"): perhaps some
``shallow <id>``, then ``<old> <new> <ref>``, the first of them followed by a NUL and the client's capabilities. An
up-to-date push and ``git push --dry-run`` send the flush alone. The pack follows, unless every command deletes.
"""

from __future__ import annotations

import re

import msgspec

from agent.errors import UserError
from agent.git.refs import HEADS, is_accepted_ref

MAX_REFS = 1_000
"""Refs in one push. A mirror of a large project has more, but is nothing to deploy."""

MAX_LIST_BYTES = 1 << 20
"""Of the whole list: `MAX_REFS` of the longest names, and some thousand shallow lines."""

NOTHING = "0" * 40
"""The object id that stands for "no such ref"."""

_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0\n]+)\n?")
_SHALLOW = re.compile(rb"shallow [0-9a-f]{40}\n?")
_LENGTH = re.compile(rb"[0-9a-f]{4}")
_SHOWN = 80
"""Characters of a hostile name that are shown."""
_MAX_PIECE = 65_000
"""Bytes of one side-band packet (gitprotocol-pack(5): 65,520 with its header)."""


class RefUpdate(msgspec.Struct, frozen=True):
    """One command: let `ref` point at `new`."""

    old: str
    new: str
    ref: str

    @property
    def is_deletion(self) -> bool:
        """Whether the ref is to go."""
        return self.new == NOTHING

    @property
    def branch(self) -> str | None:
        """The branch's name, `None` for a tag."""
        return self.ref.removeprefix(HEADS) if self.ref.startswith(HEADS) else None


class CommandList(msgspec.Struct, frozen=True):
    """All that one push wants."""

    updates: tuple[RefUpdate, ...]
    capabilities: frozenset[str]
    raw: bytes
    """The list as it came, its flush included, and what came after it."""
    size: int
    """Bytes of the list alone. The rest of `raw` is the beginning of the pack."""
    problem: UserError | None = None
    """Why the push must not go on: ``push.too-many-refs`` or ``push.ref-name``."""

    @property
    def has_pack(self) -> bool:
        """Whether a pack follows."""
        return any(not update.is_deletion for update in self.updates)

    def refusal(self, reason: str) -> bytes:
        """Return the protocol's answer that refuses every update for `reason` (one line), empty if none was asked for.

        The client shows it behind each ref: ``! [remote rejected] main -> main (reason)``.
        """
        if not self.capabilities & {"report-status", "report-status-v2"} or not self.updates:
            return b""
        lines = [_packet(b"unpack ok\n")]
        lines += [_packet(f"ng {update.ref} {reason}\n".encode()) for update in self.updates]
        report = b"".join(lines) + b"0000"
        if "side-band-64k" not in self.capabilities:
            return report
        pieces = [report[start : start + _MAX_PIECE] for start in range(0, len(report), _MAX_PIECE)]
        return b"".join(_packet(b"\1" + piece) for piece in pieces) + b"0000"


class CommandListReader:
    """Collects the list from the bytes of a client, however they are cut."""

    def __init__(self, *, max_refs: int = MAX_REFS, max_bytes: int = MAX_LIST_BYTES) -> None:
        self._max_refs = max_refs
        self._max_bytes = max_bytes
        self._raw = bytearray()
        self._position = 0
        self._updates: list[RefUpdate] = []
        self._capabilities: frozenset[str] = frozenset()
        self._problem: UserError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come at all."""
        return not self._raw

    def feed(self, data: bytes) -> CommandList | None:
        """Take what came; return the list once it is whole. What is wrong with its refs is in its ``problem``.

        Raises:
            UserError: ``push.garbled`` or ``push.list-too-long``; this is no list, or one without an end.
        """
        self._raw += data
        while len(self._raw) - self._position >= 4:
            head = bytes(self._raw[self._position : self._position + 4])
            if not _LENGTH.fullmatch(head):
                raise _garbled()
            length = int(head, 16)
            end = self._position + max(length, 4)
            if end > self._max_bytes:
                raise _too_long(self._max_bytes)
            if length == 0:
                raw = bytes(self._raw)
                return CommandList(tuple(self._updates), self._capabilities, raw, end, self._problem)
            if length <= 4:
                raise _garbled()
            if len(self._raw) < end:
                break
            self._take(bytes(self._raw[self._position + 4 : end]))
            self._position = end
        return None

    def _take(self, line: bytes) -> None:
        if _SHALLOW.fullmatch(line):
            return
        command, nul, capabilities = line.partition(b"\0")
        if nul and not self._updates:
            self._capabilities = frozenset(capabilities.decode("ascii", "replace").split())
        match = _COMMAND.fullmatch(command)
        if match is None or (nul and self._updates):
            raise _garbled()
        old, new, ref = (part.decode("utf-8", "replace") for part in match.groups())
        if len(self._updates) < self._max_refs:
            self._updates.append(RefUpdate(old, new, ref))
            self._problem = self._problem or _problem_of(ref)
        else:
            self._problem = UserError(
                "push.too-many-refs",
                f"This pushes more than {self._max_refs:,} refs at once.",
                "Push the branch that is to be deployed: git push REMOTE main",
            )


def _problem_of(ref: str) -> UserError | None:
    if is_accepted_ref(ref):
        return None
    return UserError(
        "push.ref-name",
        f"“{ref[:_SHOWN]}” is not a name that Pushboat takes.",
        "Push branches and tags whose names have letters, digits and . _ + @ = # , - / in them.",
    )


def _packet(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


def _too_long(limit: int) -> UserError:
    return UserError(
        "push.list-too-long",
        f"The list of what is pushed has more than {limit:,} bytes.",
        "Push fewer refs at once, or from a clone with more of its history.",
    )


def _garbled() -> UserError:
    return UserError("push.garbled", "The client does not speak git's push protocol.", "Use git push.")
