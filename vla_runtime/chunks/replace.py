"""The newest chunk and nothing else, after a short way to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.hermite import hermite, hermite_rate
from vla_runtime.chunks.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Replace:
    """The newest chunk plus what the motion before was off it, which a cubic brings to rest at 0 within ``window`` [s].

    taken: when the newest chunk took over, in [s]; from ``taken + window`` on it is followed exactly.
    off: position and velocity before less those of the newest chunk, at ``taken``. Shape (2, 7). With differences
        Δx and Δv the motion is never farther from the chunk than |Δx| + 4/27 · window · |Δv|.
    """

    schedule: Schedule
    window: float
    taken: float = -np.inf
    off: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 7)))

    @property
    def ends(self) -> float:
        return self.schedule.ends

    def position(self, now: float) -> NDArray[np.float64]:
        position = self.schedule.position(now)
        fraction = (now - self.taken) / self.window
        if fraction < 1.0:
            position += np.array(hermite(max(fraction, 0.0), self.window)[:2]) @ self.off
        return position

    def velocity(self, now: float) -> NDArray[np.float64]:
        velocity = self.schedule.velocity(now)
        fraction = (now - self.taken) / self.window
        if fraction < 1.0:
            velocity += np.array(hermite_rate(max(fraction, 0.0), self.window)[:2]) @ self.off
        return velocity

    def then(self, schedule: Schedule, now: float) -> Replace:
        off = (self.position(now) - schedule.position(now), self.velocity(now) - schedule.velocity(now))
        return Replace(schedule, self.window, now, np.stack(off))
