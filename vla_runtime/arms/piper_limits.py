"""What the PiPER's own firmware allows."""

from __future__ import annotations

from math import radians

import numpy as np
from numpy.typing import NDArray

# In 0.1°, as frame 0x473 reports them, lower and upper. Joints 1–6.
ANGLE_LIMITS_DECIDEGREES = ((-1500, 1500), (0, 1800), (-1700, 0), (-1000, 1000), (-700, 700), (-1200, 1200))
GRIPPER_OPENING = 0.07  # [m]
MAX_JOINT_SPEED = 3.0  # [rad/s]
MAX_JOINT_ACCELERATION = 5.0  # [rad/s²]
MAX_GRIPPER_SPEED = 0.15  # [m/s]


def firmware_limits() -> NDArray[np.float64]:
    """Lower and upper bound of every coordinate, six joints in [rad], gripper in [m]. Shape (7, 2)."""
    joints = [(radians(lower / 10), radians(upper / 10)) for lower, upper in ANGLE_LIMITS_DECIDEGREES]
    return np.array([*joints, (0.0, GRIPPER_OPENING)])
