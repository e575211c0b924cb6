"""Which arm the user means, by the name of its driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from vla_runtime.arms.agx_arm_driver import AgxArmDriver
from vla_runtime.arms.arm import Arm
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.piper_ros_driver import PiperRosDriver
from vla_runtime.errors import BadInput
from vla_runtime_ros.driver_topics import RosDriverLink
from vla_runtime_ros.params import Parameter

SDK = "sdk"
_ROS_DRIVERS: dict[str, type[PiperRosDriver] | type[AgxArmDriver]] = {
    driver.DRIVER: driver for driver in (PiperRosDriver, AgxArmDriver)
}
DRIVERS = (SDK, *_ROS_DRIVERS)

PARAMETERS = (
    Parameter(
        "arm",
        SDK,
        "Driver of the arm: sdk (piper_sdk on the CAN bus), or its manufacturer's in ROS, piper_ros or agx_arm_ros.",
    ),
    Parameter("can", "can0", "CAN bus of the arm, with arm:=sdk: a SocketCAN interface, virtual:NAME or udp:NAME."),
    Parameter("connect_timeout", 5.0, "How long the arm may take to answer [s].", (0.1, 60.0)),
    Parameter(
        "speed_percent",
        100,
        "Share of its full speed that the arm's own controller allows [%]; agx_arm_ros has a parameter of its own.",
        (1, 100),
    ),
    Parameter("gripper_effort", 1.0, "Effort of the gripper [N·m]; the ROS drivers take 0.5 to 3.", (0.1, 5.0)),
    Parameter(
        "send_every",
        1,
        "One in so many control periods is sent to the arm, its resting place always; more where the arm shakes.",
        (1, 20),
    ),
)


def open_arm(node: Node, value: Callable[[str], Any]) -> Arm:
    """The arm that the node's parameters name, not connected yet.

    ``value`` gives the value of each of `PARAMETERS` and of ``joint_states_topic``. Raises `BadInput` for one that does
    not fit the driver.
    """
    name = value("arm")
    common = {key: value(key) for key in ("speed_percent", "gripper_effort", "send_every", "connect_timeout")}
    if name == SDK:
        return Piper(value("can"), **common)
    if name not in _ROS_DRIVERS:
        raise BadInput(f"parameter arm is {name!r}; it can be {', '.join(DRIVERS)}")
    driver = _ROS_DRIVERS[name]
    return driver(RosDriverLink(node, driver.TOPICS, value("joint_states_topic")), **common)
