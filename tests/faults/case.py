"""One fault, what it must lead to, and what it led to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.used_limits import NOTHING_USED, Shares, judge
from tests.faults.world import SETTINGS, World
from vla_runtime.arms import piper_frames as frames
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.errors import VlaError
from vla_runtime.safety.controller import ArmController
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState

PERIOD = SETTINGS.period
MOVING = 0.9  # [s] of following the policy before the fault; it is then at its fastest
AFTERWARDS = 0.8  # [s] for which what it led to must last
TO_RECOVER = 1.2  # [s]
ROUNDING = 1e-9

HOLDING, STOPPING, TRACKING, DISABLED = "HOLDING", "STOPPING", "TRACKING", "DISABLED"
GONE = "no process"
REFUSED = "not configured"

BY_ITSELF, RESUME, ENABLE, RESTART, NOTHING = "by itself", "resume", "enable, resume", "restart", "nothing to mend"


def arm_state(world: World) -> tuple[str, str]:
    """What the arm node publishes."""
    return world.state, world.reason


@dataclass(frozen=True)
class Fault:
    """A fault of the running stack.

    inject: makes it happen to an arm that follows the policy. mend: undoes it; None where only ``goes_on`` does.
    state, reason: what it leads to; the reason as a regular expression.
    within: the longest it may take, in [s]; None where the arm must go on as before. because: what makes that time.
    goes_on: what it takes, once mended, until the arm follows the policy again.
    passing: the fault mends itself; what it led to need not last.
    breaks: which of its promises is known to be broken, in words; None for a fault that is handled.
    observe: where state and reason are seen.
    """

    group: str
    name: str
    inject: Callable[[World], None]
    state: str
    reason: str
    within: float | None
    because: str
    goes_on: str
    mend: Callable[[World], None] | None = None
    observe: Callable[[World], tuple[str, str]] = arm_state
    passing: bool = False
    breaks: str | None = None


def variant(like: Fault, name: str, inject: Callable[[World], None], **different: Any) -> Fault:
    """A fault as ``like``, but for what is given."""
    return replace(like, name=name, inject=inject, **different)


def harmless(group: str, name: str, inject: Callable[[World], None]) -> Fault:
    """A fault that must make no difference to the arm."""
    return Fault(group, name, inject, TRACKING, "^following chunks$", None, "", NOTHING)


@dataclass(frozen=True)
class Refusal:
    """A fault that must be refused before the arm node controls anything.

    attempt: tries; it must raise a `VlaError` that matches ``reason``.
    """

    group: str
    name: str
    attempt: Callable[[Bundle], None]
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What a fault led to.

    after: how long it took, in [s]. goes_on: what it took to go on.
    sent, heard: how much of the limits the commands used as the bus took them, and the frames as the arm heard them.
    frames: how many command frames the arm heard. forbidden: what of them no arm may be sent.
    """

    state: str
    reason: str
    after: float
    goes_on: str
    sent: Shares = NOTHING_USED
    heard: Shares = NOTHING_USED
    frames: int = 0
    forbidden: tuple[str, ...] = ()


def outcome(case: Fault | Refusal, bundle: Bundle) -> Outcome:
    """What it leads to."""
    return suffer(case, bundle) if isinstance(case, Fault) else refuse(case, bundle)


def broken(case: Fault | Refusal, found: Outcome) -> list[str]:
    """Which promises were not kept, in words; empty where all were."""
    if isinstance(case, Refusal):
        return [] if re.search(case.reason, found.reason) else [f"refused because {found.reason}"]
    promises = {
        f"{found.state}, {found.reason}": found.state == case.state and re.search(case.reason, found.reason),
        f"after {found.after:.3f} s": case.within is None or found.after <= case.within + ROUNDING,
        f"goes on {found.goes_on}": found.goes_on == case.goes_on,
        f"commands used {found.sent}": found.sent.kept(ROUNDING),
        f"frames used {found.heard}": found.heard.kept(float(frames.UNITS.max())),
        f"frames {', '.join(found.forbidden)}": not found.forbidden,
    }
    return [what for what, kept in promises.items() if not kept]


def suffer(fault: Fault, bundle: Bundle) -> Outcome:
    """Let the fault happen in a world of its own; raises ``AssertionError`` where what it led to does not last."""
    world = World(bundle)
    try:
        world.track()
        world.run(MOVING)
        fault.inject(world)
        began = world.now
        observed = _await(world, fault)
        after = world.now - began
        if fault.within is not None and not fault.passing:
            world.run(AFTERWARDS)
            lasting = fault.observe(world)
            assert re.search(fault.reason, lasting[1]), f"then: {lasting}"
            assert lasting[0] in (observed[0], HOLDING), f"then: {lasting}"
        return Outcome(*observed, after, _go_on(world, fault), *_judged(world))
    finally:
        world.close()


def refuse(refusal: Refusal, bundle: Bundle) -> Outcome:
    """Attempt what must be refused; raises ``AssertionError`` where it is not."""
    try:
        refusal.attempt(bundle)
    except VlaError as error:
        return Outcome(REFUSED, str(error), 0.0, NOTHING)
    raise AssertionError(f"{refusal.name}: it was not refused")


def _await(world: World, fault: Fault) -> tuple[str, str]:
    def here() -> bool:
        state, reason = fault.observe(world)
        return state == fault.state and re.search(fault.reason, reason) is not None

    if fault.within is not None:
        world.run(fault.within + 10 * PERIOD, here)
    else:
        world.run(1.5, lambda: world.state != TRACKING)
    return fault.observe(world)


def _go_on(world: World, fault: Fault) -> str:
    if fault.mend is not None:
        fault.mend(world)
    elif fault.goes_on == NOTHING:
        return NOTHING
    if not world.controlling:
        world.start_control()
        assert (world.state, world.reason) == (DISABLED, "not enabled yet")
        world.enable()
        world.ask(ArmController.request_resume)
        return RESTART if _tracks(world) else "never"
    if _tracks(world):
        return BY_ITSELF
    if world.ask(ArmController.request_resume) is None and _tracks(world):
        return RESUME
    if world.state == ArmState.DISABLED.name:
        world.enable()
        world.ask(ArmController.request_resume)
        if _tracks(world):
            return ENABLE
    return "never"


def _tracks(world: World) -> bool:
    return world.run(TO_RECOVER, lambda: world.state == TRACKING)


def _judged(world: World) -> tuple[Shares, Shares, int, tuple[str, ...]]:
    sent = NOTHING_USED
    for commands in world.sent:
        sent = sent.worst(judge([time for time, _ in commands], [position for _, position in commands], PIPER_LIMITS))
    heard = {time: targets for time, targets in world.audit.heard.items() if np.isfinite(targets).all()}
    counted = world.audit.frames
    forbidden = {
        "emergency stop or reset": counted[frames.EMERGENCY_STOP],
        "motor power more often than enabled": counted[frames.MOTOR_POWER] - 6 * world.enabled,
        "beyond the firmware's limits": world.audit.outside_limits,
        "malformed": world.audit.malformed,
    }
    return (
        sent,
        judge(list(heard), list(heard.values()), PIPER_LIMITS, frames.UNITS),
        sum(counted.values()),
        tuple(f"{what}: {count}" for what, count in forbidden.items() if count),
    )
