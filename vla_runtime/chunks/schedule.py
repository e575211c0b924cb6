"""Looking an action chunk up by absolute time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.chunk import ActionChunk


@dataclass(frozen=True, eq=False)
class Schedule:
    """The actions of one chunk on the shared clock.

    An action is a promise about one instant. What lies before the asked time is skipped, however late the chunk came,
    and nothing is invented outside the promise: before the first action and after the last there is no target.
    """

    chunk: ActionChunk

    @property
    def begins(self) -> float:
        """When the first action is due, in [s]."""
        return self.chunk.stamp + float(self.chunk.times[0])

    @property
    def ends(self) -> float:
        """When the last action is due, in [s]."""
        return self.chunk.stamp + float(self.chunk.times[-1])

    def target(self, now: float) -> NDArray[np.float64] | None:
        """What is due at ``now`` [s]: linear between neighbouring actions, None outside [begins, ends].

        Six joints in [rad], gripper in [m]. Shape (7,).
        """
        if not self.begins <= now <= self.ends:
            return None
        due: NDArray[np.float64] = self.chunk.stamp + self.chunk.times
        positions = self.chunk.positions
        after = int(np.searchsorted(due, now))
        if after == 0:
            first: NDArray[np.float64] = positions[0].copy()
            return first
        fraction = (now - due[after - 1]) / (due[after] - due[after - 1])
        # A convex sum and not start + fraction * difference: the difference of two huge targets overflows.
        blended: NDArray[np.float64] = (1.0 - fraction) * positions[after - 1] + fraction * positions[after]
        return blended
