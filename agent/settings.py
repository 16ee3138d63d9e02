"""What an operator can set: one Struct per concern, read from a TOML file and from ``PUSHBOAT_*``.

A table of the file is a field of `Settings`, a key of the table a field of that Struct. The environment wins:
``PUSHBOAT_SSH_PORT`` is ``port`` of ``[ssh]``. An unknown or wrong setting stops the start, since a typing
error in a limit is worse than an agent that says why it does not run.

What is written below a setting says what it does, with its unit, and after ``Why:`` what is to be said for its default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, get_origin

import msgspec

from agent.errors import Misconfigured

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
PortText = Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,4}\Z")]
"""A port within a list, which variables can only give as text."""
"""A TCP port; 0 lets the system choose."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
Interface = Annotated[str, msgspec.Meta(pattern=r"^(|[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14})\Z")]
"""A network interface, or none: up to 15 bytes for the kernel, and no final +, which iptables reads as a wildcard."""
ControlGroup = Annotated[str, msgspec.Meta(pattern=r"^(|[a-z][a-z0-9_]{0,62}\.slice)\Z")]
"""A systemd slice below the root, or none."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
"""Up to a year: TOML knows ``inf``, and no timer does."""

PREFIX = "PUSHBOAT_"
_UNKNOWN = re.compile("Object contains unknown field `(.*)`")
NOT_SETTINGS = frozenset(
    f"PUSHBOAT_{name}"
    for name in ("CONFIG", "DATA", "HOST", "PORT", "KEY", "APP", "GIT_REMOTE", "HTTP", "DOMAIN", "TZ")
)
"""Variables of ours that are no settings of the agent: where its file is, and what the client and quickstart use."""


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[data]``: where the agent keeps what it remembers."""

    folder: str = "/var/lib/pushboat"
    """Database, key file, repositories, logs, proxy files. Owned by the agent, mode 0700. Why: it is where
    Linux has what a service remembers."""


class SshSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[ssh]``: the front door."""

    host: str = "0.0.0.0"
    """Address to listen on. Why: all of the machine's: people push from elsewhere, and only keys sign in."""
    port: Port = 2222
    """TCP port to listen on. Why: not 22, so that the machine's own sshd stays as it is."""
    login_grace: Seconds = 20.0
    """Seconds a connection may take to sign in. Why: OpenSSH gives 120; a key needs one."""
    max_tries: Count = 6
    """Keys one connection may offer. Why: as OpenSSH; an ssh agent with many keys offers all."""
    max_unauthenticated: Count = 100
    """Connections that have not signed in yet, in all. Further ones wait up to 5 s. Why: a login takes milliseconds, so
    that many are either a crowd of hundreds a second or nobody's."""
    max_unauthenticated_per_source: Count = 10
    """The same, from one address. Why: so that one source cannot shut the others out."""
    max_sessions: Count = 10
    """Sessions at once on one connection. Why: as OpenSSH's MaxSessions."""
    keepalive: Seconds = 15.0
    """Seconds between questions to a silent peer; after three without an answer it is given up. Why: who is gone is
    noticed within a minute."""
    idle: Seconds = 3600.0
    """Seconds after which a connection whose sessions ask for nothing is closed. Why: a shared connection that was left
    behind; whoever works comes back sooner."""


class GitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[git]``: what may be pushed."""

    max_push_bytes: Count = 1 << 30
    """Bytes of one pack as sent. Why: 1 GiB holds any repository that should be deployed."""
    max_refs: Count = 1_000
    """Branches and tags of one push. Why: a mirror of a large project has more, but is nothing to deploy."""
    max_list_bytes: Count = 1 << 20
    """Bytes of the list of them. Why: 1,000 of the longest names, and some thousand edges of a shallow clone."""
    max_files: Count = 100_000
    """Files of one commit. Why: Linux itself has fewer; a folder of packages that was committed by mistake, or a bomb,
    has more."""
    max_depth: Count = 100
    """Folders within folders, above one file. Why: nobody's tree is half as deep, and each level costs whoever walks
    it."""
    max_path_bytes: Count = 4_096
    """Bytes of one path. Why: PATH_MAX of Linux, which nothing longer can be opened by."""
    max_file_bytes: Count = 1 << 30
    """Bytes of one file, unpacked. Why: a pack of 1 MB can hold 1 GiB of zeros."""
    max_tree_bytes: Count = 2 << 30
    """Bytes of all files of one commit, unpacked. Why: it is what a build is sent; twice the largest pack, as sources
    pack to less than half."""
    max_image_bytes: Count = 10 << 30
    """Bytes of one archive for git:load-image, as sent and unpacked. It lies in the data folder while it is read. Why:
    images with a toolchain or a model have some gigabytes."""
    ca_file: str = ""
    """PEM file of authorities that git servers elsewhere may be vouched for by, besides the system's. Why: none; a
    company's own server is what it is for."""
    creates_apps: bool = True
    """Whether a push to an app that does not exist creates it. Why: the first push should be all that it takes; false
    where a typing error should not make an app."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[http]``: the proxy."""

    binds: tuple[str, ...] = ("0.0.0.0:80",)
    """``address:port`` each. Under systemd, run `scripts/install` again after a change: systemd holds the ports. Why:
    HTTP's own port, where browsers look."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose X-Forwarded-* and X-Request-Id headers are believed, but for apps: their addresses
    (`network.pool`) never are. Why: none, since every visitor can send them."""
    max_connections: Count = 20_000
    """Client connections at once; fewer where HAProxy may not open two files for each, which `doctor` tells. Why: each
    costs about 34 kB in HAProxy when busy, so these are 700 MB."""
    spare_backends: Count = 200
    """Empty backends kept ready. Why: a new app needs no reload of the proxy, nor do the next 200."""
    keep_alive: Seconds = 15.0
    """Seconds an idle client connection stays open. Why: a page and what it loads come in less, and a deploy's drain
    waits this long after a reload."""
    is_supervised: bool = False
    """Whether the agent itself starts and restarts HAProxy. Why: under systemd, pushboat-proxy.service does."""


class DomainSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[domains]``: names that every app gets."""

    default: str = ""
    """If set: a global domain that is added at the first start, so that ``blog`` answers as ``blog.<default>``. Why:
    none, since nobody can guess yours."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[engine]``: Docker."""

    socket: str = "unix:///var/run/docker.sock"
    """Where the engine answers. Why: where Docker's own packages put it."""


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[network]``: where replicas live."""

    pool: str = "10.213.0.0/16"
    """Addresses for the bridges, cut into /20s. Must be used by nobody else; the firewall rules name it. Why: room for
    16 bridges of 4,000 replicas, apart from where Docker and most networks take theirs."""
    build_bridge: Interface = ""
    """Docker's default bridge (`docker0`), which build steps run on: named here, the firewall rules hold there too, for
    every container on it. Why: empty, which leaves it alone, since it may be somebody else's."""
    open_ports: tuple[PortText, ...] = ()
    """TCP ports of this machine that apps may reach besides the proxy's and the agent's ssh: 443, say, of another proxy
    that speaks HTTPS for their domains. Run `systemctl restart pushboat-firewall` after a change. Why: none, since what
    else listens here was hardly meant for apps."""


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[build]``: limits of builds."""

    concurrency: Count = 2
    """Builds at once on this machine. Why: one goes on while another waits for a network; more would only share the
    same cores, memory and disk."""
    timeout: Seconds = 1800.0
    """Seconds a build may take, unless the app says otherwise. Why: half an hour compiles what is large without a
    cache; what takes longer hangs."""
    trusted_builders: tuple[str, ...] = (
        "heroku/builder",
        "paketobuildpacks/builder-jammy-base",
        "paketobuildpacks/builder-jammy-full",
        "paketobuildpacks/builder-jammy-tiny",
        "gcr.io/buildpacks/builder",
    )
    """Builder images of Cloud Native Buildpacks that may be run. A name without a tag stands for all its tags. Why:
    those that `pack` itself suggests; a builder is given the source and what its build may know."""
    memory_percent: Percent = 75
    """Percent of this machine's memory, for all builds together. Why: a build that wants all of it ends, and no app
    does."""


class DiskSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[disk]``: how much of it may be used."""

    free_percent: Annotated[int, msgspec.Meta(ge=0, le=90)] = 20
    """Percent of each disk that holds our data or Docker's that should stay free. Below it what is not needed goes by
    itself: images, the build cache, in the end the oldest log lines. 0: nothing goes for that. Why: room for some
    builds and pushes that come at once."""
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Bytes that apps' images (each layer once), repositories, logs and transcripts, the database and the build cache
    that may be pruned may take together, before the same happens. 0: what leaves that much free. Why: whose else the
    disk is, is not known here."""
    prunes_build_cache: bool = True
    """Whether the build cache of Docker may be made smaller for it, what was not used for longest first. Why: it is
    what fills most disks. It is the whole engine's: false where others build on it too."""
    build_bytes: Count = 1 << 30
    """Bytes that have to be free for a build or the loading of an image to begin. Why: less would not hold the image
    of most, and a full disk stops everybody."""
    push_bytes: Count = 64 << 20
    """Bytes that have to be free for a push, an archive or a sync to begin; on a small disk a twentieth of it. Why:
    room for its objects and what the database writes meanwhile."""


class ReplicaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[replicas]``: defaults for containers."""

    pids: Count = 512
    """Processes and threads of one replica. Why: room for any server, none for a fork bomb."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Bytes of memory that one replica may take; 0: no limit. Why: any other number would break somebody's app."""
    start_seconds: Seconds = 60.0
    """How long a web replica may take until its port answers, and any until its image's HEALTHCHECK passes, unless that
    one needs longer to come to a result. Checks of app.json have times of their own. Why: Heroku's own limit, which
    apps are written for."""
    stop_seconds: Seconds = 30.0
    """Seconds from SIGTERM to SIGKILL. Why: Dokku's and Heroku's, which apps are written for: to end the requests and
    jobs under way."""
    task_seconds: Seconds = 1800.0
    """How long a task of a deploy (the Procfile's release) may take before it is ended, and the deploy with it. Why: as
    a build: a migration of a large table takes minutes."""
    drain_seconds: Seconds = 60.0
    """How long a replaced replica may go on with requests in flight and open sockets. Why: answers are done in seconds,
    and browsers open a lost websocket again."""
    control_group: ControlGroup = ""
    """The systemd slice in which new replicas run; empty: where Docker puts every container. One-off containers, tasks
    and builds stay there. Why: empty, since a slice without a weight of its own helps nobody; `scripts/install` brings
    one, and its unit says `pushboat.slice` here: what serves gets the CPU before what changes it."""
    kept_releases: Count = 5
    """Releases whose images are kept for rollbacks. Why: who goes back goes back by one or two; each may take a
    gigabyte."""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[logs]``: the agent's own log, and the apps'."""

    format: Annotated[str, msgspec.Meta(pattern="^(json|console)$")] = "console"
    """``json`` for collectors, ``console`` for people and journald. Why: journald keeps it, and people read it
    there."""
    level: Annotated[str, msgspec.Meta(pattern="^(debug|info|warning|error)$")] = "info"
    """Of the agent's own log. Why: ``debug`` tells of each connection as well."""
    budget_bytes: Count = 2 << 30
    """Bytes on disk for all apps' lines together, compressed; the oldest go first. Why: several times as much
    as they were written, and little of most disks."""
    app_budget_bytes: Count = 256 << 20
    """Bytes on disk for one app's lines, compressed. Why: an eighth of all, so that one that floods leaves the others
    theirs."""


class BusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[bus]``: reactions."""

    grace: Seconds = 10.0
    """Seconds that work under way gets when the agent stops; what is cut off runs again after the restart. Why: most
    steps take less, and systemd gives it 45 s in all."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an operator can set."""

    data: DataSettings = DataSettings()
    ssh: SshSettings = SshSettings()
    git: GitSettings = GitSettings()
    http: HttpSettings = HttpSettings()
    domains: DomainSettings = DomainSettings()
    engine: EngineSettings = EngineSettings()
    network: NetworkSettings = NetworkSettings()
    build: BuildSettings = BuildSettings()
    disk: DiskSettings = DiskSettings()
    replicas: ReplicaSettings = ReplicaSettings()
    logs: LogSettings = LogSettings()
    bus: BusSettings = BusSettings()

    @property
    def folder(self) -> Path:
        """The data folder."""
        return Path(self.data.folder)


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Return the settings of the file at `path` (none: defaults), overridden by ``PUSHBOAT_*`` of `environment`.

    Raises:
        Misconfigured: the file cannot be read, or a setting is unknown or has a wrong value; the message names it.
    """
    tables = _read(path) if path else {}
    for name, text in environment.items():
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            _override(tables, name, text)
    try:
        settings = msgspec.convert(tables, Settings)
    except msgspec.ValidationError as error:
        raise Misconfigured(
            "settings.invalid", _told(str(error)), "See docs/settings.md for names, units and ranges."
        ) from error
    _check_pool(settings.network.pool)
    return settings


def _told(error: str) -> str:
    """Return msgspec's words, ``Expected `int`, got `str` - at `$.ssh.port```, as an operator would put them."""
    what, _, where = error.partition(" - at ")
    place = where.strip("`").removeprefix("$.")
    if unknown := _UNKNOWN.fullmatch(what):
        name = unknown[1]
        return f"{place}.{name} is not a setting." if place else f"[{name}] is no table of settings."
    return f"The setting {place} is wrong: {what[:1].lower()}{what[1:]}."


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured("settings.unreadable", f"{path} cannot be read: {error}", "Mend the file.") from error


def _override(tables: dict[str, Any], name: str, text: str) -> None:
    concern, _, key = name.removeprefix(PREFIX).lower().partition("_")
    known = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    keys = {field.name: field.type for field in msgspec.structs.fields(known[concern])} if concern in known else {}
    if key not in keys:
        raise Misconfigured(
            "settings.unknown", f"{name} is not a setting.", "See docs/settings.md, or remove it from the environment."
        )
    value: object = text
    if get_origin(keys[key]) is tuple:
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif keys[key] is bool:
        value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    elif keys[key] is not str:
        value = _number(text)
    table = tables.setdefault(concern, {})
    if isinstance(table, dict):  # else the file has something there that is refused with all the rest
        table[key] = value


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check_pool(pool: str) -> None:
    try:
        network = IPv4Network(pool)
    except ValueError as error:
        raise Misconfigured(
            "settings.invalid", f"network.pool is not an IPv4 network: {error}.", "Write it as 10.213.0.0/16."
        ) from error
    if network.prefixlen > 20:
        raise Misconfigured(
            "settings.invalid", f"network.pool {pool} is too small.", "It must hold at least one /20 (4,096 addresses)."
        )
