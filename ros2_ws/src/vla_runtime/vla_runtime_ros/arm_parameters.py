"""The arm node's parameters, and the settings and limits they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vla_runtime.chunks.takeover import TAKEOVERS
from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS, ArmLimits, piper_limits
from vla_runtime.safety.settings import ControlSettings
from vla_runtime.safety.workspace import PIPER_WORKSPACE, Workspace
from vla_runtime_ros import arm_choice, heartbeat, params
from vla_runtime_ros.params import Parameter

HOLD, PARK = "hold", "park"

_DEFAULT = ControlSettings()
_SAME_NAME = (
    "chunk_timeout",
    "feedback_timeout",
    "enable_timeout",
    "enable_interval",
    "max_future",
    "max_gap",
    "overrun_timeout",
    "divergence",
    "arrival_tolerance",
    "park_speed",
    "chunk_takeover",
    "takeover_window",
    "ensemble_decay",
    "interpolation",
)
_LIMITS = ("lower", "upper", "velocity", "acceleration", "jerk")
_TIMEOUTS = (0.02, 60.0)  # [s], of a watchdog

TABLE = (
    *arm_choice.PARAMETERS,
    Parameter("dry_run", True, "Listen only: nothing that moves or powers the arm is sent. Motion needs false."),
    Parameter("on_exit", HOLD, "What the arm does when the node ends: hold where it is, or park."),
    Parameter("exit_timeout", 30.0, "How long parking may take when the node ends [s].", (1.0, 300.0)),
    Parameter("control_rate", 100.0, "Commands made per second [Hz].", (10.0, 500.0)),
    Parameter("realtime_priority", 50, "SCHED_FIFO priority asked for the control thread; 0 asks for none.", (0, 90)),
    Parameter("lock_memory", True, "Keep the node's memory from being swapped out, where that is allowed."),
    Parameter("joint_states_rate", 100.0, "Joint states published per second [Hz].", (1.0, 200.0)),
    Parameter(
        "command_decimation",
        1,
        "One in so many commands is published on ~/command. May change at any time.",
        (1, 1000),
        read_only=False,
    ),
    Parameter("chunk_topic", "policy_node/action_chunk", "Topic of the action chunks."),
    Parameter("heartbeat_topic", "policy_node/heartbeat", "Topic of the policy's heartbeat."),
    Parameter("joint_states_topic", "joint_states", "Topic of the measured joints."),
    Parameter(
        "publisher_timeout", 1.0, "Silence after which another policy's chunks are taken instead [s].", (0.1, 60.0)
    ),
    Parameter(
        "watchdogs",
        [f"{heartbeat.POLICY}=1.0"],
        "NAME=SECONDS of what must keep coming or the arm holds: policy, and cameras by the names it knows them by.",
    ),
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
    Parameter(
        "enable_interval", _DEFAULT.enable_interval, "Least time between two requests for power [s].", (0.1, 60.0)
    ),
    Parameter("max_future", _DEFAULT.max_future, "How far ahead of the clock a stamp may lie [s].", (0.001, 1.0)),
    Parameter("max_gap", _DEFAULT.max_gap, "Longest control period that is not a jump of the clock [s].", (0.05, 5.0)),
    Parameter(
        "overrun_timeout",
        _DEFAULT.overrun_timeout,
        "How late a control period may come [s]; then it holds.",
        (0.01, 1.0),
    ),
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
    Parameter("chunk_takeover", _DEFAULT.chunk_takeover, f"How a newer chunk takes over: {', '.join(TAKEOVERS)}."),
    Parameter("takeover_window", _DEFAULT.takeover_window, "How long a takeover takes [s].", (0.001, 2.0)),
    Parameter(
        "ensemble_decay", _DEFAULT.ensemble_decay, "How much less each newer chunk counts in an ensemble.", (0.0, 10.0)
    ),
    Parameter("interpolation", _DEFAULT.interpolation, "Between two actions of a chunk: cubic or linear."),
    Parameter("limits.lower", PIPER_LIMITS.lower.tolist(), "Lower limits: six joints [rad], gripper [m].", (-7.0, 7.0)),
    Parameter("limits.upper", PIPER_LIMITS.upper.tolist(), "Upper limits: six joints [rad], gripper [m].", (-7.0, 7.0)),
    Parameter(
        "limits.velocity", PIPER_LIMITS.velocity.tolist(), "Velocity limits: joints [rad/s], gripper [m/s].", (0.0, 3.0)
    ),
    Parameter(
        "limits.acceleration",
        PIPER_LIMITS.acceleration.tolist(),
        "Acceleration limits: joints [rad/s²], gripper [m/s²].",
        (0.0, 5.0),
    ),
    Parameter("limits.jerk", PIPER_LIMITS.jerk.tolist(), "Jerk limits: joints [rad/s³], gripper [m/s³].", (0.0, 500.0)),
    Parameter("limits.allow_wider", False, "Allow limits wider than the default, up to the hardware's."),
    Parameter(
        "workspace.lower",
        PIPER_WORKSPACE.lower.tolist(),
        "Where the tool may be, in the arm's base frame: x, y, z at least [m].",
        (-2.0, 2.0),
    ),
    Parameter("workspace.upper", PIPER_WORKSPACE.upper.tolist(), "The same, at most [m].", (-2.0, 2.0)),
    Parameter(
        "workspace.table_height",
        PIPER_WORKSPACE.table_height,
        "Height of the table in the arm's base frame [m]; no part of the arm goes below.",
        (-1.0, 1.0),
    ),
    Parameter("workspace.margin", PIPER_WORKSPACE.margin, "Room kept to the table and between links [m].", (0.0, 0.1)),
    Parameter(
        "workspace.tool",
        PIPER_WORKSPACE.tool.tolist(),
        "The tool point in the flange's frame: x, y, z [m].",
        (-0.5, 0.5),
    ),
)


def settings(value: Callable[[str], Any]) -> ControlSettings:
    """The control settings that the parameters make; raises `BadInput` naming the one that does not fit."""
    return ControlSettings(
        period=1.0 / value("control_rate"),
        park_positions=value("park_positions"),
        watchdogs=watchdogs(value("watchdogs")),
        **{name: value(name) for name in _SAME_NAME},
    )


def watchdogs(entries: Sequence[str]) -> dict[str, float]:
    """What must keep coming, and the oldest it may be in [s]; raises `BadInput` for an entry that says neither."""
    found = {}
    low, high = _TIMEOUTS
    for name, text in params.pairs("watchdogs", entries).items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise BadInput(f"watchdogs: the timeout of {name} is {text!r}, expected seconds such as 0.5") from error
        if not low <= found[name] <= high:
            raise BadInput(f"watchdogs: the timeout of {name} is {text} s, expected {low:g} to {high:g} s")
    return found


def limits(value: Callable[[str], Any]) -> ArmLimits:
    """The limits that the parameters make; raises `BadInput` naming the joint that does not fit."""
    given = {name: value(f"limits.{name}") for name in _LIMITS}
    return piper_limits(**given, allow_wider=value("limits.allow_wider"))


def workspace(value: Callable[[str], Any]) -> Workspace:
    """Where the tool and the arm may be; raises `BadInput` naming what does not fit."""
    names = ("lower", "upper", "table_height", "margin", "tool")
    return Workspace(**{name: value(f"workspace.{name}") for name in names})


def parks_on_exit(value: Callable[[str], Any]) -> bool:
    """Whether the arm parks when the node ends; raises `BadInput` where ``on_exit`` is neither hold nor park."""
    if value("on_exit") not in (HOLD, PARK):
        raise BadInput(f"parameter on_exit is {value('on_exit')!r}; it can be {HOLD} or {PARK}")
    return bool(value("on_exit") == PARK)
