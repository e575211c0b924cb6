"""What the arm node says about its health."""

from __future__ import annotations

from collections.abc import Mapping

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime_ros.control_loop import ControlLoop
from vla_runtime_ros.diagnostics import Health, Level, durations

_REMEMBERED = 8


def arm_health(
    loop: ControlLoop,
    feedback: ArmFeedback | None,
    refused_chunk: str | None,
    now: float,
    figures: Mapping[str, float | int | str],
) -> Health:
    """State and reason, what led there, ages, latencies and interventions at ``now`` [s].

    refused_chunk: why the newest chunk was not taken, None where it was. figures: whatever else is to be said.
    """
    faults = () if feedback is None else feedback.faults
    values: dict[str, float | int | str] = {
        **figures,
        "chunk_refused_because": refused_chunk or "",
        "feedback_age_s": "none yet" if feedback is None else now - feedback.stamp,
        "firmware": "unknown" if feedback is None or feedback.firmware is None else feedback.firmware,
        "faults": ", ".join(faults),
        "commands_sent": loop.commands,
        **durations(loop.spans),
        **{f"interventions/{kind}": n for kind, n in loop.interventions.items()},
        **{
            f"history/{place}": f"{now - change.time:.3f} s ago: {change.end.name}: {change.reason}"
            for place, change in enumerate(reversed(loop.history[-_REMEMBERED:]))
        },
    }
    tick = loop.latest
    if tick is None or not loop.ticking.is_set():
        return Health(Level.ERROR if faults else Level.OK, "connected, not active", values)
    values |= {"state": tick.state.name, "reason": tick.reason, "needs_resume": str(tick.needs_resume).lower()}
    worried = tick.needs_resume or refused_chunk is not None
    level = Level.ERROR if faults or feedback is None else Level.WARN if worried else Level.OK
    return Health(level, f"{tick.state.name}: {tick.reason}", values)
