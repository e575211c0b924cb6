from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.piper_kinematics import flange_transform, roll_pitch_yaw
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space, Unit
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime_ros.arm_space import ArmSpace

FIRMWARE = "S-V1.8-2"
POSTURE = np.array([0.1, 1.2, -1.0, 0.2, 0.9, -0.3, 0.03])
POSE = (("x", "m"), ("y", "m"), ("z", "m"), ("rx", "rad"), ("ry", "rad"), ("rz", "rad"), ("gripper", "m"))
JOINTS = tuple((name, "m" if name == "gripper" else "rad") for name in JOINT_NAMES)


def space(dimensions: tuple[tuple[str, Unit], ...], quantity: Any = "joints") -> Space:
    n = len(dimensions)
    normalisation = Normalisation(mode="identity", offset=(0.0,) * n, scale=(1.0,) * n)
    named = tuple(Dimension(name=name, unit=unit) for name, unit in dimensions)
    return Space(dimensions=named, normalisation=normalisation, padded_to=n, quantity=quantity)


def arm_space(state: Space, action: Space) -> ArmSpace:
    return ArmSpace(SimpleNamespace(state=state, action=action), FIRMWARE)  # type: ignore[arg-type]


def pose_of(posture: np.ndarray) -> np.ndarray:
    flange = flange_transform(posture[:6], FIRMWARE)
    return np.array([*flange[:3, 3], *roll_pitch_yaw(flange), posture[6]])


def test_joints_stay_what_they_are_in_the_policys_order() -> None:
    found = arm_space(space(JOINTS[:2]), space(JOINTS[::-1]))
    assert (found.measured, found.commanded) == (list(JOINT_NAMES[:2]), list(JOINT_NAMES[::-1]))
    np.testing.assert_array_equal(found.state(POSTURE[:2]), POSTURE[:2])
    actions = np.tile(POSTURE, (3, 1))
    np.testing.assert_array_equal(found.targets(actions, POSTURE[:2]), actions)


def test_an_end_pose_goes_through_kinematics_both_ways() -> None:
    found = arm_space(space(POSE, "end_pose"), space(POSE, "end_pose"))
    assert (found.measured, found.commanded) == (JOINT_NAMES, JOINT_NAMES)
    np.testing.assert_allclose(found.state(POSTURE), pose_of(POSTURE), atol=1e-12)
    there = POSTURE + np.array([0.05, 0.02, -0.03, 0.04, 0.0, 0.05, 0.01])
    targets = found.targets(np.stack([pose_of(POSTURE), pose_of(there)]), POSTURE)
    np.testing.assert_allclose(targets, [POSTURE, there], atol=1e-3)


def test_joints_observed_and_poses_asked_take_the_whole_posture() -> None:
    found = arm_space(space(JOINTS[:3]), space(POSE, "end_pose"))
    assert found.measured == JOINT_NAMES
    np.testing.assert_array_equal(found.state(POSTURE), POSTURE[:3])
    with pytest.raises(WorkFailed, match="out of reach"):
        found.targets(np.array([[2.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0]]), POSTURE)


def test_what_is_no_pose_and_no_arm_is_refused() -> None:
    with pytest.raises(BadInput, match="a pose of this arm is x, y, z"):
        arm_space(space(JOINTS, "end_pose"), space(JOINTS))
    with pytest.raises(BadInput, match="no joint2, joint3"):
        arm_space(space(JOINTS), space((JOINTS[0], JOINTS[6])))
