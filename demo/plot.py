"""One picture of a closed loop: frames of the film above, commanded and measured joints below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES

Track = Sequence[tuple[float, NDArray[np.float64]]]

_FRAMES = 5


def draw_loop(commands: Track, measured: Track, began: float, ended: float, film: Path, path: Path) -> None:
    """Joints in radians, the gripper in millimetres, time in seconds from ``began``."""
    figure = Figure(figsize=(12.5, 8.2), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.9))[:, 0]
    for axes, frame in zip(above.subplots(1, _FRAMES), _frames(film), strict=True):
        axes.imshow(frame)
        axes.axis("off")
    panels = below.subplots(2, 4, sharex=True).ravel()
    for n, (axes, name) in enumerate(zip(panels[:7], JOINT_NAMES, strict=True)):
        scale = 1e3 if name == "gripper" else 1.0
        for track, colour, width in ((commands, "#c8553d", 1.8), (measured, "#1c2430", 0.9)):
            chosen = [(stamp - began, positions[n] * scale) for stamp, positions in track if began <= stamp <= ended]
            axes.plot(*np.array(chosen).T, color=colour, linewidth=width)
        axes.set_title(f"{name} [{'mm' if name == 'gripper' else 'rad'}]", fontsize=10)
        axes.grid(alpha=0.25)
    panels[-1].axis("off")
    panels[-1].plot([], [], color="#c8553d", label="commanded")
    panels[-1].plot([], [], color="#1c2430", label="measured")
    panels[-1].legend(loc="center", frameon=False)
    for axes in panels[3:7]:
        axes.set_xlabel("time [s]")
        axes.tick_params(labelbottom=True)
    figure.savefig(path, dpi=110)


def _frames(film: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [frames[n] for n in np.linspace(0, len(frames) - 1, _FRAMES).astype(int)]
