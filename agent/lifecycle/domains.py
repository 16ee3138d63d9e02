"""The moves of domains. A domain belongs to at most one app; every app also answers under the global domains.

Where two apps could answer to one name, the one that was given it as its own does, then the one that is called so, and
only then the one that has it under a global domain. Who comes later is refused where there is somebody to tell; who
gets a name without asking goes without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from agent import sanitise
from agent.errors import UserError
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from proto.events import DomainsChanged, GlobalDomainsChanged
from proto.names import AppId, domain_name

WITHOUT_DEFAULT = "domains.without-default"
"""Property: the app does not answer under the global domains, since its user set or cleared its domains."""


async def of_app(tables: Tables, app: App) -> list[str]:
    """Return the domains that the app answers to, its own first."""
    own = await tables.domains.of_app(app.id)
    properties = await tables.properties.of_app(app.id)
    global_ones = await tables.domains.global_ones()
    claimed = {
        name: claimant
        for name in default_names(app.name, global_ones)
        if WITHOUT_DEFAULT not in properties and (claimant := await _claimant(tables, name))
    }
    return names_of(app, own, global_ones, properties, claimed)


def names_of(
    app: App,
    own: Sequence[str],
    global_ones: Sequence[str],
    properties: Mapping[str, str],
    claimed: Mapping[str, AppId],
) -> list[str]:
    """Return the domains that an app answers to, from what is stored of it; `claimed` as `claims` returns it."""
    if WITHOUT_DEFAULT in properties:
        return list(own)
    defaults = default_names(app.name, global_ones)
    return [*own, *(name for name in defaults if name not in own and claimed.get(name, app.id) == app.id)]


def claims(
    apps: Sequence[App], own: Mapping[AppId, Sequence[str]], properties: Mapping[AppId, Mapping[str, str]]
) -> dict[str, AppId]:
    """Return who has a claim to which domain that is stronger than a global domain's."""
    claimed = {domain: owner for owner, domains in own.items() for domain in domains}
    for app in apps:
        if "." in app.name and WITHOUT_DEFAULT not in properties.get(app.id, {}):
            claimed.setdefault(app.name, app.id)
    return claimed


def default_names(name: str, global_domains: Sequence[str]) -> list[str]:
    """Return the domains that an app called `name` gets without asking.

    A name with a dot is a domain itself, as with Dokku. An address has no subdomains, so as a global domain it
    gives none.
    """
    if "." in name:
        return [name]
    return [f"{name}.{domain}" for domain in global_domains if not _is_address(domain)]


async def add(tx: Transaction, *, app: App, domains: Sequence[str]) -> list[str]:
    """Give the app domains; return those that are new to it. All or none.

    Raises:
        UserError: ``domain.invalid``, or ``domain.taken`` by another app.
    """
    added = []
    for domain in [_valid(text) for text in domains]:
        owner = await tx.domains.owner(domain)
        if owner == app.id:
            continue
        await refuse_taken(tx, app=app.id, domain=domain)
        await tx.domains.add(app.id, domain, at=tx.now)
        added.append(domain)
    if added:
        await _changed(tx, app)
    return added


async def remove(tx: Transaction, *, app: App, domains: Sequence[str]) -> list[str]:
    """Take domains from the app; return those that it had. A default name goes too, the other defaults stay."""
    wanted = [_valid(text) for text in domains]
    removed = [domain for domain in wanted if await tx.domains.remove(app.id, domain)]
    await pass_on(tx, app=app.id, domains=removed)
    defaults = set(await of_app(tx, app)) - set(await tx.domains.of_app(app.id))
    if dropped := [domain for domain in wanted if domain in defaults]:
        await tx.properties.set(app.id, WITHOUT_DEFAULT, "true")
        for domain in sorted(defaults - set(dropped)):
            await tx.domains.add(app.id, domain, at=tx.now)
        await pass_on(tx, app=app.id, domains=dropped)
    if removed or dropped:
        await _changed(tx, app)
    return removed + [domain for domain in dropped if domain not in removed]


async def set_all(tx: Transaction, *, app: App, domains: Sequence[str]) -> list[str]:
    """Give the app just these domains, no default ones; return them. Raises as `add` does."""
    before = await _take_all(tx, app=app.id)
    await tx.properties.set(app.id, WITHOUT_DEFAULT, "true")
    await add(tx, app=app, domains=domains)
    await pass_on(tx, app=app.id, domains=[*before, app.name])
    if not domains:
        await _changed(tx, app)
    return await tx.domains.of_app(app.id)


async def clear(tx: Transaction, *, app: App) -> None:
    """Take every domain from the app, default ones too."""
    await set_all(tx, app=app, domains=[])


async def reset(tx: Transaction, *, app: App) -> None:
    """Give the app its default domains and no others."""
    before = await _take_all(tx, app=app.id)
    await tx.properties.unset(app.id, WITHOUT_DEFAULT)
    await pass_on(tx, app=app.id, domains=before)
    await _changed(tx, app)


async def release(tx: Transaction, *, app: App) -> None:
    """Take every domain from an app that is destroyed; what another app has under a global domain goes to that one."""
    await pass_on(tx, app=app.id, domains=[*await _take_all(tx, app=app.id), app.name])


async def pass_on(tx: Transaction, *, app: AppId, domains: Sequence[str]) -> None:
    """Tell the apps that answer to these domains from now on, since `app` no longer does."""
    for domain in domains:
        heir = await _default_owner(tx, domain)
        if heir and heir.id != app:
            await _changed(tx, heir)


async def refuse_taken(tx: Transaction, *, app: AppId, domain: str) -> None:
    """Make sure that no other app answers to `domain`.

    Raises:
        UserError: ``domain.taken``.
    """
    owner_id = await tx.domains.owner(domain)
    owner = await tx.apps.get(owner_id) if owner_id else await _default_owner(tx, domain)
    if owner and owner.id != app:
        raise UserError(
            "domain.taken",
            f"{domain} belongs to the app {owner.name}.",
            f"Take it away there first: domains:remove {owner.name} {domain}",
        )
    for other, names in (await tx.domains.all()).items():
        if other != app and any(_overlap(domain, name) for name in names):
            taker = await tx.apps.get(other)
            raise UserError(
                "domain.taken",
                f"{domain} overlaps with a wildcard domain of the app {taker.name if taker else other}.",
                f"Give {domain.removeprefix('*.')} to one app only.",
            )


async def add_global(tx: Transaction, *, domains: Sequence[str]) -> list[str]:
    """Add domains under which every app gets a name; return those that are new.

    Raises:
        UserError: ``domain.invalid``.
    """
    valid = [_valid(text) for text in domains]
    added = [domain for domain in valid if await tx.domains.add_global(domain, at=tx.now)]
    if added:
        await _global_changed(tx)
    return added


async def remove_global(tx: Transaction, *, domains: Sequence[str]) -> list[str]:
    """Remove global domains; return those that were there."""
    removed = [domain for domain in map(_valid, domains) if await tx.domains.remove_global(domain)]
    if removed:
        await _global_changed(tx)
    return removed


async def set_global(tx: Transaction, *, domains: Sequence[str]) -> list[str]:
    """Have just these global domains; return them. Raises as `add_global` does."""
    for domain in await tx.domains.global_ones():
        await tx.domains.remove_global(domain)
    for domain in map(_valid, domains):
        await tx.domains.add_global(domain, at=tx.now)
    await _global_changed(tx)
    return await tx.domains.global_ones()


async def clear_global(tx: Transaction) -> None:
    """Remove every global domain."""
    await set_global(tx, domains=[])


async def _changed(tx: Transaction, app: App) -> None:
    await tx.emit(DomainsChanged(app=app.id, domains=tuple(await of_app(tx, app))))


async def _global_changed(tx: Transaction) -> None:
    await tx.emit(GlobalDomainsChanged(domains=tuple(await tx.domains.global_ones())))


async def _take_all(tx: Transaction, *, app: AppId) -> list[str]:
    before = await tx.domains.of_app(app)
    for domain in before:
        await tx.domains.remove(app, domain)
    return before


async def _claimant(tables: Tables, domain: str) -> AppId | None:
    """Return the app that `claims` names for one domain."""
    owner = await tables.domains.owner(domain)
    if owner or "." not in domain:
        return owner
    app = await tables.apps.by_name(domain)
    is_claimed = app and await tables.properties.get(app.id, WITHOUT_DEFAULT) is None
    return app.id if app and is_claimed else None


async def _default_owner(tx: Transaction, domain: str) -> App | None:
    """Return the app that answers to `domain` because of its name, without the domain being its own."""
    names = [domain] + [
        domain.removesuffix(f".{parent}") for parent in await tx.domains.global_ones() if domain.endswith(f".{parent}")
    ]
    for name in names:
        app = await tx.apps.by_name(name)
        if app and domain in await of_app(tx, app):
            return app
    return None


def _overlap(first: str, second: str) -> bool:
    """Tell whether one of two different domains is a wildcard that covers the other."""
    for wildcard, other in ((first, second), (second, first)):
        if wildcard.startswith("*.") and other.removeprefix("*.").endswith(wildcard[1:]):
            return True
    return False


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _valid(text: str) -> str:
    try:
        return domain_name(text)
    except (ValueError, UnicodeError) as error:
        raise UserError(
            "domain.invalid",
            f"{sanitise.quoted(text)} is not a domain name.",
            "Write it as blog.example.com, or *.example.com for all names below.",
        ) from error
