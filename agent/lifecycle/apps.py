"""The moves of an app: created, renamed, stopped, started, scaled, restarted in part, destroyed, gone."""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import UserError
from agent.lifecycle import deploys, domains, replicas
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from agent.state.releases import Release
from proto.events import (
    AppCreated,
    AppDestroyed,
    AppRemoved,
    AppRenamed,
    AppStarted,
    AppStopped,
    ProcessRestarted,
    ScaleChanged,
)
from proto.names import WEB, AppId, AppName, ProcessType
from proto.wire import Exit

MAX_QUANTITY = 100
"""Replicas of one process type. More on one machine is a typing error."""


async def find(tables: Tables, name: str) -> App:
    """Return the app that answers to `name`.

    Raises:
        UserError: ``app.not-found``, exit status 20.
    """
    app = await tables.apps.by_name(name)
    if app is None:
        raise UserError(
            "app.not-found",
            # Who forgets the app in `config:set KEY=value` gave a value that nobody should see.
            f"There is no app called {name.partition('=')[0][:80]}.",
            "List yours with: apps:list",
            status=Exit.NO_SUCH_APP,
        )
    return app


async def create(tx: Transaction, *, app: AppId, name: AppName, by: str) -> App:
    """Make an empty app that accepts pushes; return it.

    Raises:
        UserError: ``app.exists``, or ``domain.taken`` where the name is a domain of another app.
    """
    await _refuse_taken(tx, name, app=app)
    await tx.apps.add(app, name=name, by=by, at=tx.now)
    await tx.emit(AppCreated(app=app, name=name))
    created = await tx.apps.get(app)
    assert created is not None
    return created


async def rename(tx: Transaction, *, app: App, name: AppName) -> None:
    """Make the app answer to another name. Nothing it runs is touched: containers and routes carry its id.

    Raises:
        UserError: ``app.exists``, or ``domain.taken`` where the name is a domain of another app.
    """
    await _refuse_taken(tx, name, app=app.id)
    await tx.apps.rename(app.id, name=name)
    await domains.pass_on(tx, app=app.id, domains=[app.name])
    await tx.emit(AppRenamed(app=app.id, old=app.name, new=name))


async def stop(tx: Transaction, *, app: App) -> bool:
    """Want no replica of the app. Return false if that was so already."""
    if not await tx.apps.set_stopped(app.id, is_stopped=True):
        return False
    await tx.emit(AppStopped(app=app.id))
    return True


async def start(tx: Transaction, *, app: App) -> bool:
    """Want the app's live release to run again. Return false if it is wanted already."""
    if not await tx.apps.set_stopped(app.id, is_stopped=False):
        return False
    await tx.emit(AppStarted(app=app.id))
    return True


async def scale(tx: Transaction, *, app: App, quantities: Mapping[ProcessType, int]) -> None:
    """Want other numbers of replicas. Before the first release any process type may be named.

    Raises:
        UserError: ``scale.unknown-process``, ``scale.formation`` (app.json decides) or ``scale.quantity``.
    """
    release = await tx.releases.get(app.id, app.live_release) if app.live_release else None
    for process, quantity in quantities.items():
        if not 0 <= quantity <= MAX_QUANTITY:
            raise UserError(
                "scale.quantity", f"{process}={quantity} is out of range.", f"Give a number from 0 to {MAX_QUANTITY}."
            )
        if release and process in release.plan.formation:
            raise UserError(
                "scale.formation",
                f"The formation of {app.name} is set in its app.json, so it cannot be scaled by hand.",
                'Change "formation" in app.json and push, or remove it there.',
            )
        if release and release.plan.process(process) is None:
            raise _no_process(app, release, process=process, code="scale.unknown-process")
        await tx.scales.set(app.id, process=process, quantity=quantity)
    await tx.emit(ScaleChanged(app=app.id, quantities={str(process): count for process, count in quantities.items()}))


async def restart(tx: Transaction, *, app: App, process: ProcessType) -> int:
    """Want new replicas in place of all that a process type of the live release has; return how many are wanted.

    The old ones go on until the new ones are ready. They run the same release, with its config.

    Raises:
        UserError: ``process.unknown``, the live release has none such; ``app.stopped``.
    """
    row = await tx.apps.get(app.id)
    release = await tx.releases.get(app.id, row.live_release) if row and row.live_release else None
    if row is None or release is None or row.is_stopped:
        raise UserError("app.stopped", f"{app.name} does not run.", f"Start it with: ps:start {app.name}")
    if release.plan.process(process) is None:
        raise _no_process(app, release, process=process, code="process.unknown")
    replaced = await tx.replicas.replace(app.id, release=release.version, process=process)
    if replaced:
        await tx.emit(ProcessRestarted(app=app.id, process=process, replicas=tuple(replaced)))
    return await quantity(tx, app=app.id, process=process)


async def quantity(tables: Tables, *, app: AppId, process: ProcessType) -> int:
    """Return how many replicas of a process type are wanted: what was set, else one ``web`` and none of the others."""
    return (await tables.scales.of_app(app)).get(process, 1 if process == WEB else 0)


async def destroy(tx: Transaction, *, app: App) -> None:
    """Take the app from its users at once; what it ran and stored is removed by those who made it."""
    if not await tx.apps.destroy(app.id, at=tx.now):
        return
    await domains.release(tx, app=app)
    await tx.emit(AppDestroyed(app=app.id, name=app.name))
    for deploy in await tx.deploys.under_way(app.id):
        await deploys.fail(tx, deploy=deploy, stage="source", reason="The app was destroyed.")
    await replicas.drain(tx, app=app.id, surplus=await tx.replicas.of_app(app.id), until=tx.now)


async def remove(tx: Transaction, *, app: App) -> bool:
    """Delete what the database knows of a destroyed app. Return false if that was done already.

    Its events stay: they are the record of what happened.
    """
    if await tx.apps.get(app.id) is None:
        return False
    await tx.apps.erase(app.id)
    await tx.emit(AppRemoved(app=app.id, name=app.name))
    return True


def _no_process(app: App, release: Release, *, process: ProcessType, code: str) -> UserError:
    known = " ".join(plan.type for plan in release.plan.processes)
    return UserError(code, f"{app.name} has no process type {process}.", f"Its release v{release.version} has: {known}")


async def _refuse_taken(tx: Transaction, name: AppName, *, app: AppId) -> None:
    if await tx.apps.by_name(name) is not None:
        raise UserError(
            "app.exists", f"There is already an app called {name}.", "Pick another name, or list yours with: apps:list"
        )
    if "." in name:  # It is a domain at the same time.
        await domains.refuse_taken(tx, app=app, domain=name)
