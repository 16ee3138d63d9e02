"""``python -m bench NAME``: run one measurement so that ending it by SIGTERM has it clean up, as Ctrl-C does."""

from __future__ import annotations

import runpy
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = sys.argv.pop(1)
    sys.argv[0] = f"bench/{name}"
    runpy.run_module(f"bench.{name}", run_name="__main__")
