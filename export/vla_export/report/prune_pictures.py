"""The report's pictures of pruning: how its layers were chosen, what is left of their widths, what a search tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from vla_export.prune.auto import AutoReport
from vla_export.prune.depth import GroupDepth, ProbedDepth
from vla_export.prune.search import Point

_REMOVED, _KEPT, _GONE, _TRIED = "#c8553d", "#3d6fa5", "0.87", "0.72"
_TINY = 1e-4  # errors below are drawn there on a logarithmic scale
_DECADES = 1.5  # errors that span more need one


@dataclass(frozen=True)
class Units:
    """Channels or heads of one type of module before and after, by layer that is left, which are named by index."""

    module: str
    layers: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def draw_cka(group: GroupDepth, path: Path) -> None:
    """CKA between all hidden states of each stack; removed layers marked on the axis."""
    figure = Figure(figsize=(4.6 * len(group.stacks), 4.4), layout="constrained")
    lowest = min(min(map(min, stack.matrix)) for stack in group.stacks)
    for axes, stack in zip(figure.subplots(1, len(group.stacks), squeeze=False)[0], group.stacks, strict=True):
        image = axes.imshow(np.asarray(stack.matrix), vmin=lowest, vmax=1, cmap="viridis", origin="lower")
        axes.set_title(stack.stack)
        places = ["in", *(str(n) for n in range(len(stack.similarities)))]
        axes.set_xticks(range(len(places)), places)
        axes.set_yticks(range(len(places)), places)
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            for n in group.removed:
                labels[n + 1].set_color(_REMOVED)
                labels[n + 1].set_fontweight("bold")
        axes.set_xlabel("hidden state after layer")
    figure.colorbar(image, ax=figure.axes, label="linear CKA", shrink=0.85)
    figure.savefig(path, dpi=130)


def draw_similarities(group: GroupDepth, path: Path) -> None:
    """How little each layer changes its hidden states; the removed ones, and the threshold they were found at."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    colours = [_REMOVED if n in group.removed else _KEPT for n in range(len(group.similarities))]
    axes.bar(range(len(group.similarities)), group.similarities, color=colours)
    axes.axhline(group.threshold, color="0.4", linestyle="--", linewidth=1)
    axes.set_ylim(max(0.0, min(group.similarities) - 0.05), 1.0)
    axes.set_xticks(range(len(group.similarities)))
    axes.set_xlabel("layer (removed ones red; dashed: threshold)")
    axes.set_ylabel("CKA of input and output")
    figure.savefig(path, dpi=130)


def draw_sensitivities(group: ProbedDepth, path: Path) -> None:
    """How much the loss follows each layer, on a logarithmic scale; the removed and the reduced ones."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    gone = {*group.removed, *group.reduced}
    colours = [_REMOVED if n in gone else _KEPT for n in range(len(group.sensitivities))]
    axes.bar(range(len(group.sensitivities)), group.sensitivities, color=colours)
    axes.set_yscale("log")
    axes.set_xticks(range(len(group.sensitivities)))
    axes.set_xlabel("layer (removed or reduced ones red)")
    axes.set_ylabel("sensitivity of the loss")
    figure.savefig(path, dpi=130)


def draw_units(modules: Sequence[Units], path: Path) -> None:
    """How many channels or heads each layer keeps of those it had, one panel per type of module."""
    rows = math.ceil(len(modules) / 2)
    figure = Figure(figsize=(9.5 if len(modules) > 1 else 6.5, 0.5 + 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, min(len(modules), 2), squeeze=False).flatten()
    for axes, units in zip(panels, modules, strict=False):
        axes.bar(range(len(units.layers)), units.before, color=_GONE, width=0.85)
        axes.bar(range(len(units.layers)), units.after, color=_KEPT, width=0.85)
        every = max(1, math.ceil(len(units.layers) / 20))
        axes.set_xticks(range(0, len(units.layers), every), list(map(str, units.layers[::every])), fontsize=9)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        stack, _, kind = units.module.rpartition(".")
        axes.set_xlabel(f"layer of {stack}")
        axes.set_ylabel("heads" if kind == "heads" else "channels")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(modules) :]:
        axes.set_axis_off()
    handles = [Patch(color=_KEPT, label="kept"), Patch(color=_GONE, label="removed")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def draw_front(auto: AutoReport, path: Path) -> None:
    """Error against cost of every plan that was tried; the best of them joined, the one that was picked marked.

    Errors lie on a logarithmic scale where they span more than one and a half decades, none at all on its lower edge.
    """
    found = auto.search
    errors = [max(point.error, _TINY) for point in found.tried if point.error > 0]
    logarithmic = bool(errors) and max(errors) > 10**_DECADES * min(errors)
    floor = max(_TINY, min(errors) / 2) if logarithmic else 0.0
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.axvline(found.target, color="0.4", linestyle="--", linewidth=1, zorder=1)
    axes.plot(*_places(found.tried, floor), "o", color=_TRIED, markersize=4, clip_on=False, zorder=2)
    axes.plot(*_places(found.front, floor), "o-", color=_KEPT, markersize=5, linewidth=1.4, clip_on=False, zorder=3)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=floor)
    # What is cheaper and better than the pick was not found: its label lies there, and needs some width.
    cheapest, dearest = min(point.cost for point in found.tried), max(point.cost for point in found.tried)
    axes.set_xlim(cheapest - 0.22 * (dearest - cheapest), dearest + 0.03 * (dearest - cheapest))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * error:.3g}%"))
    axes.set_xlabel(f"{'FLOPs' if auto.measure == 'flops' else 'time'} per chunk, of the unpruned policy's")
    axes.set_ylabel("relative error of the actions")
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _mark(axes, found.pick, floor)
    handles = [
        Line2D([], [], color=_TRIED, marker="o", markersize=4, linestyle="", label="tried"),
        Line2D([], [], color=_KEPT, marker="o", markersize=5, label="front"),
        Line2D([], [], color=_REMOVED, marker="o", markersize=9, linestyle="", label="picked"),
        Line2D([], [], color="0.4", linestyle="--", linewidth=1, label=f"target {found.target:.0%}"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def _places(points: Sequence[Point], floor: float) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], [max(point.error, floor) for point in points]


def _mark(axes: Axes, pick: Point, floor: float) -> None:
    """The pick, and left of it its figures: below, or above where there is no room below."""
    ([cost], [error]) = _places([pick], floor)
    axes.plot([cost], [error], "o", color=_REMOVED, markersize=9, clip_on=False, zorder=4)
    height = axes.transAxes.inverted().transform(axes.transData.transform((cost, error)))[1]
    below = height > 0.2
    axes.annotate(
        f"{cost:.1%} at\n{100 * pick.error:.3g}% error",
        (cost, error),
        xytext=(-9, -7 if below else 7),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontsize=9,
        color=_REMOVED,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        zorder=5,
    )
