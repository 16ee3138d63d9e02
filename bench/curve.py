"""Draws the curves of ``bench/scale`` as SVG: ``python -m bench.curve bench/scale.json > bench/scale.svg``.

One panel a measure, from zero, so that a straight line is linear growth. Colours tell the fake engine from Docker.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

Point = tuple[int, float]
Series = dict[str, list[Point]]

PANELS = {
    "converged.term": "restart until all is well, s (SIGTERM)",
    "converged.kill": "restart until all is well, s (SIGKILL)",
    "healed.kill": "restart until lost containers run, s",
    "cpu.kill": "restart, s of processor time",
    "memory": "memory, MB",
    "idle-cpu": "idle, % of a core",
    "lag-p99.idle": "loop lag p99, idle, ms",
    "lag-p99.commands": "loop lag p99, changes, ms",
    "lag-max.idle": "loop lag, the longest while idle, ms",
    "apps:list": "apps:list, s",
    "ps:report": "ps:report, s",
    "logs": "logs, s",
    "deploy": "one deploy, s",
    "domain": "one domain until it serves, s",
    "deploying": "deploying many, s an app",
}
COLOURS = {"fake": "#1f5fa8", "real": "#c2571a"}
NAMES = {"fake": "fake engine", "real": "real containers"}
COLUMNS = 3
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 300, 170, 52, 30, 16, 26
HEAD = 34


def read(path: Path) -> dict[str, Series]:
    """Return the points of each measure, by series; a measure's name is ``ENGINE.NAME.SIZE-apps``."""
    found: dict[str, Series] = {}
    for line in path.read_text().splitlines():
        figure = json.loads(line)
        name, _, size = figure["measure"].rpartition(".")
        engine, _, name = name.partition(".")
        points = found.setdefault(name, {}).setdefault(engine, [])
        points.append((int(size.removesuffix("-apps")), figure["ours"]))
    return found


def draw(measures: dict[str, Series]) -> str:
    """Return the whole picture."""
    panels = [(title, measures[name]) for name, title in PANELS.items() if name in measures]
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, HEAD + rows * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="11" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *_legend(),
    ]
    for index, (title, series) in enumerate(panels):
        row, column = divmod(index, COLUMNS)
        parts += _panel(column * WIDTH, HEAD + row * HEIGHT, title, series)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts = ['<text x="12" y="22" font-size="13">By number of apps</text>']
    for index, (key, colour) in enumerate(COLOURS.items()):
        x = 180 + index * 140
        parts += [
            f'<line x1="{x}" y1="18" x2="{x + 22}" y2="18" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{x + 28}" y="22">{NAMES[key]}</text>',
        ]
    return parts


def _panel(left: int, top: int, title: str, series: Series) -> list[str]:
    every = [point for points in series.values() for point in points]
    widest, highest = max(x for x, _ in every), _round_up(max(y for _, y in every))
    x0, y0 = left + LEFT, top + HEIGHT - BOTTOM
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(point: Point) -> tuple[float, float]:
        return x0 + inner_width * point[0] / widest, y0 - inner_height * point[1] / highest

    parts = [
        f'<text x="{left + 12}" y="{top + 18}" font-weight="bold">{escape(title)}</text>',
        *_grid(x0, y0, inner_width, inner_height, highest),
        *(_tick(place((x, 0))[0], y0, x) for x in sorted({x for x, _ in every if x * 5 >= widest})),
    ]
    for key, points in series.items():
        placed = [place(point) for point in sorted(points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[key]}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{COLOURS[key]}"/>' for x, y in placed]
    return parts


def _grid(x0: float, y0: float, width: float, height: float, highest: float) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = y0 - height * share
        parts += [
            f'<line x1="{x0}" y1="{y:.1f}" x2="{x0 + width}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{x0 - 5}" y="{y + 4:.1f}" text-anchor="end">{highest * share:g}</text>',
        ]
    return parts


def _tick(x: float, y0: float, apps: int) -> str:
    return f'<text x="{x:.1f}" y="{y0 + 15}" text-anchor="middle">{apps}</text>'


def _round_up(value: float) -> float:
    """Return a plain number that is a little larger: 1, 2 or 5 times a power of ten."""
    power = 1e-6
    while True:
        for step in (1, 2, 4, 6, 8):
            if power * step >= value:
                return power * step
        power *= 10


def main(arguments: Sequence[str]) -> None:
    """Draw the file that is named."""
    sys.stdout.write(draw(read(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
