"""Joints for the poses of an end-pose policy, inside the joint limits and without a leap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.piper_kinematics import zero_angles
from vla_runtime.errors import BadInput, WorkFailed

MODEL_FIRMWARE = "S-V1.8-2"
"""Any since S-V1.6-3: where the zeros of the joints in ``sim/piper.xml`` are."""

_MODEL = Path(__file__).parents[1] / "sim" / "piper.xml"
_FLANGE = "link6"
_SOLVER = "daqp"
_ORIENTATION_COST = 0.3  # [m/rad], of an error of orientation against one of position
_LM_DAMPING = 1e-3  # Levenberg-Marquardt, times the error: what keeps steps short near a singular posture
_CONVERGED = (1e-6, 1e-5)  # [m], [rad]
_STALLED = 1e-7  # [rad]; a step so short goes nowhere any more
_MOST_STEPS = 25


@dataclass(frozen=True)
class Solution:
    """Joints, and how far from the poses they are.

    joints: in [rad]. Shape (H, 6).
    position_error: in [m]. Shape (H,). orientation_error: in [rad]. Shape (H,).
    """

    joints: NDArray[np.float64]
    position_error: NDArray[np.float64]
    orientation_error: NDArray[np.float64]


class EndPoseSolver:
    """Inverse kinematics by differential steps, each a quadratic programme with the joint limits as its bounds (mink).

    Every pose is sought from the joints of the pose before it, the first from the measured ones, so that the arm keeps
    its posture. Where a pose cannot be met within the limits, or only with joints far from those before, there is no
    answer: what a policy asks is never replaced by something near it, and the arm never leaps to another posture. A
    path through a singular posture (the elbow straight, joint 3 at -162°; the wrist straight, joint 5 at 0; the wrist
    above the shoulder) may have no answer beyond it.
    """

    def __init__(
        self,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        *,
        firmware: str = MODEL_FIRMWARE,
        position_tolerance: float = 0.002,
        orientation_tolerance: float = 0.02,
        leap: float = 0.5,
    ) -> None:
        """``lower`` and ``upper``: where the joints may be, in [rad]. Shape (6,), or (7,) as in `ArmLimits`.

        ``position_tolerance`` in [m]; ``orientation_tolerance``, and ``leap`` of a joint between poses, in [rad].
        Raises `BadInput` where mink is not installed, or for a firmware that is not a version.
        """
        try:
            import mink
            import mujoco
        except ImportError as error:
            raise BadInput(
                "inverse kinematics, which an end-pose policy needs, is not installed: pip install 'vla-deploy[ik]'"
            ) from error
        self._zero = np.array(zero_angles(firmware)) - np.array(zero_angles(MODEL_FIRMWARE))
        self._lower, self._upper = lower[:6], upper[:6]
        self._tolerances = (position_tolerance, orientation_tolerance)
        self._leap = leap
        model = _arm_alone(mujoco, self._lower + self._zero, self._upper + self._zero)
        self._configuration = mink.Configuration(model)
        self._task = mink.FrameTask(_FLANGE, "body", 1.0, _ORIENTATION_COST, lm_damping=_LM_DAMPING)
        self._limits = [mink.ConfigurationLimit(model, gain=1.0)]
        self._pose = mink.SE3.from_matrix
        self._solve_ik = mink.solve_ik

    def solve(self, poses: NDArray[np.float64], measured: NDArray[np.float64]) -> Solution:
        """The joints for poses of the flange, in the base's frame.

        poses: x, y, z in [m], then the fixed-axis rotations rx, ry, rz in [rad]. Shape (H, 6).
        measured: the joints to begin with, in [rad]. Shape (6,).
        Raises `WorkFailed`, naming the pose, where one is not finite, out of reach or beyond a leap.
        """
        if not np.isfinite(poses).all() or not np.isfinite(measured).all():
            raise WorkFailed("a pose of the end effector, or a measured joint, is not finite: this chunk is dropped")
        joints = np.empty((len(poses), 6))
        errors = np.empty((len(poses), 2))
        before = np.clip(measured, self._lower, self._upper)
        self._configuration.update(before + self._zero)
        for index, transform in enumerate(transforms(poses)):
            errors[index] = self._approach(transform)
            joints[index] = np.clip(self._configuration.q - self._zero, self._lower, self._upper)
            self._judge(index, len(poses), errors[index], joints[index] - before)
            before = joints[index]
        return Solution(joints, errors[:, 0], errors[:, 1])

    def _approach(self, transform: NDArray[np.float64]) -> tuple[float, float]:
        """Bring the configuration to the pose; what is left of the errors of position [m] and orientation [rad]."""
        self._task.set_target(self._pose(transform))
        for _ in range(_MOST_STEPS):
            position, orientation = self._error()
            if position <= _CONVERGED[0] and orientation <= _CONVERGED[1]:
                break
            step = self._solve_ik(self._configuration, [self._task], 1.0, _SOLVER, limits=self._limits)
            self._configuration.integrate_inplace(step, 1.0)
            if np.max(np.abs(step)) <= _STALLED:
                break
        return self._error()

    def _error(self) -> tuple[float, float]:
        error = self._task.compute_error(self._configuration)
        return float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:]))

    def _judge(self, index: int, count: int, error: NDArray[np.float64], step: NDArray[np.float64]) -> None:
        if error[0] > self._tolerances[0] or error[1] > self._tolerances[1]:
            raise WorkFailed(
                f"pose {index + 1} of {count} is out of reach within the joint limits, by {error[0] * 1000:.1f} mm and "
                f"{np.degrees(error[1]):.1f}°: this chunk is dropped"
            )
        joint = int(np.argmax(np.abs(step)))
        if abs(step[joint]) > self._leap:
            raise WorkFailed(
                f"pose {index + 1} of {count} takes joint {joint + 1} {np.degrees(step[joint]):.0f}° from where it is "
                f"before it, more than {np.degrees(self._leap):.0f}°: this chunk is dropped"
            )


def transforms(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Homogeneous transforms of poses (n, 6): x, y, z in [m]; rotations about the fixed x, then y, then z, in [rad].

    The inverse of `piper_kinematics.roll_pitch_yaw`. Shape (n, 4, 4).
    """
    (cx, cy, cz), (sx, sy, sz) = np.cos(poses[:, 3:6].T), np.sin(poses[:, 3:6].T)
    out = np.zeros((len(poses), 4, 4))
    out[:, 0, :3] = np.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], axis=1)
    out[:, 1, :3] = np.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], axis=1)
    out[:, 2, :3] = np.stack([-sy, cy * sx, cy * cx], axis=1)
    out[:, :3, 3] = poses[:, :3]
    out[:, 3, 3] = 1.0
    return out


def _arm_alone(mujoco: Any, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> Any:
    """The project's model of the arm without its gripper, its joints limited to ``lower`` and ``upper`` [rad]."""
    spec = mujoco.MjSpec.from_file(str(_MODEL))
    spec.compiler.degree = False
    for gripper_part in (*spec.equalities, *spec.actuators, *spec.tendons):
        spec.delete(gripper_part)
    for finger in ("finger_left", "finger_right"):
        spec.delete(spec.body(finger))
    for index in range(6):
        spec.joint(f"joint{index + 1}").range = [lower[index], upper[index]]
    return spec.compile()
