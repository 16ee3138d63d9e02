"""How log lines are written in a segment: one text line each, made to be split rather than parsed.

A record is ``<ns> <process>.<number> <release> <o|e|a> <replica> <text>``; all but the text is free of blanks. Between
records stand checkpoints, ``#1 <ns> <json>``: when it was written, and up to where each replica's lines are
stored, so that a restart reads only what follows the last one. A record begins with a digit, so neither is
mistaken for the other. `Recent` is what a checkpoint says of one replica.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from agent.ports.logs import LogLine, LogLines, LogQuery, Position, Stream, count_slots, slot_of
from proto.names import ProcessType, ReplicaId

OVERLAP_NS = 2_000_000_000
"""How far back from a replica's newest stamp its lines are counted, and read again after a restart (2 s).

Docker stamps stdout and stderr in two goroutines, each before it waits for its turn to write. Usually that lets stamps
step back by microseconds; on an overloaded machine steps of more than 5 ms were met. A hundredfold margin.
"""

CHECKPOINT = b"#1 "
"""How a checkpoint line begins; the digit is the version of its format."""

_CODES: Mapping[Stream, str] = {"stdout": "o", "stderr": "e", "agent": "a"}
_STREAMS: Mapping[bytes, Stream] = {b"o": "stdout", b"e": "stderr", b"a": "agent"}
_FIELDS = 6


class Recent(msgspec.Struct, kw_only=True):
    """What a replica's newest stored lines are. Updated in place; how lines are batched makes no difference."""

    newest: int = 0
    seen: dict[int, int] = {}
    ended_at: int = 0

    @property
    def since(self) -> int:
        """The beginning of the first slot that is counted."""
        return slot_of(max(self.newest - OVERLAP_NS, 0))

    def absorb(self, stamps: Sequence[tuple[int, bool]]) -> None:
        """Take note of lines just stored: each one's stamp, and whether it is the agent's own."""
        self._count([at for at, is_agent in stamps if not is_agent])
        if stamps:
            at, is_agent = stamps[-1]
            self.ended_at = at if is_agent else 0

    def absorb_lines(self, lines: Sequence[LogLine]) -> None:
        """Take note of lines just stored, of which there is at least one."""
        if isinstance(lines, LogLines) and "agent" not in lines.raw.streams:
            self._count(lines.raw.at)
            self.ended_at = 0
        else:
            self.absorb([(line.at, line.stream == "agent") for line in lines])

    def _count(self, own: Sequence[int]) -> None:
        if not own:
            return
        self.newest = max(self.newest, max(own))
        since = self.since
        self.seen = {slot: count for slot, count in self.seen.items() if slot >= since}
        for slot, count in count_slots(own).items():
            if slot >= since:
                self.seen[slot] = self.seen.get(slot, 0) + count

    def position(self) -> Position:
        """Return where to follow from."""
        return Position(since=self.since, seen=dict(self.seen), newest=self.newest, ended_at=self.ended_at)


class Checkpoint(msgspec.Struct):
    """One checkpoint line."""

    at: int
    """Nanoseconds: every record before it was stored, and so stamped, no later."""
    recent: dict[ReplicaId, Recent]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a record must be to match, as the bytes of its fields. The defaults let all pass."""

    source: bytes = b""
    """Start of the second field: ``web.`` or, to be met in full, ``web.1``."""
    is_one: bool = False
    """Whether `source` is a whole field."""
    release: bytes = b""
    since: int = 0
    until: int = 2**63

    def accepts(self, fields: Sequence[bytes]) -> bool:
        """Tell whether the record split into `fields` matches."""
        if self.release and fields[2] != self.release:
            return False
        if self.is_one and fields[1] != self.source:
            return False
        return fields[1].startswith(self.source) and self.since <= int(fields[0]) <= self.until


def wanted(query: LogQuery) -> Wanted:
    """Return what `query` demands of a record, but for its pattern."""
    source = b""
    if query.process is not None:
        number = "" if query.number is None else str(query.number)
        source = f"{query.process}.{number}".encode()
    return Wanted(
        source=source,
        is_one=query.process is not None and query.number is not None,
        release=b"" if query.release is None else str(query.release).encode(),
        since=query.since or 0,
        until=2**63 if query.until is None else query.until,
    )


def encode(replica: ReplicaId, lines: Sequence[LogLine]) -> bytes:
    """Return the records of `lines`. A newline within a text, which should not be there, is stored as ``\\n``."""
    if isinstance(lines, LogLines):
        return _encode_columns(replica, lines)
    records: list[str] = []
    for line in lines:
        text = line.text if "\n" not in line.text else line.text.replace("\n", "\\n")
        code = _CODES[line.stream]
        records.append(f"{line.at} {line.process}.{line.number} {line.release} {code} {replica} {text}\n")
    return "".join(records).encode("utf-8", "replace")


def _encode_columns(replica: ReplicaId, lines: LogLines) -> bytes:
    raw = lines.raw
    middles = {
        stream: f" {lines.process}.{lines.number} {lines.release} {code} {replica} ".encode()
        for stream, code in _CODES.items()
    }
    texts = _readable(raw.texts)
    if raw.is_of_one_stream:
        middle = middles[raw.streams[0]]
        return b"".join([b"%d%b%b\n" % (at, middle, text) for at, text in zip(raw.at, texts, strict=True)])
    return b"".join(
        [b"%d%b%b\n" % (at, middles[stream], text) for at, stream, text in zip(raw.at, raw.streams, texts, strict=True)]
    )


def _readable(texts: Sequence[bytes]) -> Sequence[bytes]:
    """Return `texts` as valid UTF-8 without newlines. One look at all of them is enough where nothing is wrong."""
    together = b"\n".join(texts)
    if together.count(b"\n") == len(texts) - 1 and _is_utf8(together):
        return texts
    return [text.decode("utf-8", "replace").replace("\n", "\\n").encode() for text in texts]


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def split(record: bytes) -> list[bytes] | None:
    """Return the fields of one record (no newline), or `None` for what is none: a checkpoint, a torn line."""
    fields = record.split(b" ", _FIELDS - 1)
    if len(fields) != _FIELDS or not fields[0].isdigit() or fields[3] not in _STREAMS:
        return None
    return fields


def decode(fields: Sequence[bytes]) -> LogLine:
    """Return the line whose record was split into `fields`."""
    process, _, number = fields[1].decode().rpartition(".")
    return LogLine(
        at=int(fields[0]),
        process=ProcessType(process),
        number=int(number),
        release=int(fields[2]),
        stream=_STREAMS[fields[3]],
        text=fields[5].decode("utf-8", "replace"),
    )


def text_of(fields: Sequence[bytes]) -> str:
    """Return just the text of a record split into `fields`."""
    return fields[5].decode("utf-8", "replace")


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the checkpoint as a line."""
    return CHECKPOINT + str(checkpoint.at).encode() + b" " + msgspec.json.encode(checkpoint.recent) + b"\n"


def decode_checkpoint(line: bytes) -> Checkpoint | None:
    """Return the checkpoint that `line` (no newline) is, or `None` if it is none that can be read."""
    if not line.startswith(CHECKPOINT):
        return None
    at, _, body = line.removeprefix(CHECKPOINT).partition(b" ")
    try:
        return Checkpoint(at=int(at), recent=_recent.decode(body))
    except (ValueError, msgspec.DecodeError):
        return None


def absorb_records(recent: dict[ReplicaId, Recent], records: Iterable[bytes]) -> None:
    """Bring `recent` up to date with stored records, as absorbing them when they were stored did."""
    stamps: dict[bytes, list[tuple[int, bool]]] = {}
    for record in records:
        fields = split(record)
        if fields is not None:
            stamps.setdefault(fields[4], []).append((int(fields[0]), fields[3] == b"a"))
    for replica, of_replica in stamps.items():
        recent.setdefault(ReplicaId(replica.decode()), Recent()).absorb(of_replica)


_recent = msgspec.json.Decoder(dict[ReplicaId, Recent])
