"""Ends a HAProxy that the agent started: ``python -m agent.proxies.haproxy.stop --folder FOLDER``.

The agent leaves it running when it stops, so whoever takes an installation down (``quickstart --down``) calls this.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from agent.proxies.haproxy.supervisor import shutdown


def main() -> int:
    """Run as a program; the exit status is 0 also when there was nothing to end."""
    parser = argparse.ArgumentParser(prog="python -m agent.proxies.haproxy.stop", description="End Pushboat's HAProxy.")
    parser.add_argument("--folder", type=Path, required=True, help="the proxy's folder, as the agent has it")
    found = asyncio.run(shutdown(parser.parse_args().folder.absolute()))
    sys.stdout.write("HAProxy has ended.\n" if found else "There was no HAProxy to end.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
