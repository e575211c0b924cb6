"""The arm node's parameters, and the settings and limits they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS, ArmLimits, piper_limits
from vla_runtime.safety.settings import ControlSettings
from vla_runtime_ros.params import Parameter

DRIVERS = ("sdk", "piper_ros", "agx_arm_ros")

_DEFAULT = ControlSettings()
_TIMES = ("chunk_timeout", "feedback_timeout", "enable_timeout", "max_future", "max_gap")
_TOLERANCES = ("divergence", "arrival_tolerance", "park_speed")

TABLE = (
    Parameter("arm", "sdk", f"Driver of the arm: {', '.join(DRIVERS)}; only sdk (piper_sdk on the CAN bus) so far."),
    Parameter("can", "can0", "CAN bus of the arm: a SocketCAN interface, virtual:NAME or udp:NAME."),
    Parameter("connect_timeout", 5.0, "How long the arm may take to answer on its bus [s].", (0.1, 60.0)),
    Parameter("speed_percent", 100, "Share of its full speed that the arm's own controller allows [%].", (1, 100)),
    Parameter("gripper_effort", 1.0, "Effort of the gripper [N·m].", (0.1, 5.0)),
    Parameter("control_rate", 100.0, "Commands sent per second [Hz].", (10.0, 500.0)),
    Parameter("realtime_priority", 50, "SCHED_FIFO priority asked for the control thread; 0 asks for none.", (0, 90)),
    Parameter("joint_states_rate", 100.0, "Joint states published per second [Hz].", (1.0, 200.0)),
    Parameter("command_decimation", 1, "One in so many sent commands is published on ~/command.", (1, 1000)),
    Parameter("chunk_topic", "policy_node/action_chunk", "Topic of the action chunks."),
    Parameter("joint_states_topic", "joint_states", "Topic of the measured joints."),
    Parameter(
        "chunk_timeout",
        _DEFAULT.chunk_timeout,
        "Age of the newest answered observation beyond which it holds [s].",
        (0.05, 10.0),
    ),
    Parameter(
        "feedback_timeout",
        _DEFAULT.feedback_timeout,
        "Age of the arm's feedback beyond which nothing is sent [s].",
        (0.02, 1.0),
    ),
    Parameter("enable_timeout", _DEFAULT.enable_timeout, "How long motor power may take to come [s].", (0.5, 30.0)),
    Parameter("max_future", _DEFAULT.max_future, "How far ahead of the clock a stamp may lie [s].", (0.001, 1.0)),
    Parameter("max_gap", _DEFAULT.max_gap, "Longest control period that is not a jump of the clock [s].", (0.05, 5.0)),
    Parameter("divergence", _DEFAULT.divergence, "How far a joint may be from its command [rad].", (0.05, 1.0)),
    Parameter(
        "arrival_tolerance", _DEFAULT.arrival_tolerance, "How near a joint must be to have arrived [rad].", (0.001, 0.2)
    ),
    Parameter(
        "park_positions",
        _DEFAULT.park_positions.tolist(),
        "Where the arm may lose power without falling: six joints [rad], gripper [m].",
        (-7.0, 7.0),
    ),
    Parameter("park_speed", _DEFAULT.park_speed, "Speed of parking, a fraction of the velocity limits.", (0.01, 1.0)),
    Parameter("limits.lower", PIPER_LIMITS.lower.tolist(), "Lower limits: six joints [rad], gripper [m].", (-7.0, 7.0)),
    Parameter("limits.upper", PIPER_LIMITS.upper.tolist(), "Upper limits: six joints [rad], gripper [m].", (-7.0, 7.0)),
    Parameter(
        "limits.velocity", PIPER_LIMITS.velocity.tolist(), "Velocity limits: joints [rad/s], gripper [m/s].", (0.0, 3.0)
    ),
    Parameter("limits.allow_wider", False, "Allow limits wider than the default, up to the hardware's."),
)


def settings(value: Callable[[str], Any]) -> ControlSettings:
    """The control settings that the parameters make; raises `BadInput` naming the one that does not fit."""
    return ControlSettings(
        period=1.0 / value("control_rate"),
        park_positions=value("park_positions"),
        **{name: value(name) for name in (*_TIMES, *_TOLERANCES)},
    )


def limits(value: Callable[[str], Any]) -> ArmLimits:
    """The limits that the parameters make; raises `BadInput` naming the joint that does not fit."""
    return piper_limits(
        value("limits.lower"), value("limits.upper"), value("limits.velocity"), allow_wider=value("limits.allow_wider")
    )


def check_driver(driver: str) -> None:
    """Raises `BadInput` for a driver there is not."""
    if driver not in DRIVERS:
        raise BadInput(f"parameter arm is {driver!r}; it can be {', '.join(DRIVERS)}")
    if driver != "sdk":
        raise BadInput(f"arm:={driver} is not available yet: use arm:=sdk, which drives the arm over its CAN bus")
