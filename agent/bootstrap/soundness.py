"""Holds what is stored against itself: the database, the key file that opens it, and the repositories.

Asked by ``pushboat-agent check``, also beside a running agent. Nothing is changed: what is wrong is for a person to
decide about, so each finding comes with what can be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.bootstrap.memory import belongs_together, key_of
from agent.errors import Misconfigured
from agent.git.repos import GitRepos
from agent.settings import Settings
from agent.state.apps import App
from agent.state.database import restore_hint
from agent.state.examination import Examined, examined
from agent.state.sql import StorageBroken
from agent.vault import Vault
from proto.names import AppId

_OF_A_RESTORED_COPY = "It may be from another time than the database: push the app again, from a clone that has it."


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    message: str
    hint: str = ""


class Soundness(msgspec.Struct, frozen=True):
    """What a look at all that is stored has shown."""

    looked_at: tuple[str, ...]
    """A line for each kind of thing, with how many there are."""
    findings: tuple[Finding, ...]


async def soundness(settings: Settings) -> Soundness:
    """Look at all that is stored. Takes as long as reading it.

    Raises:
        Misconfigured: the key file is missing, readable by others, or not a key.
        Unavailable: another program holds the database for itself, or git hangs.
    """
    path = settings.folder / "pushboat.db"
    if not await asyncio.to_thread(path.exists):
        return Soundness((f"Nothing is stored in {settings.folder} yet.",), ())
    vault = await asyncio.to_thread(key_of, settings)
    try:
        async with examined(path, vault) as database:
            return await _look(database, vault, settings.folder)
    except StorageBroken as error:
        return Soundness((), (Finding(error.message, restore_hint(path)),))


async def _look(database: Examined, vault: Vault, folder: Path) -> Soundness:
    hint = restore_hint(folder / "pushboat.db")
    if not await database.is_of_this_version():
        said = "The database has the tables of another version; the agent looks through the file when it starts."
        return Soundness((said,), ())
    if damage := await database.damage():
        return Soundness((), tuple(Finding(f"Database: {text}.", hint) for text in damage))
    findings = [
        Finding(f"Database: {text}.", "Please report it with this line.") for text in await database.contradictions()
    ]
    apps = await database.tables.apps.all()
    sealed, findings_of_key = await _look_at_key(database, vault, file=folder / "key")
    findings_of_repos = await _look_at_repositories(database, GitRepos(folder / "repos"), apps)
    return Soundness(
        (
            f"The database holds {len(apps)} apps.",
            f"The key file is held against {sealed} sealed values.",
            f"{len(apps)} repositories were read.",
        ),
        (*findings, *findings_of_key, *findings_of_repos),
    )


async def _look_at_key(database: Examined, vault: Vault, *, file: Path) -> tuple[int, list[Finding]]:
    try:
        await belongs_together(database.tables, vault, file=file)
    except Misconfigured as error:
        return 0, [Finding(error.message, error.hint)]
    sealed, closed = await database.sealed()
    hint = "Set it again, or put the last backup of the database back."
    return sealed, [Finding(f"Database: what is stored for {place} does not open.", hint) for place in closed]


async def _look_at_repositories(database: Examined, repos: GitRepos, apps: Sequence[App]) -> list[Finding]:
    findings = []
    for app in apps:
        live = await database.tables.releases.get(app.id, app.live_release) if app.live_release else None
        commits = [live.commit_id] if live and live.commit_id else []
        for fault in await repos.faults(app.id, commits=commits):
            findings.append(Finding(f"The repository of {app.name} ({app.id}) {fault}.", _OF_A_RESTORED_COPY))
    known: set[AppId] = {app.id for app in (*apps, *await database.tables.apps.destroyed())}
    for stray in await repos.strays(known):
        hint = "Nothing uses it. It may be what a crash left of apps:create, or belong to a database of another time."
        findings.append(Finding(f"The repository {stray} is that of no app.", hint))
    return findings
