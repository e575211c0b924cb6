"""Where the PiPER's flange is, from its published Denavit–Hartenberg parameters."""

from __future__ import annotations

import re
from math import asin, atan2, cos, pi, radians, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_runtime.errors import BadInput

_TWIST = (0, -pi / 2, 0, pi / 2, -pi / 2, pi / 2)  # α [rad]
_LENGTH = (0, 0, 0.28503, -0.02198, 0, 0)  # a [m]
_OFFSET = (0.123, 0, 0, 0.25075, 0, 0.091)  # d [m]
_ZERO_BEFORE_V1_6_3 = (0, -radians(174.22), -radians(100.78), 0, 0, 0)  # θ at joint zero [rad]
_ZERO_SINCE_V1_6_3 = (0, -radians(172.22), -radians(102.78), 0, 0, 0)


def zero_angles(firmware: str) -> tuple[float, ...]:
    """θ of every joint at its zero, in [rad]: firmware S-V1.6-3 moved the zeros of joints 2 and 3 by 2°. Length 6.

    Raises `BadInput` for a version that does not read like ``S-V1.8-2``.
    """
    version = re.fullmatch(r"S-V(\d+)\.(\d+)-(\d+)", firmware)
    if version is None:
        raise BadInput(f"PiPER firmware '{firmware}' is not a version such as 'S-V1.8-2'")
    since = tuple(int(part) for part in version.groups()) >= (1, 6, 3)
    return _ZERO_SINCE_V1_6_3 if since else _ZERO_BEFORE_V1_6_3


def flange_transform(joints: ArrayLike, firmware: str = "S-V1.8-2") -> NDArray[np.float64]:
    """The flange in the base frame for ``joints`` in [rad], shape (6,). Translation in [m]. Shape (4, 4).

    Modified Denavit–Hartenberg convention (Craig, *Introduction to Robotics*, eq. 3.6).
    """
    transform = np.eye(4)
    angles = np.asarray(joints, dtype=np.float64) + zero_angles(firmware)
    for twist, length, offset, angle in zip(_TWIST, _LENGTH, _OFFSET, angles, strict=True):
        ct, st, ca, sa = cos(angle), sin(angle), cos(twist), sin(twist)
        transform = transform @ np.array(
            [
                [ct, -st, 0, length],
                [st * ca, ct * ca, -sa, -sa * offset],
                [st * sa, ct * sa, ca, ca * offset],
                [0, 0, 0, 1],
            ]
        )
    return transform


def roll_pitch_yaw(transform: NDArray[np.float64]) -> tuple[float, float, float]:
    """The rotation of ``transform`` as fixed-axis x-y-z angles in [rad], the PiPER's RX, RY, RZ."""
    return (
        atan2(transform[2, 1], transform[2, 2]),
        asin(float(np.clip(-transform[2, 0], -1, 1))),
        atan2(transform[1, 0], transform[0, 0]),
    )
