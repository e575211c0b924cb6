"""The names under which the safety layer counts what it did."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POSITION_LIMIT = "position_limit"
VELOCITY_LIMIT = "velocity_limit"
ACCELERATION_LIMIT = "acceleration_limit"
JERK_LIMIT = "jerk_limit"
WORKSPACE = "workspace"
SELF_COLLISION = "self_collision"
NON_FINITE = "non_finite"
CHUNK_REFUSED = "chunk_refused"
STALE_CHUNK = "stale_chunk"
NO_ACTION_DUE = "no_action_due"
FEEDBACK_LOST = "feedback_lost"
ARM_FAULT = "arm_fault"
POWER_LOST = "power_lost"
DIVERGENCE = "divergence"
CLOCK_JUMP = "clock_jump"
ENABLE_FAILED = "enable_failed"
WATCHDOG = "watchdog"
LOOP_OVERRUN = "loop_overrun"
SEND_FAILED = "send_failed"

KINDS: Mapping[str, str] = MappingProxyType(
    {
        POSITION_LIMIT: "periods in which a command was moved to a position limit",
        VELOCITY_LIMIT: "periods in which a command was held back by the velocity limit",
        ACCELERATION_LIMIT: "periods in which a command was held back by the acceleration limit or the way to a stop",
        JERK_LIMIT: "periods in which a command was held back by the jerk limit",
        WORKSPACE: "stops because the arm would have left its workspace or come too near the table",
        SELF_COLLISION: "stops because the arm would have come too near itself",
        NON_FINITE: "stops because a chunk or a target was not finite",
        CHUNK_REFUSED: "chunks refused when they were offered",
        STALE_CHUNK: "holds because the newest chunk was too old",
        NO_ACTION_DUE: "holds because no chunk had an action due",
        FEEDBACK_LOST: "stops because the arm's feedback was missing, late or no possible posture",
        ARM_FAULT: "stops because the arm reported a fault",
        POWER_LOST: "times the arm's motors went off unasked",
        DIVERGENCE: "stops because the arm was not where it was commanded",
        CLOCK_JUMP: "stops because the clock went backwards or jumped ahead, or the control loop stood still",
        ENABLE_FAILED: "enable requests that did not end in power",
        WATCHDOG: "holds because something that must keep coming stayed away",
        LOOP_OVERRUN: "holds because a control period came too late",
        SEND_FAILED: "stops because a command could not be sent",
    }
)
