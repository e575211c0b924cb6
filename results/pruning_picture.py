"""Success against how much of the policy is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from results.pruned_row import PrunedRow

_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#8a8f98", "#cc79a7", "#e69f00")
_BESIDE = 0.004  # in fractions: the points of two methods do not hide each other's intervals
_COLUMNS = 2


@dataclass(frozen=True)
class Panel:
    """The rows of one module on one task, and the whole policy's."""

    module: str
    task: str
    title: str
    removed: str


def draw(rows: Sequence[PrunedRow], title: str, panels: Sequence[Panel], path: Path) -> None:
    """Write the picture that `compose` makes."""
    figure = compose(rows, title, panels)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    partial.replace(path)


def compose(rows: Sequence[PrunedRow], title: str, panels: Sequence[Panel]) -> Figure:
    """One line a method, solid where it was finetuned and dashed where not, with Wilson's 95 % intervals as bars.

    Where a method drew several times, each draw is a point and the line is their mean.
    """
    lines = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(6.2 * _COLUMNS, 0.9 + 3.6 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    methods = list(dict.fromkeys(row.method for row in rows if row.module != "none"))
    places = list(figure.subplots(lines, _COLUMNS, squeeze=False, sharey=True).flat)
    handles: dict[str, Artist] = {}
    for panel, axes in zip(panels, places, strict=True):
        _draw_panel(axes, panel, [row for row in rows if row.task == panel.task], methods)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", frameon=False, ncols=4)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_panel(axes: Axes, panel: Panel, rows: Sequence[PrunedRow], methods: Sequence[str]) -> None:
    for finetuned in (False, True):
        trained = [row for row in rows if (row.finetuned > 0) == finetuned]
        whole = [row for row in trained if row.module == "none"]
        _draw_points(axes, whole, 0.0, "black", finetuned)
        for n, method in enumerate(methods):
            cut = [row for row in trained if (row.module, row.method) == (panel.module, method)]
            if not cut:
                continue
            beside = _BESIDE * (n - (len(methods) - 1) / 2)
            colour = _COLOURS[n % len(_COLOURS)]
            fractions = sorted({row.fraction for row in (*whole, *cut)})
            axes.plot(
                [fraction + beside * (fraction > 0) for fraction in fractions],
                [mean(row.success.rate for row in (*whole, *cut) if row.fraction == there) for there in fractions],
                "-" if finetuned else "--",
                color=colour,
                linewidth=1.4,
                label=f"{method}, {'finetuned' if finetuned else 'as cut'}",
            )
            _draw_points(axes, cut, beside, colour, finetuned)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.removed)
    axes.set_ylabel("success")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25)


def _draw_points(axes: Axes, rows: Sequence[PrunedRow], beside: float, colour: str, filled: bool) -> None:
    axes.errorbar(
        [row.fraction + beside for row in rows],
        [row.success.rate for row in rows],
        [
            [row.success.rate - row.success.low for row in rows],
            [row.success.high - row.success.rate for row in rows],
        ],
        fmt="o",
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=4,
        linewidth=0.9,
        capsize=2,
    )
