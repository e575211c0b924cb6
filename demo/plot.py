"""Commanded and measured joints over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES

Track = Sequence[tuple[float, NDArray[np.float64]]]


def draw_joints(commands: Track, measured: Track, began: float, ended: float, path: Path) -> None:
    """One panel per joint, radians, and one for the gripper, millimetres; time in seconds from ``began``."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, 4, sharex=True).ravel()
    for n, (axes, name) in enumerate(zip(panels, JOINT_NAMES, strict=False)):
        scale = 1e3 if name == "gripper" else 1.0
        for track, style in ((commands, {"color": "#c8553d", "linewidth": 1.6}), (measured, {"color": "#1c2430"})):
            chosen = [(stamp - began, positions[n] * scale) for stamp, positions in track if began <= stamp <= ended]
            axes.plot(*np.array(chosen).T, **{"linewidth": 0.9, **style})
        axes.set_title(f"{name} [{'mm' if name == 'gripper' else 'rad'}]", fontsize=10)
        axes.grid(alpha=0.25)
    panels[-1].axis("off")
    panels[-1].plot([], [], color="#c8553d", label="commanded")
    panels[-1].plot([], [], color="#1c2430", label="measured")
    panels[-1].legend(loc="center", frameon=False)
    for axes in panels[3:7]:
        axes.set_xlabel("time [s]")
    figure.savefig(path, dpi=120)
