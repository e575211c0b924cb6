"""Joints that bring the gripper to a place, in closed form: with joint 4 at zero the arm is in one vertical plane."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The published modified Denavit-Hartenberg parameters of firmware S-V1.6-3 and later, as in piper.xml.
_SHOULDER = 0.123  # [m], above the base
_UPPER = 0.28503  # [m], joint 2 to joint 3
_FORE = math.hypot(0.02198, 0.25075)  # [m], joint 3 to the wrist
_TOOL = 0.091 + 0.138  # [m], the wrist to the point between the fingers
_JOINT2_ZERO, _JOINT3_ZERO = 3.0058060, 1.7938494 - math.atan2(-0.25075, -0.02198) - 2 * math.pi
_DOWN = 3.0058060 + 1.7938494 - math.pi  # [rad], joints 2 + 3 + 5 where the fingers point straight down

_JOINT5 = 1.19  # [rad], a little inside the joint's 1.22
_MOST_TILT = 1.2  # [rad]


def joints_at(place: ArrayLike, yaw: float) -> NDArray[np.float64]:
    """Six joints [rad] that put the point between the fingers at ``place`` [m], shape (3,), in the base frame.

    The fingers point down; where joint 5 cannot bend that far they tilt outwards as little as possible. They close
    along the horizontal y axis turned by ``yaw`` [rad], or along that turned by a quarter, whichever turns joint 6
    less: a cube has four like sides. Raises ``ValueError`` for a place out of reach.
    """
    x, y, z = np.asarray(place, dtype=np.float64)
    radius = math.hypot(x, y)
    tilt = 0.0
    if _bend(radius, z, tilt) > _JOINT5:
        steep, tilt = 0.0, _MOST_TILT
        for _ in range(30):
            middle = (steep + tilt) / 2
            steep, tilt = (middle, tilt) if _bend(radius, z, middle) > _JOINT5 else (steep, middle)
    joint2, joint3 = _shoulder_and_elbow(radius, z, tilt)
    joint1 = math.atan2(y, x)
    joint6 = (joint1 - yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
    return np.array([joint1, joint2, joint3, 0.0, _DOWN - tilt - joint2 - joint3, joint6])


def _bend(radius: float, z: float, tilt: float) -> float:
    """Joint 5 [rad] at that tilt; infinite where the wrist is out of reach, which more tilt may mend."""
    try:
        joint2, joint3 = _shoulder_and_elbow(radius, z, tilt)
    except ValueError:
        return math.inf
    return _DOWN - tilt - joint2 - joint3


def _shoulder_and_elbow(radius: float, z: float, tilt: float) -> tuple[float, float]:
    """Joints 2 and 3 [rad] of the two-link arm whose end is the wrist, by the law of cosines."""
    out = radius - _TOOL * math.sin(tilt)
    down = _SHOULDER - (z + _TOOL * math.cos(tilt))
    cosine = (out**2 + down**2 - _UPPER**2 - _FORE**2) / (2 * _UPPER * _FORE)
    if not -1 <= cosine <= 1:
        raise ValueError(f"a point {radius:.3f} m away and {z:.3f} m high is out of reach")
    elbow = math.acos(cosine)
    upper = math.atan2(down, out) - math.atan2(_FORE * math.sin(elbow), _UPPER + _FORE * cosine)
    return upper + _JOINT2_ZERO, elbow + _JOINT3_ZERO
