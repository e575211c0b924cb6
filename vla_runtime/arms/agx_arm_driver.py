"""The PiPER behind agx_arm_ros, the successor of piper_ros: its topics, units and traps.

Read from its node ``agx_arm_ctrl_single_node`` and README (agilexrobotics/agx_arm_ros, branch ros2).

- Of the six joints, those that a message does not name, or names with a NaN, go to 0 in its older versions: every
  message names all seven with finite positions.
- With its ``fast_mode`` the same message is executed in MIT mode, without the controller's planning: refused here.
- With its ``control_enabled`` false it drops every command without a word: refused here. Its service ``control_enable``
  can still close that gate later; then the arm does not follow.
- The gripper is there with ``effector_type:=agx_gripper`` only; a width beyond 0.1 m or a force beyond 0.5 to 3 is
  dropped with a warning, and a force of 0 means its default.
- Speed is its own parameter ``speed_percent``.
- ``enable_agx_arm`` answers after up to five seconds, in which it hears nothing else; it says yes where some motors
  still have no power.
- ``feedback/arm_status`` and ``feedback/gripper_status`` have types of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.driver_arm import DriverArm
from vla_runtime.arms.driver_link import DriverLink, DriverTopics, JointMessage
from vla_runtime.arms.piper_frames import UNITS
from vla_runtime.errors import BadInput, WorkFailed


class AgxArmDriver(DriverArm):
    """An `Arm` over agx_arm_ros."""

    DRIVER = "agx_arm_ros"
    TOPICS = DriverTopics(
        feedback="feedback/joint_states",
        command="control/joint_states",
        power="enable_agx_arm",
        power_answers=True,
        other_commands=tuple(f"control/move_{how}" for how in ("j", "p", "l", "c", "js", "mit")),
    )
    PARAMETERS = ("fast_mode", "control_enabled", "effector_type")

    def __init__(
        self,
        link: DriverLink,
        *,
        speed_percent: int = 100,
        gripper_effort: float = 1.0,
        send_every: int = 1,
        connect_timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """As `DriverArm`; ``gripper_effort`` as the driver's force, which it says is in [N].

        Raises `BadInput` for a value that the driver would drop.
        """
        super().__init__(link, send_every=send_every, connect_timeout=connect_timeout, clock=clock)
        if speed_percent != 100:
            raise BadInput(
                f"speed_percent is {speed_percent}: agx_arm_ros takes it from its own parameter only; start it with "
                f"speed_percent:={speed_percent}, and leave ours at 100"
            )
        if not 0.5 <= gripper_effort <= 3:
            raise BadInput(f"gripper_effort is {gripper_effort}: agx_arm_ros takes 0.5 to 3")
        self._gripper_effort = gripper_effort

    def check_parameters(self, parameters: Mapping[str, object]) -> None:
        """No MIT mode, an open gate, and the gripper on."""
        if parameters.get("fast_mode", False) is not False:
            raise WorkFailed(
                "agx_arm_ros runs with fast_mode:=true, which moves the arm in MIT mode: start it with fast_mode:=false"
            )
        if parameters.get("control_enabled", True) is not True:
            raise WorkFailed("agx_arm_ros runs with control_enabled:=false: start it with control_enabled:=true")
        effector = parameters.get("effector_type")
        if effector != "agx_gripper":
            raise WorkFailed(
                f"agx_arm_ros runs with effector_type:={effector}: start it with effector_type:=agx_gripper"
            )

    def message(self, stamp: float, target: list[int]) -> JointMessage:
        """All seven names and positions; the gripper's force in the seventh place; no velocities."""
        return JointMessage(
            stamp=stamp,
            names=JOINT_NAMES,
            positions=tuple((np.array(target) * UNITS).tolist()),
            efforts=(0.0,) * 6 + (self._gripper_effort,),
        )

    def measured(self, message: JointMessage) -> NDArray[np.float64]:
        """Its angles and opening as they are."""
        return np.array(message.positions)
