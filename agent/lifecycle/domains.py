"""The moves of domains. A domain belongs to at most one app; every app also answers under the global domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from agent.errors import UserError
from agent.state.apps import App
from agent.state.database import Tables, Transaction
from proto.events import DomainsChanged, GlobalDomainsChanged
from proto.names import domain_name

WITHOUT_DEFAULT = "domains.without-default"
"""Property: the app does not answer under the global domains, since its user set or cleared its domains."""


async def of_app(tables: Tables, app: App) -> list[str]:
    """Return the domains that the app answers to, its own first."""
    own = await tables.domains.of_app(app.id)
    return names_of(app, own, await tables.domains.global_ones(), await tables.properties.of_app(app.id))


def names_of(app: App, own: Sequence[str], global_ones: Sequence[str], properties: Mapping[str, str]) -> list[str]:
    """Return the domains that an app answers to, from what is stored of it."""
    if WITHOUT_DEFAULT in properties:
        return list(own)
    return [*own, *(name for name in default_names(app.name, global_ones) if name not in own)]


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
        await _refuse_taken(tx, app=app, domain=domain)
        await tx.domains.add(app.id, domain, at=tx.now)
        added.append(domain)
    if added:
        await _changed(tx, app)
    return added


async def remove(tx: Transaction, *, app: App, domains: Sequence[str]) -> list[str]:
    """Take domains from the app; return those that it had. A default name goes too, the other defaults stay."""
    wanted = [_valid(text) for text in domains]
    removed = [domain for domain in wanted if await tx.domains.remove(app.id, domain)]
    defaults = set(await of_app(tx, app)) - set(await tx.domains.of_app(app.id))
    if dropped := [domain for domain in wanted if domain in defaults]:
        await tx.properties.set(app.id, WITHOUT_DEFAULT, "true")
        for domain in sorted(defaults - set(dropped)):
            await tx.domains.add(app.id, domain, at=tx.now)
    if removed or dropped:
        await _changed(tx, app)
    return removed + [domain for domain in dropped if domain not in removed]


async def set_all(tx: Transaction, *, app: App, domains: Sequence[str]) -> list[str]:
    """Give the app just these domains, no default ones; return them. Raises as `add` does."""
    for domain in await tx.domains.of_app(app.id):
        await tx.domains.remove(app.id, domain)
    await tx.properties.set(app.id, WITHOUT_DEFAULT, "true")
    await add(tx, app=app, domains=domains)
    if not domains:
        await _changed(tx, app)
    return await tx.domains.of_app(app.id)


async def clear(tx: Transaction, *, app: App) -> None:
    """Take every domain from the app, default ones too."""
    await set_all(tx, app=app, domains=[])


async def reset(tx: Transaction, *, app: App) -> None:
    """Give the app its default domains and no others."""
    for domain in await tx.domains.of_app(app.id):
        await tx.domains.remove(app.id, domain)
    await tx.properties.unset(app.id, WITHOUT_DEFAULT)
    await _changed(tx, app)


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


async def _refuse_taken(tx: Transaction, *, app: App, domain: str) -> None:
    owner_id = await tx.domains.owner(domain)
    owner = await tx.apps.get(owner_id) if owner_id else await _default_owner(tx, domain)
    if owner and owner.id != app.id:
        raise UserError(
            "domain.taken",
            f"{domain} belongs to the app {owner.name}.",
            f"Take it away there first: domains:remove {owner.name} {domain}",
        )
    rest = domain.removeprefix("*.")
    for other, names in (await tx.domains.all()).items():
        if other != app.id and any(_overlap(domain, name) for name in names):
            taker = await tx.apps.get(other)
            raise UserError(
                "domain.taken",
                f"{domain} overlaps with a wildcard domain of the app {taker.name if taker else other}.",
                f"Give {rest} to one app only.",
            )


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
            f"{text[:80]!r} is not a domain name.",
            "Write it as blog.example.com, or *.example.com for all names below.",
        ) from error
