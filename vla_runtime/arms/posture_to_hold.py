"""Where an arm is held when its motors are powered: where it stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.errors import WorkFailed

SILENT_AFTER = 0.5  # [s]; the slowest feedback of any driver comes every 0.025 s
_RESTING_BEYOND = 0.05  # [rad]; a joint resting on its stop may measure a little outside its limits


def posture_to_hold(arm: str, measured: ArmFeedback | None, now: float) -> NDArray[np.float64]:
    """The target that holds the measured posture, inside the firmware's limits. Shape (7,), in [rad] and [m].

    arm: its name in the message. Raises `WorkFailed` when the measured position is not fresh, or when a joint stands so
    far beyond its limits that holding it within them would be a leap.
    """
    if measured is None or now - measured.stamp > SILENT_AFTER:
        raise WorkFailed(f"{arm} gives no fresh feedback: it is not enabled")
    hold = np.clip(measured.positions, *firmware_limits().T)
    beyond = np.abs(hold - measured.positions)[:6]
    if np.max(beyond) > _RESTING_BEYOND:
        joint = int(np.argmax(beyond))
        raise WorkFailed(
            f"joint {joint + 1} of {arm} stands {np.degrees(beyond[joint]):.1f}° beyond its limits: it is not enabled; "
            "bring it back by hand, or check its zero"
        )
    return hold
