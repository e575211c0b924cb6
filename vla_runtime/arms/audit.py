"""What a simulated arm was told, counted frame by frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.piper_limits import ANGLE_LIMITS_DECIDEGREES, GRIPPER_OPENING

# Lower and upper bound of what each coordinate's frames may hold, in the wire's whole steps. Shape (7, 2).
_LIMIT_STEPS = np.array(
    [(lower * 100, upper * 100) for lower, upper in ANGLE_LIMITS_DECIDEGREES]
    + [(0, round(GRIPPER_OPENING / frames.METRES_PER_STEP))]
)
_UNITS = np.array([frames.RADIANS_PER_STEP] * 6 + [frames.METRES_PER_STEP])


@dataclass
class Audit:
    """Every command frame that arrived.

    frames: how many under each identifier.
    lowest, highest: the extreme targets, six joints in [rad], gripper in [m]; infinite before the first. Shape (7,).
    outside_limits: frames with a target beyond the firmware's limits.
    malformed: frames of a known identifier that are not 8 bytes long.
    """

    frames: Counter[int] = field(default_factory=Counter)
    lowest: NDArray[np.float64] = field(default_factory=lambda: np.full(7, np.inf))
    highest: NDArray[np.float64] = field(default_factory=lambda: np.full(7, -np.inf))
    outside_limits: int = 0
    malformed: int = 0

    def target(self, first: int, steps: tuple[int, ...]) -> list[bool]:
        """Count one frame of targets for the coordinates from ``first`` on; says which of them are within limits."""
        within = []
        for index, value in enumerate(steps, start=first):
            self.lowest[index] = min(self.lowest[index], value * _UNITS[index])
            self.highest[index] = max(self.highest[index], value * _UNITS[index])
            within.append(bool(_LIMIT_STEPS[index, 0] <= value <= _LIMIT_STEPS[index, 1]))
        self.outside_limits += not all(within)
        return within
