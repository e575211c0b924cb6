"""Which policies can speak with an arm by its joints."""

from __future__ import annotations

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.units import SIUnit, si_unit

_UNITS: dict[str, SIUnit] = {name: "m" if name == "gripper" else "rad" for name in JOINT_NAMES}


def joint_names(what: str, space: Space) -> list[str]:
    """The names of a space that consists of the arm's joints, in whatever units of angle and length.

    what: ``state`` or ``action``, for the message. Raises `BadInput` for any other space.
    """
    if space.quantity == "end_pose":
        raise BadInput(
            f"the policy's {what} is the pose of the end effector; this arm is moved by its joints, and inverse "
            "kinematics is not there yet: use a policy that was trained on joint positions"
        )
    for dimension in space.dimensions:
        if _UNITS.get(dimension.name) != si_unit(dimension.unit):
            raise BadInput(
                f"the policy's {what} has {dimension.name!r} in {dimension.unit}; this arm has {', '.join(_UNITS)}, "
                "the last a length, the others angles: export it for this arm"
            )
    return [dimension.name for dimension in space.dimensions]
