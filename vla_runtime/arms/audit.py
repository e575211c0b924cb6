"""What a simulated arm was told, counted frame by frame."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.motion_audit import MotionAudit
from vla_runtime.arms.piper_limits import ANGLE_LIMITS_DECIDEGREES, GRIPPER_OPENING

# Lower and upper bound of what each coordinate's frames may hold, in the wire's whole steps. Shape (7, 2).
_LIMIT_STEPS = np.array(
    [(lower * 100, upper * 100) for lower, upper in ANGLE_LIMITS_DECIDEGREES]
    + [(0, round(GRIPPER_OPENING / frames.METRES_PER_STEP))]
)


class Audit:
    """Every command frame that arrived.

    frames: how many under each identifier.
    lowest, highest: the extreme targets, six joints in [rad], gripper in [m]; infinite before the first. Shape (7,).
    outside_limits: frames with a target beyond the firmware's limits.
    malformed: frames of a known identifier that are not 8 bytes long.
    """

    def __init__(self, period: float | None = None) -> None:
        """``period``: between two targets as the sender means it, in [s]; None in simulated time (`MotionAudit`)."""
        self.frames: Counter[int] = Counter()
        self.lowest: NDArray[np.float64] = np.full(7, np.inf)
        self.highest: NDArray[np.float64] = np.full(7, -np.inf)
        self.outside_limits = 0
        self.malformed = 0
        self._motions = [MotionAudit(period) for _ in range(7)]

    @property
    def fastest(self) -> NDArray[np.float64]:
        """The greatest speed the targets asked, in [rad/s] and [m/s], as `MotionAudit` has it. Shape (7,)."""
        return np.array([motion.fastest for motion in self._motions])

    @property
    def hardest(self) -> NDArray[np.float64]:
        """The greatest acceleration the targets asked, in [rad/s²] and [m/s²], as `MotionAudit` has it. Shape (7,)."""
        return np.array([motion.hardest for motion in self._motions])

    def rest(self, index: int, position: float) -> None:
        """Coordinate ``index`` stands at ``position`` [rad] or [m] without power: motion starts from there."""
        self._motions[index].rest(position)

    def target(self, first: int, steps: tuple[int, ...], time: float) -> list[bool]:
        """Count one frame of targets for the coordinates from ``first`` on, come at ``time`` [s].

        Says which of them are within the firmware's limits.
        """
        within = []
        for index, value in enumerate(steps, start=first):
            position = value * frames.UNITS[index]
            self.lowest[index] = min(self.lowest[index], position)
            self.highest[index] = max(self.highest[index], position)
            self._motions[index].target(time, position)
            within.append(bool(_LIMIT_STEPS[index, 0] <= value <= _LIMIT_STEPS[index, 1]))
        self.outside_limits += not all(within)
        return within
