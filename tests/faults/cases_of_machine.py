"""What can go wrong with clocks, processes and parameters."""

from __future__ import annotations

from tests.faults import injections as do
from tests.faults import refusals
from tests.faults.case import (
    BY_ITSELF,
    GONE,
    HOLDING,
    NOTHING,
    PERIOD,
    RESTART,
    RESUME,
    Fault,
    Refusal,
    harmless,
    variant,
)
from tests.faults.world import SETTINGS

_CLOCK = Fault("Clock of the machine", "", do.nothing, HOLDING, "", PERIOD, "the next period", RESUME, do.nothing)
_JUMP = r"^the clock moved by {} s while 0\.010 s passed$"
_LOOP = variant(_CLOCK, "", do.nothing, group="Control loop")
_POLICY = variant(
    _CLOCK,
    "",
    do.nothing,
    group="Processes",
    reason=r"^policy is 0\.2\d\d s old, limit 0\.200 s$",
    within=SETTINGS.watchdogs["policy"] + PERIOD,
    because="watchdog of the policy, 0.2 s",
    goes_on=NOTHING,
    mend=None,
)
_ARM_NODE = Fault(
    "Processes",
    "",
    do.nothing,
    GONE,
    "^the arm rests at its last target$",
    0.05,
    "the arm's own way to its last target",
    RESTART,
    None,
    do.on_the_bus,
)


def _wrong(name: str, reason: str, **parameters: object) -> Refusal:
    return Refusal("Parameters", name, refusals.configured(**parameters), reason)


CASES: tuple[Fault | Refusal, ...] = (
    variant(_CLOCK, "3 s ahead", do.clock_moved(3.0), reason=_JUMP.format(r"3\.0\d\d")),
    variant(_CLOCK, "3 s back", do.clock_moved(-3.0), reason=_JUMP.format(r"-2\.99\d")),
    variant(_CLOCK, "0.2 s back", do.clock_moved(-0.2), reason=_JUMP.format(r"-0\.19\d")),
    variant(_CLOCK, "0.3 s ahead", do.clock_moved(0.3), reason=_JUMP.format(r"0\.3\d\d")),
    harmless("Control loop", "0.05 s late", do.stalled(0.05)),
    variant(
        _LOOP,
        "0.25 s late",
        do.stalled(0.25),
        reason=r"^the control loop is 0\.2\d\d s late, limit 0\.100 s$",
        within=0.25 + PERIOD,
        because="when it runs again",
        goes_on=BY_ITSELF,
        passing=True,
    ),
    variant(
        _LOOP,
        "1 s late",
        do.stalled(1.0),
        reason=r"^the control loop stood still for 1\.0\d\d s, limit 0\.500 s$",
        within=1.0 + PERIOD,
        because="when it runs again",
    ),
    variant(_POLICY, "policy node killed", do.killed_policy_while_waiting),
    variant(_POLICY, "policy node killed while it infers", do.killed_policy_while_inferring),
    variant(_POLICY, "policy node killed after it published", do.killed_policy_after_publishing),
    variant(_ARM_NODE, "arm node killed while it follows chunks", do.killed_control_while(do.nothing)),
    variant(_ARM_NODE, "arm node killed while it holds", do.killed_control_while(do.hold)),
    variant(_ARM_NODE, "arm node killed while it parks", do.killed_control_while(do.park)),
    variant(_ARM_NODE, "arm node killed while it enables the arm", do.killed_control_while(do.enabling)),
    _wrong("a timeout out of range", "feedback_timeout", feedback_timeout=10.0),
    _wrong("a limit that is not a number", "limits.velocity", limits__velocity=[float("nan")] + [1.0] * 6),
    _wrong("six limits instead of seven", "limits.upper", limits__upper=[1.0] * 6),
    _wrong("a wider limit without the user's word", "allow_wider", limits__velocity=[2.0] + [1.0] * 5 + [0.1]),
    _wrong(
        "a limit beyond the hardware's",
        "no PiPER can",
        limits__lower=[-3.0, 0.0, -2.9, -1.7, -1.2, -1.7, 0.0],
        limits__allow_wider=True,
    ),
    _wrong("a lower limit above the upper", "lower .* is above upper", limits__lower=[2.617, 3.2] + [0.0] * 5),
    _wrong("a workspace of no room", "workspace x", workspace__lower=[1.0, 0.0, 0.0]),
    _wrong("a park position outside the limits", "park_positions", park_positions=[0.0, -1.0] + [0.0] * 5),
    _wrong("a watchdog without a time", "watchdogs", watchdogs=["policy"]),
    _wrong("a mistyped name", "has no parameter", feedback_timout=0.1),
)
