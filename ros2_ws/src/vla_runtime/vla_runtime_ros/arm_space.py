"""Between the joints that are measured and commanded and what a policy observes and does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.inverse_kinematics import EndPoseSolver
from vla_runtime.bundle.manifest import Manifest
from vla_runtime.errors import BadInput
from vla_runtime.policy.end_pose import check_end_pose, joint_targets, observed_pose
from vla_runtime.policy.joint_space import joint_names
from vla_runtime.safety.limits import PIPER_LIMITS


class ArmSpace:
    """What a policy needs of the measured joints, and what its actions are to them.

    measured: the joints whose positions make its state, by name and in order.
    commanded: the joints its actions are targets for, by name and in order; all of the arm's.
    """

    def __init__(self, manifest: Manifest, firmware: str) -> None:
        """firmware: of the arm, on which the zeros of its joints depend; for policies of the end pose.

        Raises `BadInput` for a policy of another arm, and where inverse kinematics is needed but not installed.
        """
        self._manifest, self._firmware = manifest, firmware
        state, action = manifest.state, manifest.action
        poses = {name: space.quantity == "end_pose" for name, space in (("state", state), ("action", action))}
        for name, space in (("state", state), ("action", action)):
            if poses[name]:
                check_end_pose(name, space)
        self._sees_pose = poses["state"]
        solver = EndPoseSolver(PIPER_LIMITS.lower, PIPER_LIMITS.upper, firmware=firmware) if poses["action"] else None
        self._solver = solver
        whole = any(poses.values())
        self.measured: Sequence[str] = JOINT_NAMES if whole else joint_names("state", state)
        self.commanded: Sequence[str] = JOINT_NAMES if poses["action"] else joint_names("action", action)
        self._state = [] if poses["state"] else [list(self.measured).index(n) for n in joint_names("state", state)]
        require_all_joints(self.commanded)

    def state(self, measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the policy observes of the joints ``measured`` (n,), in SI. Shape (n_state,)."""
        return observed_pose(measured, self._firmware) if self._sees_pose else measured[self._state]

    def targets(self, actions: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """What actions (H, n_action) ask of the joints ``commanded``, in [rad] and [m]. Shape (H, 7).

        Raises `WorkFailed` where a pose cannot be reached.
        """
        if self._solver is None:
            return actions
        return joint_targets(actions, self._manifest.action, measured, self._solver)


def require_all_joints(names: Sequence[str]) -> None:
    """Raises `BadInput` naming the joints of the arm that are not among ``names``."""
    missing = [name for name in JOINT_NAMES if name not in names]
    if missing:
        raise BadInput(f"the policy's action has no {', '.join(missing)}: the arm needs every joint")
