"""Builds of an app that has not changed, and of one with a changed line, beside the plain engine's.

Ours is the time from the acceptance of a deploy to its image, as its events have it: reading the commit, choosing a
builder, planning, streaming the context, BuildKit. The reference gives the engine the same Dockerfile (for a language
the one that ``builder:plan`` prints) and the same files in one call, from a tar that is made before the clock starts.
They take turns; the first build of each, which fills caches, is not counted.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.measured import Figure, figure, report, say
from scripts.house.engine import Engine
from tests.support.debian import ensure_debian
from tests.support.rig import Checkout, Rig, rig, small_app

RUNS = 10
SAME = 4
"""Builds without a change for each with one: they take less than a tenth of a second, of which a few milliseconds come
and go."""
AIM = "ratio <= 1.2"
NAME = "pushboat-bench-build"
"""Label of the reference's images."""
EXAMPLES = Path(__file__).parents[1] / "examples"
APPS = (("dockerfile", "index.html"), ("python-flask", "app.py"), ("node", "server.js"))
"""Each with the file whose line is changed: it has the version."""
_VERSION = re.compile(r"version [0-9a-f]+")


async def measure(runs: int = RUNS) -> None:
    """Run it and print the figures."""
    image = await asyncio.to_thread(ensure_debian)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="pushboat-bench-") as name:
        async with rig(Path(name)) as r:
            await r.must("builder:set", "--global", "base-image", image)
            try:
                for app, file in APPS:
                    figures += await _of_app(r, app, file=file, runs=runs)
            finally:
                await asyncio.to_thread(_remove_images)
    report(figures)


async def _of_app(r: Rig, app: str, *, file: str, runs: int) -> list[Figure]:
    files = small_app("1") if app == "dockerfile" else _example(app)
    checkout = r.checkout(app, files)
    await _pushed(r, checkout)
    dockerfile = files.get("Dockerfile") or await r.must("builder:plan", app)
    seconds: dict[str, list[float]] = {"same": [], "same by hand": [], "changed": [], "changed by hand": []}
    for number in range(runs + 1):
        files = {**files, file: _VERSION.sub(f"version {secrets.token_hex(8)}", files[file])}
        checkout.write({file: files[file]})
        await _pushed(r, checkout)
        found = {"changed": await _seconds(r, app)}
        found["changed by hand"] = await asyncio.to_thread(_by_hand, app, files, dockerfile)
        for _ in range(SAME):
            await r.must("ps:rebuild", app)
            found["same"] = await _seconds(r, app)
            found["same by hand"] = await asyncio.to_thread(_by_hand, app, files, dockerfile)
            if number:
                for what in ("same", "same by hand"):
                    seconds[what].append(found[what])
        say(f"{app} {number}: " + ", ".join(f"{what} {value:.2f} s" for what, value in found.items()))
        if number:
            for what in ("changed", "changed by hand"):
                seconds[what].append(found[what])
    return [
        figure(f"build.{app}.{what}", seconds[what], seconds[f"{what} by hand"], unit="s", aim=AIM)
        for what in ("same", "changed")
    ]


async def _pushed(r: Rig, checkout: Checkout) -> None:
    done = await r.git_push(checkout, seconds=600)
    if done.status:
        raise RuntimeError(done.err)


async def _seconds(r: Rig, app: str) -> float:
    """Return how long the newest build took."""
    lines = await r.must("events", app, "-n", "40", "--format", "json")
    events = json.loads(lines)
    at = {event["type"]: event["at"] for event in events}
    return float(at["image.built"] - at["deploy.accepted"])


def _by_hand(app: str, files: Mapping[str, str], dockerfile: str) -> float:
    body = _tar({**files, "Dockerfile": dockerfile})
    started = time.perf_counter()
    Engine(seconds=600.0).call("POST", "/build", body, version=2, t=f"{NAME}:{app}", labels={NAME: "1"})
    return time.perf_counter() - started


def _tar(files: Mapping[str, str]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, text in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return output.getvalue()


def _example(name: str) -> dict[str, str]:
    folder = EXAMPLES / name
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def _remove_images() -> None:
    engine = Engine()
    for image in engine.call("GET", "/images/json", filters={"label": [NAME]}):
        engine.call("DELETE", f"/images/{image['Id']}", force=1)


if __name__ == "__main__":
    asyncio.run(measure())
