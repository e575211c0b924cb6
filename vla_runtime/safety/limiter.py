"""The last arithmetic before the bus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.interventions import NON_FINITE, POSITION_LIMIT, VELOCITY_LIMIT
from vla_runtime.safety.limits import ArmLimits


class Limiter:
    """Turns what is desired into what may be sent next.

    max_dt: the longest period a single step may use, in [s]; after a late tick the arm catches up slowly rather than
    in one jump.
    """

    def __init__(self, limits: ArmLimits, max_dt: float = 0.02) -> None:
        self._limits = limits
        self._max_dt = max_dt

    def step(
        self, desired: NDArray[np.float64], previous: NDArray[np.float64], dt: float
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """The next command and the kinds of intervention it took (`vla_runtime.safety.interventions`).

            reach   = velocity * min(max(dt, 0), max_dt)
            command = clip(clip(desired, lower, upper), previous - reach, previous + reach)

        With ``previous`` inside the position limits the command is inside. With it outside, as when the arm was pushed
        there by hand, the command moves towards the limits at limited speed and never further out. A desired position
        that is not finite moves nothing: the command is ``previous``. A ``dt`` that is not finite counts as 0.

        desired, previous: joints in [rad], gripper in [m]. Shape (7,). dt: time since ``previous`` was sent, in [s].
        Raises ValueError where ``previous`` is not finite: there is then no position to hold.
        """
        if not np.isfinite(previous).all():
            raise ValueError(f"the previous command must be finite, got {previous}")
        if not np.isfinite(desired).all():
            return previous.copy(), (NON_FINITE,)
        reach = self._limits.velocity * (min(max(dt, 0.0), self._max_dt) if np.isfinite(dt) else 0.0)
        allowed = np.clip(desired, self._limits.lower, self._limits.upper)
        # Clipping to a window, not adding a clipped difference: a target within reach is met exactly, without the
        # rounding that could carry the sum past a limit.
        command: NDArray[np.float64] = np.clip(allowed, previous - reach, previous + reach)
        interventions = []
        if np.any(allowed != desired):
            interventions.append(POSITION_LIMIT)
        if np.any(command != allowed):
            interventions.append(VELOCITY_LIMIT)
        return command, tuple(interventions)
