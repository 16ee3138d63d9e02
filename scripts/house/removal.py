"""What an installation left in the engine, for ``scripts/install --uninstall``: found by its label, removed, counted.

``python3 -m scripts.house.removal keep-images|all DATA``. Runs after the agent has ended, without its packages: those
may have been removed before. Whose label it is stands in the data folder; without it nothing is touched, since another
Pushboat of this machine may have the address pool now.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Network
from pathlib import Path

from scripts.house.engine import Engine


def noted(data: Path) -> set[str]:
    """Return the instance id that the agent of that data folder wrote down; none, unless it ever started."""
    note = data / "instance"
    return {note.read_text().strip()} if note.exists() else set()


def instances(engine: Engine, *, data: Path, pool: IPv4Network) -> set[str]:
    """Return the instance ids of the agent of that data folder, and of whoever has bridges in its own pool."""
    return noted(data) | engine.instances_in(pool)


def main() -> None:
    """Remove containers and networks, and images if told so; say how many things that were."""
    what, data = sys.argv[1:]
    count = sum(Engine().remove_all(instance, with_images=what == "all") for instance in noted(Path(data)))
    print(f"{count} containers, networks and images removed")


if __name__ == "__main__":
    main()
