"""What users were told, and what may therefore be true.

For each thing that a user can set there is the set of values that it may have now. A command adds the value that it
wants before it is given; once it is acknowledged, nothing but that value is possible. A command whose answer was lost
leaves both. So "every acknowledged change is there" is: what is stored is among the possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from agent.ports.source import SourceRepo
from agent.state.database import Tables
from proto.names import AppId, AppName, ProcessType
from tests.fakes.git import BRANCH

Value = str | int | bool | None


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
        self.secrets: set[str] = set()

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
            deployed = {deploy.commit_id for deploy in await read.deploys.of_app(app_id, limit=10_000)}
            for commit in sorted(ledger.commits - deployed):
                wrong.append(f"the push of {commit} to {app_id} was acknowledged and has no deploy")
            tip = await repos.tip(app_id, BRANCH)
            if tip is not None and tip not in deployed:
                wrong.append(f"the branch of {app_id} is at {tip}, which was not deployed")
        known = {app.id for app in await read.apps.all()}
        strangers = [app for app in await read.apps.all() if app.id not in self.apps and app.name not in self.unsure]
        return wrong + [f"nobody made {app.name}" for app in strangers if app.id in known]


def _differences(app: AppId, what: str, thing: Thing, value: Value) -> Iterable[str]:
    if value not in thing.possible:
        yield f"{app}: {what} is {value!r}, and can only be one of {sorted(map(repr, thing.possible))}"
