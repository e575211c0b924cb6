"""A picture of success against latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from results.together import TogetherRow

_COLOURS = {"fp32": "#0072b2", "fp16": "#8a8f98", "int8": "#009e73"}
_SEARCHED = "#d55e00"


def draw(rows: Sequence[TogetherRow], path: Path) -> None:
    """Write the picture: a panel a task, the front as a line, numbers that the legend explains, 95 % intervals."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    names = list(dict.fromkeys(row.combination for row in rows))
    figure = Figure(figsize=(6.4 * len(tasks), 5.0 + 0.11 * len(names)), layout="constrained")
    for task, axes in zip(tasks, figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0], strict=True):
        _panel(axes, [row for row in rows if row.task == task], names)
        axes.set_title(f"{task}, side camera moved", loc="left", fontsize=10)
    figure.supxlabel("time of a chunk, as a share of the uncompressed policy's", fontsize=10)
    figure.supylabel("success [%]", fontsize=10)
    precisions = [_mark(colour, "o", precision) for precision, colour in _COLOURS.items()]
    handles = [*precisions, _mark(_SEARCHED, "D", "--prune auto")]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=9)
    numbered = [_mark("none", "", f"{number} {name}") for number, name in enumerate(names)]
    figure.legend(handles=numbered, loc="outside lower center", ncols=2, frameon=False, fontsize=8, handlelength=0)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=120, format="png")
    partial.replace(path)


def _panel(axes: Axes, rows: Sequence[TogetherRow], names: Sequence[str]) -> None:
    best = sorted((row for row in rows if row.front), key=lambda row: row.latency.median)
    rates = [100 * row.success.rate for row in best]
    axes.step([row.latency.median for row in best], rates, where="post", color="0.6", linewidth=1.2, zorder=0)
    for row in rows:
        rate, latency = 100 * row.success.rate, row.latency
        axes.errorbar(
            [latency.median],
            [rate],
            xerr=[[latency.median - latency.low], [latency.high - latency.median]],
            yerr=[[rate - 100 * row.success.low], [100 * row.success.high - rate]],
            fmt="D" if row.searched else "o",
            color=_SEARCHED if row.searched else _COLOURS[row.precision],
            markerfacecolor=None if row.front else "white",
            markersize=5,
            linewidth=0.8,
            capsize=2,
        )
        place = (latency.median, rate)
        axes.annotate(str(names.index(row.combination)), place, (4, 4), textcoords="offset points", fontsize=8)
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.25)


def _mark(colour: str, marker: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label, markersize=5)
