"""Policies that speak an arm's joints, and those that speak something else."""

from __future__ import annotations

from typing import Any

import pytest

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space, Unit
from vla_runtime.errors import BadInput
from vla_runtime.policy.joint_space import joint_names


def space(*dimensions: tuple[str, Unit], **changes: Any) -> Space:
    n = len(dimensions)
    return Space(
        dimensions=tuple(Dimension(name=name, unit=unit) for name, unit in dimensions),
        normalisation=Normalisation(mode="identity", offset=(0.0,) * n, scale=(1.0,) * n),
        padded_to=n,
        **changes,
    )


@pytest.mark.parametrize(("angle", "length"), [("rad", "m"), ("deg", "mm"), ("0.001deg", "0.001mm"), ("deg", "m")])
def test_any_units_of_angle_and_length_will_do(angle: Unit, length: Unit) -> None:
    joints = [(name, length if name == "gripper" else angle) for name in JOINT_NAMES]
    assert joint_names("action", space(*joints)) == list(JOINT_NAMES)
    assert joint_names("state", space(*reversed(joints))) == list(reversed(JOINT_NAMES))


@pytest.mark.parametrize(
    ("dimension", "complaint"),
    [
        (("joint8", "rad"), "action has 'joint8' in rad; this arm has joint1, .*, gripper, the last a length"),
        (("gripper", "1"), "'gripper' in 1"),
        (("gripper", "deg"), "'gripper' in deg"),
        (("joint1", "mm"), "'joint1' in mm"),
    ],
)
def test_another_arm_is_refused(dimension: tuple[str, Unit], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        joint_names("action", space(dimension))


def test_an_end_pose_is_refused_even_under_the_names_of_joints() -> None:
    with pytest.raises(BadInput, match="the policy's action is the pose of the end effector.*inverse kinematics"):
        joint_names("action", space(("joint1", "rad"), quantity="end_pose"))
