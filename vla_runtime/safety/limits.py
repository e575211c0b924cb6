"""Where the arm may go, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput

UNITS = ("rad",) * 6 + ("m",)


@dataclass(frozen=True, eq=False)
class ArmLimits:
    """Position and velocity limits of six joints and a gripper.

    lower, upper: positions, joints in [rad], gripper in [m]. Shape (7,).
    velocity: largest speed in either direction, joints in [rad/s], gripper in [m/s]. Shape (7,).

    The arrays are read-only copies. Raises `BadInput` naming the joint where a value is not finite, a lower limit is
    above its upper, or a velocity is not positive. It knows nothing of any arm: `piper_limits` is the way from a
    user's configuration to limits a PiPER may be moved with.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "velocity"):
            object.__setattr__(self, name, seven(f"limits.{name}", getattr(self, name)))
        for i, joint in enumerate(JOINT_NAMES):
            if self.lower[i] > self.upper[i]:
                raise BadInput(
                    f"limits of {joint}: lower {self.lower[i]:g} {UNITS[i]} is above upper {self.upper[i]:g} {UNITS[i]}"
                )
            if self.velocity[i] <= 0:
                raise BadInput(f"limits of {joint}: velocity {self.velocity[i]:g} {UNITS[i]}/s must be above 0")


def seven(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A read-only copy of one finite number per joint and for the gripper, shape (7,); `BadInput` names ``name``."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be seven numbers (six joints and the gripper), got {values!r}") from error
    if array.shape != (7,):
        raise BadInput(f"{name} must be seven numbers (six joints and the gripper), got shape {array.shape}")
    for joint, value in zip(JOINT_NAMES, array, strict=True):
        if not np.isfinite(value):
            raise BadInput(f"{name} of {joint} must be a finite number, got {value}")
    array.setflags(write=False)
    return array


# piper_sdk 0.6.2 and piper_control 1.5 publish different limits. Inside both is the default; outside both is nowhere.
_SDK_LOWER = (-2.6179, 0.0, -2.967, -1.745, -1.22, -2.09439)
_SDK_UPPER = (2.6179, 3.14, 0.0, 1.745, 1.22, 2.09439)
_PIPER_CONTROL_LOWER = (-2.687, 0.0, -3.054, -1.745, -1.309, -1.745)
_PIPER_CONTROL_UPPER = (2.687, 3.403, 0.0, 1.954, 1.309, 1.745)

PIPER_LIMITS = ArmLimits(
    lower=np.append(np.maximum(_SDK_LOWER, _PIPER_CONTROL_LOWER), 0.0),
    upper=np.append(np.minimum(_SDK_UPPER, _PIPER_CONTROL_UPPER), 0.07),
    velocity=np.array([1.0] * 6 + [0.1]),
)
"""What a PiPER is moved with unless the user says otherwise: a third of the speed the joints can be set to."""

PIPER_HARDWARE = ArmLimits(
    lower=np.append(np.minimum(_SDK_LOWER, _PIPER_CONTROL_LOWER), 0.0),
    upper=np.append(np.maximum(_SDK_UPPER, _PIPER_CONTROL_UPPER), 0.10),
    velocity=np.array([3.0] * 6 + [0.2]),
)
"""What no configuration can exceed: the wider of the two published ranges, the V2 gripper's 0.10 m, the 3.0 rad/s the
controller accepts, and for the gripper's speed, which nobody publishes, a ceiling of our own."""


def piper_limits(
    lower: Sequence[float] | None = None,
    upper: Sequence[float] | None = None,
    velocity: Sequence[float] | None = None,
    *,
    allow_wider: bool = False,
) -> ArmLimits:
    """`PIPER_LIMITS` with the given lists of seven, joints in [rad] and [rad/s], gripper in [m] and [m/s], in place.

    Narrower is always allowed. Wider than `PIPER_LIMITS` takes ``allow_wider``, wider than `PIPER_HARDWARE` is refused
    in any case. Raises `BadInput` naming the joint, the value and the bound.
    """
    limits = ArmLimits(
        lower=PIPER_LIMITS.lower if lower is None else seven("limits.lower", lower),
        upper=PIPER_LIMITS.upper if upper is None else seven("limits.upper", upper),
        velocity=PIPER_LIMITS.velocity if velocity is None else seven("limits.velocity", velocity),
    )
    _refuse_wider(limits, PIPER_HARDWARE, "no PiPER can")
    if not allow_wider:
        _refuse_wider(limits, PIPER_LIMITS, "set allow_wider to go past the default")
    return limits


def _refuse_wider(limits: ArmLimits, bound: ArmLimits, advice: str) -> None:
    for name, values, edges, beyond, per in (
        ("lower", limits.lower, bound.lower, limits.lower < bound.lower, ""),
        ("upper", limits.upper, bound.upper, limits.upper > bound.upper, ""),
        ("velocity", limits.velocity, bound.velocity, limits.velocity > bound.velocity, "/s"),
    ):
        for i in np.flatnonzero(beyond):
            unit = UNITS[i] + per
            raise BadInput(
                f"limits of {JOINT_NAMES[i]}: {name} {values[i]:g} {unit} is beyond {edges[i]:g} {unit}: {advice}"
            )
