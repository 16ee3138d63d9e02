"""Command lines that nobody would think of, drawn from what the registry says of each command.

Three kinds. *Valid*: every argument is something that the prepared server (``harbour``) knows or takes. *Nearly*: one
or two things about a valid line are wrong. *Garbage*: hostile words in any order, quoted or not, or no words at all.
Values that stand for secrets hold `CANARY`, always behind an ``=``: that is how a mistake is told from a value.

Everything is drawn by a `random.Random`: a seeded one where many lines are wanted, and hypothesis's own where the
smallest one is that goes wrong.
"""

from __future__ import annotations

import io
import random
import shlex
import tarfile
from collections.abc import Callable, Mapping, Sequence

import msgspec

from agent.commands.arguments import Argument, Flag, Option, Parameter
from agent.commands.catalogue import every_command
from agent.commands.registry import Entry, noun_of
from agent.lifecycle.properties import PROPERTIES

CANARY = "canary-typed-71c2e9"
"""Stands wherever a secret is typed. No answer may hold it but those of `TELLING`."""

TELLING = ("config:get", "config:show", "config:export", "docker-options:list", "releases:diff")
"""Commands whose very answer is what was set: config, and build arguments."""

UNTOUCHED = ("config:get", "config:export", "builder:plan")
"""Commands whose answer is for scripts, and not touched where no terminal is at the other end."""

PAYLOADS: tuple[str, ...] = (
    *("$(id>{file})", "`id>{file}`", ";id>{file};", "|id>{file}", "||id>{file}", "&&id>{file}", "&id>{file}&"),
    *("a\nid>{file}\n", "a\r\nid>{file}", "'; id>{file} #", '"; id>{file} #', "\\'; id>{file} #", "${{IFS}}id>{file}"),
    *(">{file}", "<(id>{file})", "../../../../../../..{file}", "..{file}", "{file}", "/etc/passwd", "~root", "."),
    *(
        "--help",
        "--output={file}",
        "--upload-pack=id>{file}",
        "-oProxyCommand=id>{file}",
        "-c",
        "-",
        "--",
        "-e",
        "@{file}",
    ),
    *("ext::sh -c id>{file}", "file://{file}", "!id>{file}", "%s%n%x", "{{}}", "{{0.__class__}}", "{{{{7*7}}}}"),
    *("$HOME", "*", "?", "[a-z]*", "a b", "a\tb", "", " ", "#", "=", "=a", "a=", "\\", "\\n", "'", '"'),
    *("\x1b[2J", "\x1b]0;x\x07", "\x9b31m", "\u202e", "\x00", "a\x00b", "\x7f", "\r", "\x08" * 3),
    *(
        "🚢",
        "é",
        "é",
        "ß.example.com",
        "\uff45xample",
        "\ufeffblog",
        "\u200b",
        "\ufffe",
        "x" * 300,
        "A" * 5_000,
        "9" * 40,
    ),
    *("0", "-1", "1e309", "nan", "٣", "null", "None", "true", "0x10", "1_000", "9" * 18, "2147483648"),
)
"""What is written where a plain value belongs. ``{file}`` becomes a file that would betray a shell."""


def payloads(file: str) -> tuple[str, ...]:
    """Return the payloads; `file` is what a shell would make of most."""
    return tuple(text.format(file=file) for text in PAYLOADS)


class Line(msgspec.Struct, frozen=True):
    """One command line as a client sends it, and what else he brings."""

    text: str
    stdin: bytes = b""
    is_tty: bool = False
    app: str = ""
    """What the client's folder is linked to."""
    has_key: bool = True


PAIRS = (f"SECRET={CANARY}", f"A={CANARY}", "A=1", "B=", "C=a b", "LONG=" + "x" * 2_000, f"lower={CANARY}", "A=$(id)")
APPS = ("blog", "draft", "shop.eu", "blog", "blog")

VALUES = (
    *("main", "true", "false", "GIT_REV", "dockerfile", "web", "deploy/Dockerfile", "debian:bookworm-slim", "ffmpeg"),
    *("30", "3600", "rolling", "all-at-once", "stop-first", "leastconn", "ghcr.io", "shop/blog", "latest,stable"),
    "pushboat/{{ .AppName }}",
)
"""Values of properties: each is right for some."""

SENSIBLE: Mapping[str, Sequence[str]] = {
    "app": APPS,
    "app_name": ("new", "other.app", "a", "x" * 63, "blog"),
    "new_name": ("journal", "blog", "new-name"),
    "at_once": ("1", "2", "-1"),
    "archive_type": ("tar", "tar.gz", "zip"),
    "author": ("ann", "Ann Lee"),
    "before": ("1", "20", "999"),
    "build_dir": ("web", "services/web"),
    "container": ("000", "abc"),
    "count": ("0", "1", "20", "10000"),
    "cpu": ("0.5", "2", "0"),
    "deploy": ("d", "dnone"),
    "domains": (
        "www.example.org",
        "a.example.com",
        "*.example.com",
        "b.example.org",
        "EXAMPLE.net",
        "blog.localhost",
        "ü.example.com",
    ),
    "email": ("ann@example.com",),
    "env": PAIRS,
    "event": ("1", "7", "99999"),
    "file": ("-",),
    "fingerprint": ("SHA256:ada", "SHA256:" + "A" * 43),
    "grep": ("GET", "a.*b", "(", "[", "\\", "(a+)+$"),
    "host": ("git.example.com", "git.example.com:2222", "example.org"),
    "image": ("registry.example.com/blog:1", "nginx:1.27", "nginx"),
    "key": ("A", "SECRET", "NOPE"),
    "keys": ("A", "SECRET", "NOPE"),
    "key_name": ("ada", "bob"),
    "memory": ("64m", "1g", "0", "1073741824"),
    "new": ("v1", "v2", "3"),
    "num": ("0", "1", "100", "99999"),
    "old": ("v1", "v2", "1"),
    "pairs": PAIRS,
    "password": ("hunter2",),
    "process": ("web", "worker", "web.1", "worker.2", "clock"),
    "quantities": ("web=1", "web=2", "worker=0", "worker=3", "web=0", "clock=1"),
    "ref": ("main", "v1.0", "a" * 40),
    "release": ("v1", "v2", "1", "v99"),
    "seconds": ("1", "60", "86400"),
    "server": ("ghcr.io", "docker.io", "127.0.0.1:5000"),
    "since": ("90s", "1h30m", "2d", "2026-01-01", "2026-01-01T10:00:00Z"),
    "topic": ("config", "config:set", "ps", "nope"),
    "types": ("web", "worker", "web,worker", "_all_"),
    "tz": ("Europe/Berlin", "UTC", "Nowhere/None"),
    "url": ("https://git.example.com/blog.git", "git@git.example.com:blog.git", "https://example.com/blog.tar.gz"),
    "user": ("ada",),
    "value": VALUES,
    "phase": ("build", "deploy", "run"),
    "format": ("shell", "json", "envfile", "docker-args"),
    "version": ("v1", "v2", "2", "v99"),
    "words": ("ls", "-la", "console", "--build-arg", f"TOKEN={CANARY}", f"--build-arg TOKEN={CANARY}"),
}
"""What the fields of commands take, by their names."""


def archive() -> bytes:
    """Return a tar archive with a small app, in which the names of images stand that ``git:load-image`` looks for."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, text in (("Dockerfile", "FROM scratch\n"), ("images", "nginx:1.27 registry.example.com/blog:1")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return content.getvalue()


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
"""A public key of nobody's (its private one was thrown away)."""

OWN: Mapping[tuple[str, str], Sequence[str]] = {
    ("buildpacks:set-property", "key"): ("stack", "nope"),
    ("docker-options:add", "phase"): ("build", "build", "deploy"),
    ("docker-options:add", "words"): (f"--build-arg TOKEN={CANARY}", f"--build-arg=A={CANARY}", "--build-arg B", "-x"),
    ("docker-options:remove", "phase"): ("build", "build", "run"),
    ("docker-options:remove", "words"): ("--build-arg TOKEN", "--build-arg B", "-x"),
    ("ssh-keys:add", "words"): (KEY, f"{KEY} someone", "ssh-rsa AAAA"),
}
"""What they take in one command alone."""

STDIN = (
    b"",
    f"A={CANARY}\nB='{CANARY}\nmore'\n".encode(),
    f'{{"A": "{CANARY}"}}'.encode(),
    b'{"A": "a\\u0000b"}',
    b'{"A\\u0000": "\\ud800", "B": 1, "B": [null]}',
    b"A='a\0b'\n",
    f"{CANARY}\n".encode(),
    b"blog\n",
    KEY.encode(),
    archive(),
    b"\0\xff\xfe\x1b[2J" + CANARY.encode(),
    b"PK\x03\x04" + CANARY.encode(),
    b"=\n=a\n'" + CANARY.encode(),
    CANARY.encode() * 20_000,
)

ENTRIES = tuple(every_command().entries())
SHELLED = "/tmp/pushboat-shelled"
"""A file that a shell would make of most payloads."""

HOSTILE = payloads(SHELLED)
FLAGS = (
    *("--app", "blog", "--force", "--quiet", "--format", "json", "stdout", "--global", "--all", "--help", "-h", "--"),
    *("-t", "-n", "--row", "--nope=1", "-q", "-tq", "-n5", "--app=blog", "--format=json", "--version", "--app="),
)
SERVICES = ("-receive-pack", "-upload-pack", " upload-pack", "-upload-archive", "-lfs-authenticate", "-shell")
PATHS = ("'blog'", "'/blog.git'", "blog", "'no'", "'blog' 'x'", "'$(id)'", "'../x'", "--help", "'", "")
ALPHABETS = (range(0x20, 0x7F), range(0x00, 0x20), range(0x7F, 0x250), range(0x2000, 0x2070), range(0x1F300, 0x1F600))


def draw(chance: random.Random) -> Line:
    """Return any line."""
    kinds = (*[_valid] * 5, *[_nearly] * 4, _far, _hostile, _unquoted, _noise, _git)
    return Line(
        text=chance.choice(kinds)(chance),
        stdin=chance.choice(STDIN),
        is_tty=chance.random() < 0.3,
        app=chance.choice(("", "", "", "blog", "nope", "$(id)")),
        has_key=chance.random() < 0.98,
    )


def fitting(entry: Entry, chance: random.Random) -> list[str]:
    """Return words that fit a command: its name, some options, its arguments in their order."""
    said = [_common, *([_option] * bool(entry.signature.options)), *([_row] * (entry.signature.info is not None))]
    words = [entry.name]
    for _ in range(chance.choice((0, 0, 1, 2))):
        words += chance.choice(said)(entry, chance)
    if entry.command.destroys and chance.random() < 0.7:
        words.append("--force")
    for parameter in entry.signature.arguments:
        words += _argument(entry, parameter, chance)
    return words


def sensible(entry: Entry, parameter: Parameter) -> Sequence[str]:
    """Return values that a field of a command takes, or that it knows how to refuse."""
    if own := OWN.get((entry.name, parameter.field)):
        return own
    noun = noun_of(entry.name)
    if parameter.field == "key" and (keys := [one.key for one in PROPERTIES.values() if one.noun == noun]):
        return keys
    if isinstance(parameter.kind, Option) and parameter.kind.choices:
        return parameter.kind.choices
    if parameter.field not in SENSIBLE:
        raise AssertionError(f"{entry.name} {parameter.field}: say in tests/attacks/lines.py what it takes")
    return SENSIBLE[parameter.field]


def _common(entry: Entry, chance: random.Random) -> list[str]:
    return list(chance.choice((("--format", "json"), ("--quiet",), ("--force",))))


def _row(entry: Entry, chance: random.Random) -> list[str]:
    return [chance.choice(("--nope", "--app-live-release", "--git-sha", "--status"))]


def _option(entry: Entry, chance: random.Random) -> list[str]:
    parameter = chance.choice(list(entry.signature.named()))
    assert isinstance(parameter.kind, Flag | Option)
    name = chance.choice(parameter.kind.names)
    return [name] if isinstance(parameter.kind, Flag) else [name, chance.choice(sensible(entry, parameter))]


def _argument(entry: Entry, parameter: Parameter, chance: random.Random) -> list[str]:
    assert isinstance(parameter.kind, Argument)
    values = (*sensible(entry, parameter), *parameter.kind.instead)
    count = chance.randint(int(parameter.is_required), 3 if parameter.is_many else 1)
    return [chance.choice(values) for _ in range(count)]


def _words(chance: random.Random) -> list[str]:
    return fitting(chance.choice(ENTRIES), chance)


def _valid(chance: random.Random) -> str:
    return shlex.join(_words(chance))


def _nearly(chance: random.Random) -> str:
    return shlex.join(_spoiled(_words(chance), chance))


def _far(chance: random.Random) -> str:
    return shlex.join(_spoiled(_spoiled(_words(chance), chance), chance))


def _hostile(chance: random.Random) -> str:
    return shlex.join([chance.choice(ENTRIES).name, *(_bad(chance) for _ in range(chance.randrange(5)))])


def _unquoted(chance: random.Random) -> str:
    return " ".join(chance.choice((_bad(chance), chance.choice(ENTRIES).name)) for _ in range(chance.randrange(7)))


def _noise(chance: random.Random) -> str:
    return "".join(chr(chance.choice(chance.choice(ALPHABETS))) for _ in range(chance.randrange(60)))


def _git(chance: random.Random) -> str:
    return f"git{chance.choice(SERVICES)} {chance.choice((chance.choice(PATHS), _bad(chance)))}"


def _bad(chance: random.Random) -> str:
    return chance.choice((chance.choice(HOSTILE), chance.choice(HOSTILE), chance.choice(FLAGS), _noise(chance)[:12]))


def _spoiled(words: list[str], chance: random.Random) -> list[str]:
    """Return `words` with one thing wrong. A word that holds a secret may be anywhere then, but stays whole."""
    hostile, place = _bad(chance), chance.randrange(len(words) + 1)
    before, word, after = words[:place], "".join(words[place : place + 1]), words[place + 1 :]
    changes: list[Callable[[], list[str]]] = [
        lambda: [*before, *after],
        lambda: [*before, word, word, *after],
        lambda: [*before, hostile, word, *after],
        lambda: [*before, *after[:1], word, *after[1:]],
        lambda: [*words, hostile],
    ]
    if CANARY not in word:
        changes += [
            lambda: [*before, hostile, *after],
            lambda: [*before, word + hostile, *after],
            lambda: [*before, hostile + word, *after],
            lambda: [*before, word[: len(word) // 2], *after],
            lambda: [*before, word.upper(), *after],
        ]
    return chance.choice(changes)()
