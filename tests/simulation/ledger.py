"""What users were told, and what may therefore be true.

For each thing that a user can set there is the set of values that it may have now. A command adds the value that it
wants before it is given; once it is acknowledged, nothing but that value is possible. A command whose answer was lost
leaves both. So "every acknowledged change is there" is: what is stored is among the possible.

Deploys have ids, which people are told: each of those is there, the one of a command that ended well went live, and one
whose end was acknowledged never did. What was asked for once is there once at most.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from agent.ports.source import SourceRepo
from agent.state.apps import App
from agent.state.database import Tables
from agent.state.deploys import Deploy
from proto.names import AppId, AppName, DeployId, ProcessType, ReplicaId
from proto.wire import Exit
from tests.fakes.git import BRANCH

Value = str | int | bool | None

CANARY = "canary-"
"""What every secret of a simulation begins with."""

_NAMED = re.compile(r"(?:To stop|Cancel) it: deploys:cancel \S+ (\S+)")
"""How a deploy that was taken on is named to whoever asked for it."""
_GOING_BACK = re.compile(r"-----> Rolling \S+ back to v(\d+)")
_CANCELLING = re.compile(r"Cancelling deploy (\S+) of")


class Thing:
    """One thing that users set."""

    def __init__(self, value: Value) -> None:
        self.possible: set[Value] = {value}
        self.history: set[Value] = {value}

    def asked(self, value: Value) -> None:
        """Note that it may become this, from now on."""
        self.possible.add(value)
        self.history.add(value)

    def acknowledged(self, value: Value) -> None:
        """Note that it is this."""
        self.possible = {value}
        self.history.add(value)

    def anything(self) -> None:
        """Note that it may become whatever it ever was."""
        self.possible |= self.history


class AppLedger:
    """What may be true of one app."""

    def __init__(self, name: AppName) -> None:
        self.name = Thing(name)
        self.exists = Thing(True)
        self.is_stopped = Thing(False)
        self.config: dict[str, Thing] = defaultdict(lambda: Thing(None))
        self.scale = {ProcessType("web"): Thing(1), ProcessType("worker"): Thing(0)}
        self.domains: dict[str, Thing] = defaultdict(lambda: Thing(False))
        self.commits: set[str] = set()
        """What was pushed and acknowledged."""
        self.properties: dict[str, Thing] = defaultdict(lambda: Thing(None))
        self.deploys: set[DeployId] = set()
        """Deploys that somebody was told of."""
        self.went_live: set[DeployId] = set()
        """Those whose command or push ended with status 0."""
        self.cancelled: set[DeployId] = set()
        self.went_back: Counter[int] = Counter()
        """How often it was acknowledged that this release comes back."""
        self.asked: Counter[str] = Counter()
        """How often each kind of deploy was asked for, of those kinds that are always deploys of their own."""
        self.replaced: set[ReplicaId] = set()
        """Replicas in whose place it was acknowledged that others come."""

    def heard(self, text: str, *, status: int | None) -> None:
        """Take from an answer which deploys it tells of. `status`: `None` if the server died in it."""
        named = {DeployId(found) for found in _NAMED.findall(text)}
        self.deploys |= named
        if status == Exit.OK:
            self.went_live |= named
        self.went_back.update(int(version) for version in _GOING_BACK.findall(text))
        self.cancelled |= {DeployId(found) for found in _CANCELLING.findall(text)}

    @property
    def may_be_unserved(self) -> bool:
        """Whether a user asked for something after which nothing serves."""
        return True in self.is_stopped.possible or 0 in self.scale[ProcessType("web")].possible or self.may_be_gone

    @property
    def may_be_gone(self) -> bool:
        """Whether somebody asked for its end."""
        return False in self.exists.possible

    def will_start(self) -> None:
        """Note that a deploy was asked for, which starts what is stopped."""
        self.is_stopped.asked(False)


class Ledger:
    """What may be true of all apps."""

    def __init__(self) -> None:
        self.apps: dict[AppId, AppLedger] = {}
        self.unsure: set[str] = set()
        """Names of apps whose creation was not acknowledged."""

    def counts(self) -> Counter[str]:
        """Count what people were told, by kinds, so that a test can tell that each was heard of at all."""
        found: Counter[str] = Counter()
        for app in self.apps.values():
            found["named"] += len(app.deploys)
            found["went live"] += len(app.went_live)
            found["cancelled"] += len(app.cancelled)
            found["went back"] += app.went_back.total()
            found["replaced"] += len(app.replaced)
            found["set"] += sum(thing.possible != {None} for thing in app.properties.values())
        return found

    def may_be_unserved(self, app: AppId) -> bool:
        """See ``Witness``."""
        return app not in self.apps or self.apps[app].may_be_unserved

    async def check(self, read: Tables, repos: SourceRepo) -> list[str]:
        """Return what is stored otherwise than it was acknowledged, and which pushes are half done."""
        wrong: list[str] = []
        for app_id, ledger in self.apps.items():
            row = await read.apps.get(app_id)
            if row is None or row.destroyed_at is not None:
                if not ledger.may_be_gone:
                    wrong.append(f"{app_id} is gone, and nobody destroyed it")
                continue
            wrong += _differences(app_id, "exists", ledger.exists, True)
            wrong += _differences(app_id, "name", ledger.name, row.name)
            wrong += _differences(app_id, "is stopped", ledger.is_stopped, row.is_stopped)
            config = await read.configs.get(app_id)
            for key, thing in ledger.config.items():
                wrong += _differences(app_id, f"config {key}", thing, config.get(key))
            scales = await read.scales.of_app(app_id)
            for process, thing in ledger.scale.items():
                default = 1 if process == "web" else 0
                wrong += _differences(app_id, f"scale {process}", thing, scales.get(process, default))
            stored = set(await read.domains.of_app(app_id))
            for domain, thing in ledger.domains.items():
                wrong += _differences(app_id, f"domain {domain}", thing, domain in stored)
            for name, thing in ledger.properties.items():
                wrong += _differences(app_id, f"property {name}", thing, await read.properties.get(app_id, name))
            deploys = await read.deploys.of_app(app_id, limit=10_000)
            wrong += [f"{app_id}: {what}" for what in _deploys_not_as_told(ledger, deploys)]
            wrong += [f"{app_id}: {what}" for what in await _releases_not_as_told(ledger, row, read)]
            deployed = {deploy.commit_id for deploy in deploys}
            for commit in sorted(ledger.commits - deployed):
                wrong.append(f"the push of {commit} to {app_id} was acknowledged and has no deploy")
            tip = await repos.tip(app_id, BRANCH)
            if tip is not None and tip not in deployed:
                wrong.append(f"the branch of {app_id} is at {tip}, which was not deployed")
        known = {app.id for app in await read.apps.all()}
        strangers = [app for app in await read.apps.all() if app.id not in self.apps and app.name not in self.unsure]
        return wrong + [f"nobody made {app.name}" for app in strangers if app.id in known]


def _deploys_not_as_told(ledger: AppLedger, deploys: Sequence[Deploy]) -> Iterable[str]:
    status = {deploy.id: deploy.status for deploy in deploys}
    for deploy in sorted(ledger.deploys - status.keys()):
        yield f"somebody was told of the deploy {deploy}, which is not there"
    for deploy in sorted(ledger.went_live & status.keys()):
        if status[deploy] != "live":
            yield f"somebody was told that the deploy {deploy} is live, and it is {status[deploy]}"
    for deploy in sorted(ledger.cancelled):
        if status.get(deploy) != "cancelled":
            yield f"somebody was told that the deploy {deploy} is cancelled, and it is {status.get(deploy)}"
    went_back = Counter(deploy.from_release for deploy in deploys if deploy.kind == "rollback")
    for version, count in ledger.went_back.items():
        if went_back[version] < count:
            yield f"{count} rollbacks to v{version} were acknowledged, and {went_back[version]} are there"
    kinds = Counter(deploy.kind for deploy in deploys)
    for kind in ("push", "rollback", "restart"):
        if kinds[kind] > ledger.asked[kind]:
            yield f"{ledger.asked[kind]} times a {kind} was asked for, and there are {kinds[kind]}"


async def _releases_not_as_told(ledger: AppLedger, app: App, read: Tables) -> list[str]:
    served = [release.version for release in await read.releases.of_app(app.id) if release.live_at is not None]
    wrong = []
    if app.live_release != max(served, default=None):
        wrong.append(f"v{app.live_release} is live, and the last that went live is v{max(served, default=None)}")
    left = ledger.replaced & {row.id for row in await read.replicas.of_app(app.id)}
    return wrong + [f"{replica} is still there, and others were to take its place" for replica in sorted(left)]


def _differences(app: AppId, what: str, thing: Thing, value: Value) -> Iterable[str]:
    if value not in thing.possible:
        yield f"{app}: {what} is {value!r}, and can only be one of {sorted(map(repr, thing.possible))}"
