"""Inverse kinematics against the published forward kinematics, which know nothing of each other, and MuJoCo's."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vla_runtime.arms.inverse_kinematics import EndPoseSolver, transforms
from vla_runtime.arms.piper_kinematics import flange_transform, roll_pitch_yaw
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.scene import Scene

LOWER, UPPER = PIPER_LIMITS.lower[:6], PIPER_LIMITS.upper[:6]
SOLVER = EndPoseSolver(PIPER_LIMITS.lower, PIPER_LIMITS.upper)
OLD = "S-V1.6-2"

shares = st.lists(st.floats(0, 1), min_size=6, max_size=6)


def posture(share: list[float]) -> NDArray[np.float64]:
    return LOWER + np.array(share) * (UPPER - LOWER)


def pose(joints: NDArray[np.float64], firmware: str = "S-V1.8-2") -> NDArray[np.float64]:
    flange = flange_transform(joints, firmware)
    return np.array([*flange[:3, 3], *roll_pitch_yaw(flange)])


def rotation_between(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """In [rad], by the distance of the matrices, which stays exact for small angles."""
    return 2 * float(np.arcsin(min(1.0, np.linalg.norm(one[:3, :3] - other[:3, :3]) / np.sqrt(8))))


def regular(joints: NDArray[np.float64]) -> bool:
    """Whether small motions of the flange take small motions of the joints: no straight elbow or wrist, and the wrist
    not above the shoulder. The smallest singular value of the Jacobian, by differences, in [m] and [rad] alike."""
    here, columns = flange_transform(joints), []
    for joint in range(6):
        there = flange_transform(joints + 1e-6 * np.eye(6)[joint])
        turn = (there[:3, :3] @ here[:3, :3].T - np.eye(3)) / 1e-6
        columns.append([*(there[:3, 3] - here[:3, 3]) / 1e-6, turn[2, 1], turn[0, 2], turn[1, 0]])
    return bool(np.linalg.svd(np.array(columns), compute_uv=False)[-1] > 0.03)


def path(start: NDArray[np.float64], end: NDArray[np.float64], count: int = 50) -> NDArray[np.float64]:
    return np.array([start + (end - start) * k / (count - 1) for k in range(count)])


@settings(deadline=None, max_examples=200)
@given(shares, st.lists(st.floats(-0.1, 0.1), min_size=6, max_size=6))
def test_a_pose_the_arm_can_take_is_met(share: list[float], away: list[float]) -> None:
    wanted = posture(share)
    assume(regular(wanted))
    solution = SOLVER.solve(pose(wanted)[None], np.clip(wanted + away, LOWER, UPPER))
    found = flange_transform(solution.joints[0])
    assert np.linalg.norm(found[:3, 3] - flange_transform(wanted)[:3, 3]) < 1e-4
    assert rotation_between(found, flange_transform(wanted)) < 1e-3
    assert solution.position_error[0] < 1e-4
    assert np.all((solution.joints >= LOWER) & (solution.joints <= UPPER))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3), st.lists(st.floats(-7, 7), min_size=3, max_size=3), shares
)
def test_whatever_is_asked_the_joints_are_within_their_limits_or_there_are_none(
    place: list[float], turn: list[float], share: list[float]
) -> None:
    try:
        solution = SOLVER.solve(np.array([[*place, *turn]]), posture(share))
    except WorkFailed:
        return
    assert np.all((solution.joints >= LOWER) & (solution.joints <= UPPER))
    found = flange_transform(solution.joints[0])
    assert np.linalg.norm(found[:3, 3] - place) <= 0.002 + 1e-6
    assert rotation_between(found, transforms(np.array([[*place, *turn]]))[0]) <= 0.02 + 1e-5
    assert np.max(np.abs(solution.joints[0] - posture(share))) <= 0.5


@settings(deadline=None, max_examples=25)
@given(shares, st.lists(st.floats(-0.4, 0.4), min_size=6, max_size=6))
def test_a_path_of_poses_becomes_the_path_of_joints_it_came_from(share: list[float], away: list[float]) -> None:
    start = posture(share)
    end = np.clip(start + away, LOWER, UPPER)
    joints = path(start, end)
    assume(all(regular(row) for row in joints))
    solution = SOLVER.solve(np.array([pose(row) for row in joints]), start)
    for row, found in zip(joints, solution.joints, strict=True):
        np.testing.assert_allclose(found, row, atol=1e-3)


def test_mujocos_own_scene_has_the_flange_where_it_was_wanted() -> None:
    import mujoco

    scene = Scene()
    wanted = np.array([0.3, 1.4, -1.2, 0.4, 0.6, -0.5])
    found = SOLVER.solve(pose(wanted)[None], wanted + 0.05).joints[0]
    for index, angle in enumerate(found):
        scene.data.qpos[scene.model.joint(f"joint{index + 1}").qposadr[0]] = angle
    mujoco.mj_kinematics(scene.model, scene.data)
    base = scene.data.body("base").xpos
    np.testing.assert_allclose(scene.data.body("link6").xpos - base, pose(wanted)[:3], atol=1e-4)


def test_older_firmware_has_its_zeros_elsewhere() -> None:
    solver = EndPoseSolver(LOWER, UPPER, firmware=OLD)
    wanted = np.array([0.3, 1.4, -1.2, 0.4, 0.6, -0.5])
    found = solver.solve(pose(wanted, OLD)[None], wanted + 0.05).joints[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(SOLVER.solve(pose(wanted, OLD)[None], wanted).joints[0] - wanted).max() > np.radians(1.5)


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_transforms_are_the_inverse_of_the_angles(turn: list[float]) -> None:
    transform = transforms(np.array([[0.1, -0.2, 0.3, *turn]]))[0]
    again = transforms(np.array([[0.1, -0.2, 0.3, *roll_pitch_yaw(transform)]]))[0]
    np.testing.assert_allclose(again, transform, atol=1e-6)
    np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-12)


def test_out_of_reach_names_the_pose_and_the_distance() -> None:
    start = np.array([0.0, 1.2, -1.0, 0.0, 0.5, 0.0])
    far = pose(start)
    far[0] = 1.2
    with pytest.raises(WorkFailed, match=r"pose 2 of 2 is out of reach within the joint limits, by \d+\.\d mm"):
        SOLVER.solve(np.array([pose(start), far]), start)


def test_a_leap_to_another_posture_is_no_answer() -> None:
    start = np.array([0.0, 1.2, -1.0, 0.0, 0.5, 0.0])
    elsewhere = np.array([0.9, 1.2, -1.0, 0.0, 0.5, 0.0])
    with pytest.raises(WorkFailed, match=r"pose 1 of 1 takes joint 1 52° from where it is before it, more than 29°"):
        SOLVER.solve(pose(elsewhere)[None], start)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_no_answer(bad: float) -> None:
    start = np.array([0.0, 1.2, -1.0, 0.0, 0.5, 0.0])
    with pytest.raises(WorkFailed, match="not finite"):
        SOLVER.solve(np.array([[bad, 0, 0.3, 0, 0, 0]]), start)
    with pytest.raises(WorkFailed, match="not finite"):
        SOLVER.solve(pose(start)[None], np.append(start[:5], bad))


def test_without_the_library_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mink", raising=False)
    real = builtins.__import__

    def without_mink(name: str, *args: object, **kwargs: object) -> object:
        if name == "mink":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_mink)
    with pytest.raises(BadInput, match=r"pip install 'vla-deploy\[ik\]'"):
        EndPoseSolver(LOWER, UPPER)
