"""The PiPER behind piper_ros, the manufacturer's first ROS driver: its topics, units and traps.

Read from its node ``piper_ctrl_single_node`` (agilexrobotics/Piper_ros, branch humble).

- A joint that a message does not name goes to 0, and the gripper's opening is the seventh position whatever its name:
  every message names all seven in their order.
- It takes π as 3.14 on the way in, and as 0.017444 · 180 on the way out. Both are undone here, so that the arm gets and
  tells the angles that are meant; a driver without the error would move it 0.05 % less far than meant.
- The seventh velocity is its speed in percent, the seventh effort the gripper's in [N·m], 0.5 to 3.
- Powering it clears the gripper's errors and closes it; it opens again to what it held with the first targets.
- Its launch file remaps ``joint_ctrl_single`` to ``/joint_states``, where measured joints are published: started so, it
  would take what it measures for what it should do. It must be started without.
- It never answers to ``enable_flag``; its service ``enable_srv`` and its ``arm_status`` have types of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import pi

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.driver_arm import DriverArm
from vla_runtime.arms.driver_link import DriverLink, DriverTopics, JointMessage
from vla_runtime.arms.piper_frames import METRES_PER_STEP
from vla_runtime.errors import BadInput, WorkFailed

_RADIANS_PER_STEP_IN = 3.14 / 180_000  # what it takes 0.001° for in a command
_ITS_RADIAN = (pi / 180) / 0.017444  # [rad], what one of its measured radians is


class PiperRosDriver(DriverArm):
    """An `Arm` over piper_ros."""

    DRIVER = "piper_ros"
    TOPICS = DriverTopics(
        feedback="joint_states_feedback",
        command="joint_ctrl_single",
        power="enable_flag",
        power_answers=False,
        other_commands=("pos_cmd",),
    )
    PARAMETERS = ("gripper_exist", "gripper_val_mutiple")

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
        """As `DriverArm`; ``gripper_effort`` in [N·m]. Raises `BadInput` for a value the driver would change."""
        super().__init__(link, send_every=send_every, connect_timeout=connect_timeout, clock=clock)
        if not 1 <= speed_percent <= 100:
            raise BadInput(f"speed_percent is {speed_percent}: give 1 to 100")
        if not 0.5 <= gripper_effort <= 3:
            raise BadInput(f"gripper_effort is {gripper_effort} N·m: piper_ros takes 0.5 to 3")
        self._speed_percent = speed_percent
        self._gripper_effort = gripper_effort

    def check_parameters(self, parameters: Mapping[str, object]) -> None:
        """Its gripper must be there, and its opening not be multiplied."""
        if parameters.get("gripper_exist", True) is not True:
            raise WorkFailed("piper_ros runs with gripper_exist:=false: start it with gripper_exist:=true")
        if parameters.get("gripper_val_mutiple", 1) != 1:
            raise WorkFailed(
                f"piper_ros runs with gripper_val_mutiple:={parameters['gripper_val_mutiple']}, which multiplies the "
                "gripper's opening: start it with gripper_val_mutiple:=1"
            )

    def message(self, stamp: float, target: list[int]) -> JointMessage:
        """All seven names and positions; speed and effort in the seventh places."""
        joints = [steps * _RADIANS_PER_STEP_IN for steps in target[:6]]
        return JointMessage(
            stamp=stamp,
            names=JOINT_NAMES,
            positions=(*joints, target[6] * METRES_PER_STEP),
            velocities=(0.0,) * 6 + (float(self._speed_percent),),
            efforts=(0.0,) * 6 + (self._gripper_effort,),
        )

    def measured(self, message: JointMessage) -> NDArray[np.float64]:
        """Its angles in true radians, its opening in [m]."""
        measured = np.array(message.positions, dtype=np.float64)
        measured[:6] *= _ITS_RADIAN
        return measured
