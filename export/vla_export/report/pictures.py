"""The report's pictures, drawn without a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vla_export.actions import ActionEffect
from vla_export.prune.depth import GroupDepth, ProbedDepth

_REMOVED, _KEPT = "#c8553d", "#3d6fa5"


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


def draw_effect(effect: ActionEffect, path: Path) -> None:
    """Mean and largest absolute error of each dimension, one panel per unit."""
    units = list(dict.fromkeys(dimension.unit for dimension in effect.dimensions))
    counts = [sum(d.unit == unit for d in effect.dimensions) for unit in units]
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    panels = figure.subplots(1, len(units), squeeze=False, width_ratios=[c + 1 for c in counts])[0]
    for axes, unit in zip(panels, units, strict=True):
        chosen = [d for d in effect.dimensions if d.unit == unit]
        axes.bar([d.name for d in chosen], [d.max_error for d in chosen], color="0.85", label="largest")
        axes.bar([d.name for d in chosen], [d.mean_error for d in chosen], color=_KEPT, label="mean")
        axes.set_ylabel(f"error [{unit}]")
        axes.tick_params(axis="x", labelrotation=45)
    panels[0].legend()
    figure.savefig(path, dpi=130)
