"""Policies that speak the pose of the end effector, for an arm that is moved by its joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.inverse_kinematics import EndPoseSolver
from vla_runtime.arms.piper_kinematics import flange_transform, roll_pitch_yaw
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.units import SIUnit, si_unit

_UNITS: tuple[SIUnit, ...] = ("m", "m", "m", "rad", "rad", "rad", "m")
_WHAT = ("x", "y", "z", "rx", "ry", "rz", "gripper")


def check_end_pose(what: str, space: Space) -> None:
    """Raises `BadInput` unless ``space`` is x, y, z, rx, ry, rz and the gripper's opening, in this order.

    what: ``state`` or ``action``, for the message. The dimensions may have any names; their units are of length and
    angle, and say what is meant.
    """
    units = tuple(si_unit(dimension.unit) for dimension in space.dimensions)
    if space.quantity != "end_pose" or units != _UNITS:
        names = ", ".join(f"{dimension.name} [{dimension.unit}]" for dimension in space.dimensions)
        raise BadInput(
            f"the policy's {what} is {names}; a pose of this arm is {', '.join(_WHAT)}: three lengths, three angles "
            "and the opening, a length"
        )


def joint_targets(
    actions: NDArray[np.float64], space: Space, measured: NDArray[np.float64], solver: EndPoseSolver
) -> NDArray[np.float64]:
    """The joint targets that bring the flange to the poses, and the gripper's openings as they are. Shape (H, 7).

    actions: absolute and in SI, as `Policy.infer` gives them. Shape (H, 7).
    measured: the arm as it was observed, in the order of `JOINT_NAMES`, in [rad] and [m]. Shape (7,).
    Raises `BadInput` as `check_end_pose`, `WorkFailed` as `EndPoseSolver.solve`.
    """
    check_end_pose("action", space)
    return np.column_stack([solver.solve(actions[:, :6], measured[:6]).joints, actions[:, 6]])


def observed_pose(positions: NDArray[np.float64], firmware: str) -> NDArray[np.float64]:
    """The state of an end-pose policy: x, y, z in [m], rx, ry, rz in [rad], the opening in [m]. Shape (7,).

    positions: the measured joints and opening, in the order of `JOINT_NAMES`. Shape (7,).
    firmware: the arm's, on which the zeros of its joints depend.
    """
    if positions.shape != (len(JOINT_NAMES),):
        raise ValueError(f"positions must be one per joint and for the gripper, got shape {positions.shape}")
    flange = flange_transform(positions[:6], firmware)
    return np.array([*flange[:3, 3], *roll_pitch_yaw(flange), positions[6]])
