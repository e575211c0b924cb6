"""A picture of merging: how far each merge moves the actions, and how often the arm still does what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.action_error import ActionError
from results.row import Success

_LEAST = 1e-5  # errors below are drawn there: an exact merge has none, which no logarithm shows


class Drawn(Protocol):
    """What is drawn of one merge on one task."""

    @property
    def method(self) -> str: ...
    @property
    def merge(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def success(self) -> Success: ...
    @property
    def action_error(self) -> ActionError | None: ...


def draw(rows: Sequence[Drawn], titles: Mapping[str, str], path: Path) -> None:
    """Write the picture: success with its 95 % interval over action error, a panel for each adapter and task.

    titles: of the methods, as people know them.
    """
    methods, tasks = (list(dict.fromkeys(values)) for values in ([r.method for r in rows], [r.task for r in rows]))
    merges = list(dict.fromkeys(row.merge for row in rows))
    colours = {merge: colormaps["tab20"](n % 20) for n, merge in enumerate(merges)}
    figure = Figure(figsize=(5.6 * len(tasks), 0.8 + 3.4 * len(methods)), layout="constrained")
    panels = figure.subplots(len(methods), len(tasks), squeeze=False, sharex=True, sharey=True)
    for method, across in zip(methods, panels, strict=True):
        for task, axes in zip(tasks, across, strict=True):
            _panel(axes, [row for row in rows if (row.method, row.task) == (method, task)], colours)
            axes.set_title(f"{titles[method]}, {task}", loc="left", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("RMS action error of the worst number, as a share of its scale")
    for axes in panels[:, 0]:
        axes.set_ylabel("success")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=130, format="png")
    partial.replace(path)


def _panel(axes: Axes, rows: Sequence[Drawn], colours: Mapping[str, tuple[float, ...]]) -> None:
    for row in rows:
        error = 0.0 if row.action_error is None else row.action_error.worst_share_of_scale
        rate = row.success.rate
        axes.errorbar(
            [max(error, _LEAST)],
            [rate],
            yerr=[[rate - row.success.low], [row.success.high - rate]],
            fmt="o",
            color=colours[row.merge],
            capsize=2,
            label=row.merge,
        )
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(color="0.92")
