"""The report's picture of what a change did to the actions, drawn without a display."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from vla_export.actions import ActionEffect

_MEAN = "#3d6fa5"


def draw_effect(effect: ActionEffect, path: Path) -> None:
    """Mean and largest absolute error of each dimension, one panel per unit."""
    units = list(dict.fromkeys(dimension.unit for dimension in effect.dimensions))
    counts = [sum(d.unit == unit for d in effect.dimensions) for unit in units]
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    panels = figure.subplots(1, len(units), squeeze=False, width_ratios=[c + 1 for c in counts])[0]
    for axes, unit in zip(panels, units, strict=True):
        chosen = [d for d in effect.dimensions if d.unit == unit]
        axes.bar([d.name for d in chosen], [d.max_error for d in chosen], color="0.85", label="largest")
        axes.bar([d.name for d in chosen], [d.mean_error for d in chosen], color=_MEAN, label="mean")
        axes.set_ylabel(f"error [{unit}]")
        axes.tick_params(axis="x", labelrotation=45)
    panels[0].legend()
    figure.savefig(path, dpi=130)
