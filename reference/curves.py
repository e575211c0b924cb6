"""Learning curves: every number of a training's log over its steps."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMNS = 3


def draw_curves(log: Path, picture: Path) -> None:
    """Draw one small plot for each number in a log of JSON lines."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    names = list(dict.fromkeys(name for entry in entries for name in entry if name not in ("step", "minutes")))
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for n, name in enumerate(names):
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        axes = figure.add_subplot(rows, COLUMNS, n + 1)
        axes.plot(*zip(*points, strict=True), linewidth=0.8, marker="." if len(points) < 50 else "")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        if name in ("total", "flow", "grounding"):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=80)
