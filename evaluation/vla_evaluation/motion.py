"""How the arm moved: how far its tip went, and how smoothly its joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.piper_kinematics import flange_transform

GRASP = 0.138  # [m], from the flange to the point between the fingertips, along its z axis


def tip_path_length(states: NDArray[np.float64]) -> float:
    """Length of the way the point between the fingertips went, in [m].

    states: six joints in [rad] and the gripper in [m], in the order of time. Shape (n, 7).
    """
    tips = np.array([(flange_transform(state[:6]) @ (0.0, 0.0, GRASP, 1.0))[:3] for state in states])
    return float(np.linalg.norm(np.diff(tips, axis=0), axis=1).sum())


def joint_jerk(states: NDArray[np.float64], dt: float) -> float | None:
    """Root mean square of the six joints' third time derivative, by third differences, in [rad/s³].

    states: at steps of ``dt`` [s]. Shape (n, 7). None for fewer than four of them.
    """
    if len(states) < 4:
        return None
    return float(np.sqrt(np.mean((np.diff(states[:, :6], n=3, axis=0) / dt**3) ** 2)))


def resampled(stamps: NDArray[np.float64], states: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
    """States at steps of ``dt`` [s] from the first stamp on, linear between samples.

    stamps: increasing, in [s]. Shape (n,). states: shape (n, 7). Returns shape (m, 7).
    """
    grid = np.arange(stamps[0], stamps[-1] + 1e-9, dt)
    return np.stack([np.interp(grid, stamps, column) for column in states.T], axis=1)
