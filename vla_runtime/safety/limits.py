"""Where the arm may go, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput

UNITS = ("rad",) * 6 + ("m",)

_RATES = {"velocity": "/s", "acceleration": "/s²", "jerk": "/s³"}
_ACCELERATION = (5.0,) * 6 + (1.0,)
_JERK = (200.0,) * 6 + (40.0,)


@dataclass(frozen=True, eq=False)
class ArmLimits:
    """Limits of the motion of six joints and a gripper.

    lower, upper: positions, joints in [rad], gripper in [m]. Shape (7,).
    velocity, acceleration, jerk: the largest in either direction, joints in [rad/s], [rad/s²] and [rad/s³], gripper in
        [m/s], [m/s²] and [m/s³], as `vla_runtime.safety.differences` measures them. Shape (7,).

    The arrays are read-only copies. Raises `BadInput` naming the joint where a value is not finite, a lower limit is
    above its upper, or another limit is not positive. It knows nothing of any arm: `piper_limits` is the way from a
    user's configuration to limits a PiPER may be moved with.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64] = field(default_factory=lambda: np.array(_ACCELERATION))
    jerk: NDArray[np.float64] = field(default_factory=lambda: np.array(_JERK))

    def __post_init__(self) -> None:
        for name in ("lower", "upper", *_RATES):
            object.__setattr__(self, name, seven(f"limits.{name}", getattr(self, name)))
        for i, joint in enumerate(JOINT_NAMES):
            if self.lower[i] > self.upper[i]:
                raise BadInput(
                    f"limits of {joint}: lower {self.lower[i]:g} {UNITS[i]} is above upper {self.upper[i]:g} {UNITS[i]}"
                )
            for name, per in _RATES.items():
                value = getattr(self, name)[i]
                if value <= 0:
                    raise BadInput(f"limits of {joint}: {name} {value:g} {UNITS[i]}{per} must be above 0")


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
    acceleration=np.array(_ACCELERATION),
    jerk=np.array(_JERK),
)
"""What a PiPER is moved with unless the user says otherwise: a third of the speed the joints can be set to, the
acceleration of its own controller, reached in 25 ms or more."""

PIPER_HARDWARE = ArmLimits(
    lower=np.append(np.minimum(_SDK_LOWER, _PIPER_CONTROL_LOWER), 0.0),
    upper=np.append(np.maximum(_SDK_UPPER, _PIPER_CONTROL_UPPER), 0.10),
    velocity=np.array([3.0] * 6 + [0.2]),
    acceleration=np.array([5.0] * 6 + [2.0]),
    jerk=np.array([500.0] * 6 + [200.0]),
)
"""What no configuration can exceed: the wider of the two published ranges, the V2 gripper's 0.10 m, the 3.0 rad/s and
5.0 rad/s² the arm's controller accepts; for what nobody publishes, jerk and the gripper's motion, ceilings of our
own."""

GRIPPER_EFFORT = (0.5, 3.0)
"""What the gripper may be told to grip with, in [N·m]: below, it may not move; above, it crushes what it holds and its
motor overheats. The wire allows 0 to 5."""


def piper_limits(
    lower: Sequence[float] | None = None,
    upper: Sequence[float] | None = None,
    velocity: Sequence[float] | None = None,
    acceleration: Sequence[float] | None = None,
    jerk: Sequence[float] | None = None,
    *,
    allow_wider: bool = False,
) -> ArmLimits:
    """`PIPER_LIMITS` with the given lists of seven in place; the units are those of `ArmLimits`.

    Narrower is always allowed. Wider than `PIPER_LIMITS` takes ``allow_wider``, wider than `PIPER_HARDWARE` is refused
    in any case. Raises `BadInput` naming the joint, the value and the bound.
    """
    given = {"lower": lower, "upper": upper, "velocity": velocity, "acceleration": acceleration, "jerk": jerk}
    limits = ArmLimits(
        **{
            name: getattr(PIPER_LIMITS, name) if values is None else seven(f"limits.{name}", values)
            for name, values in given.items()
        }
    )
    _refuse_wider(limits, PIPER_HARDWARE, "no PiPER can")
    if not allow_wider:
        _refuse_wider(limits, PIPER_LIMITS, "set allow_wider to go past the default")
    return limits


def check_gripper_effort(effort: float) -> float:
    """``effort`` [N·m], if the gripper may be told to grip with it; raises `BadInput` where not."""
    low, high = GRIPPER_EFFORT
    if not low <= effort <= high:
        raise BadInput(f"gripper_effort {effort:g} N·m is outside {low:g} … {high:g} N·m")
    return effort


def _refuse_wider(limits: ArmLimits, bound: ArmLimits, advice: str) -> None:
    for name in ("lower", "upper", *_RATES):
        values, edges = getattr(limits, name), getattr(bound, name)
        for i in np.flatnonzero(values < edges if name == "lower" else values > edges):
            unit = UNITS[i] + _RATES.get(name, "")
            raise BadInput(
                f"limits of {JOINT_NAMES[i]}: {name} {values[i]:g} {unit} is beyond {edges[i]:g} {unit}: {advice}"
            )
