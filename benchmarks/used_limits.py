"""How much of its limits a sequence of targets used, by the definition of velocity, acceleration and jerk alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.differences import differences, rounding
from vla_runtime.safety.limits import ArmLimits

FLOATING = 1e-15  # what a position of a few radians is rounded by
_NOISE = 1e-6  # a share of a limit: what the limiter allows itself for rounding


@dataclass(frozen=True)
class Shares:
    """The most of each limit that was used: 1 is the limit itself. What rounding alone can feign is left out.

    beyond: how far outside the position limits, in [rad] or [m]; 0 where never.
    """

    beyond: float = 0.0
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0

    def kept(self, step: float) -> bool:
        """No limit was broken by positions that are rounded by ``step``."""
        return self.beyond <= step and max(self.velocity, self.acceleration, self.jerk) <= 1 + _NOISE

    def worst(self, other: Shares) -> Shares:
        """The larger of each."""
        return Shares(*(max(pair) for pair in zip(astuple(self), astuple(other), strict=True)))


NOTHING_USED = Shares()


def judge(
    times: Sequence[float],
    positions: Sequence[NDArray[np.float64]],
    limits: ArmLimits,
    steps: NDArray[np.float64] | float = FLOATING,
) -> Shares:
    """How much of the limits a sequence of targets used.

    times: when each was sent, in [s]; of several at one time the last counts. positions: joints in [rad], the gripper
    in [m]. Shape (n, 7). steps: what each position is rounded by. Shape (7,).
    """
    last = dict(zip(times, positions, strict=True))
    t, p = np.array(list(last)), np.array(list(last.values())).reshape(-1, 7)
    rounded = np.broadcast_to(steps, 7).tolist()
    used = []
    for order, bound in enumerate((limits.velocity, limits.acceleration, limits.jerk), start=1):
        if len(t) <= order:
            used.append(0.0)
            continue
        feigned = np.stack([rounding(t, step, order) for step in rounded], axis=1)
        used.append(float(((np.abs(differences(t, p, order)) - feigned) / bound).max(initial=0.0)))
    return Shares(float(np.maximum(limits.lower - p, p - limits.upper).max(initial=0.0)), *used)
