"""What an installation left in the engine, for ``scripts/install --uninstall``: found by its label, removed, counted.

``python3 -m scripts.house.removal keep-images|all DATA POOL``. Runs after the agent has ended, without its packages.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Network
from pathlib import Path

from scripts.house.engine import Engine


def instances(engine: Engine, *, data: Path, pool: IPv4Network) -> set[str]:
    """Return the instance ids of the agent of that data folder and address pool; one, unless it never ran anything."""
    note = data / "instance"
    written = {note.read_text().strip()} if note.exists() else set()
    return written | engine.instances_in(pool)


def main() -> None:
    """Remove containers and networks, and images if told so; say how many things that were."""
    what, data, pool = sys.argv[1:]
    engine = Engine()
    found = instances(engine, data=Path(data), pool=IPv4Network(pool))
    count = sum(engine.remove_all(instance, with_images=what == "all") for instance in found)
    print(f"{count} containers, networks and images removed")


if __name__ == "__main__":
    main()
