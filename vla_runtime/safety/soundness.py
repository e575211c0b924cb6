"""Whether what the arm says of itself can be relied on."""

from __future__ import annotations

import numpy as np

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.safety.watchdog import Watchdog

_FULL_TURN = 2 * np.pi
"""No joint of the arm can be this far from its zero, in [rad]; a reading that says so is false, as NaN is."""


class Soundness:
    """Judges the arm's feedback: by the age of its frames, and by what it says.

    timeout: the oldest it may be, in [s]. max_future: how far ahead of the clock its stamp may lie, in [s].
    """

    def __init__(self, timeout: float, max_future: float) -> None:
        self._watchdog = Watchdog("arm feedback", timeout, max_future)

    def unsound(self, feedback: ArmFeedback | None, now: float) -> str | None:
        """Why the measured position cannot be relied on; None when it can."""
        if feedback is None:
            return "no arm feedback yet"
        late = self._watchdog.complaint(feedback.stamp, now)
        if late is not None:
            return late
        positions = feedback.positions
        if positions.shape != (7,) or not np.all(np.abs(positions) <= _FULL_TURN):
            return "arm feedback is no possible posture"
        if feedback.velocities.shape != (7,) or not np.isfinite(feedback.velocities).all():
            return "arm feedback is no possible motion"
        return None

    def unfit(self, feedback: ArmFeedback | None, now: float) -> str | None:
        """Why the arm must not be set in motion; None when it may."""
        unsound = self.unsound(feedback, now)
        if unsound is not None or feedback is None:
            return unsound
        if feedback.faults:
            return in_words(feedback.faults)
        return None if feedback.enabled else "the arm reports its motors off"


def in_words(faults: tuple[str, ...]) -> str:
    """What the arm reports against itself, as a reason."""
    return "the arm reports " + ", ".join(faults)
