"""Poses of the end effector as states and as actions."""

from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.arms.inverse_kinematics import EndPoseSolver
from vla_runtime.arms.piper_kinematics import flange_transform
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space, Unit
from vla_runtime.errors import BadInput
from vla_runtime.policy.end_pose import check_end_pose, joint_targets, observed_pose
from vla_runtime.safety.limits import PIPER_LIMITS

FIRMWARE = "S-V1.8-2"
MEASURED = np.array([0.3, 1.4, -1.2, 0.4, 0.6, -0.5, 0.03])


def space(units: list[Unit], quantity: str = "end_pose") -> Space:
    n = len(units)
    return Space(
        dimensions=tuple(Dimension(name=f"d{i}", unit=unit) for i, unit in enumerate(units)),
        normalisation=Normalisation(mode="identity", offset=(0.0,) * n, scale=(1.0,) * n),
        padded_to=n,
        quantity=quantity,  # type: ignore[arg-type]
    )


POSE = space(["mm", "mm", "mm", "deg", "deg", "deg", "m"])


def test_the_observed_pose_asked_for_again_moves_nothing() -> None:
    pose = observed_pose(MEASURED, FIRMWARE)
    np.testing.assert_allclose(pose[:3], flange_transform(MEASURED[:6])[:3, 3])
    solver = EndPoseSolver(PIPER_LIMITS.lower, PIPER_LIMITS.upper)
    targets = joint_targets(np.array([pose, pose]), POSE, MEASURED, solver)
    np.testing.assert_allclose(targets, [MEASURED, MEASURED], atol=1e-4)


def test_the_gripper_goes_its_own_way() -> None:
    chunk = np.tile(observed_pose(MEASURED, FIRMWARE), (3, 1))
    chunk[:, 6] = [0.03, 0.02, 0.01]
    solver = EndPoseSolver(PIPER_LIMITS.lower, PIPER_LIMITS.upper)
    np.testing.assert_array_equal(joint_targets(chunk, POSE, MEASURED, solver)[:, 6], [0.03, 0.02, 0.01])


@pytest.mark.parametrize(
    "other",
    [
        space(["m", "m", "m", "rad", "rad", "rad"]),
        space(["rad", "rad", "rad", "m", "m", "m", "m"]),
        space(["m", "m", "m", "rad", "rad", "rad", "1"]),
        space(["m", "m", "m", "rad", "rad", "rad", "m"], quantity="joints"),
    ],
)
def test_what_is_no_pose_of_this_arm_is_refused(other: Space) -> None:
    with pytest.raises(
        BadInput, match="the policy's state is d0 .* a pose of this arm is x, y, z, rx, ry, rz, gripper"
    ):
        check_end_pose("state", other)
    check_end_pose("state", POSE)
